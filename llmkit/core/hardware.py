"""Peak FLOP/s, memory and link speeds of GPUs and CPUs by name, from hardware.yaml.

Knows nothing of models, nor of this machine, which devices.py and machine.py describe.
"""

import re
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, Literal

import yaml

from llmkit.core.errors import UsageError, did_you_mean

SLOWER_KINDS = {"laptop", "max", "mig", "d"}
"""Words in a device's name that mark a slower variant: laptop, Max-Q, a MIG slice, the reduced 4090 D. The table
has no entries for these variants."""


@dataclass(frozen=True, slots=True)
class Device:
    """One GPU, or one CPU with all its cores."""

    name: str
    """The name as users write it."""
    title: str
    kind: Literal["gpu", "cpu"]
    flops: dict[str, float]
    """Dense FLOP/s by precision; precisions that the device lacks are omitted."""
    n_bytes: int | None
    """Bytes of memory; None for a CPU."""
    link: float | None = None
    """Bytes per second and direction to the other devices of the machine."""
    network: float | None = None
    """Bytes per second and direction to other machines, per device."""
    cores: int | None = None

    @property
    def is_cpu(self) -> bool:
        return self.kind == "cpu"

    @property
    def precision(self) -> str:
        """Return the choice of `train.precision: auto`: bf16 if the device has it, else fp32."""
        return "bf16" if "bf16" in self.flops else "fp32"


@dataclass(frozen=True, slots=True)
class Mfu:
    """Model FLOPs utilization, and the source of the figure."""

    share: float
    source: str


def find_device(name: str) -> Device | None:
    """Return the entry for a user's name (`h100`, `RTX 4090`) or a driver's ("NVIDIA H100 80GB HBM3"); None if
    unknown.
    """
    devices, matches = _read_table()
    plain = re.sub(r"[^a-z0-9]", "", name.lower())
    for key, device in devices.items():
        if plain == re.sub(r"[^a-z0-9]", "", key):
            return device
    words = set(re.findall(r"[a-z0-9]+", name.lower()))
    if words & SLOWER_KINDS:
        return None
    return next((devices[key] for key, wanted in matches.items() if wanted <= words), None)


def get_device(name: str) -> Device:
    """Like `find_device`, but an unknown name is an error.

    Raises:
        UsageError: there is no such entry; the error suggests similar ones.
    """
    device = find_device(name)
    if device is None:
        alike = [known for known in list_names() if known.startswith(f"{name.lower()}-")]
        hint = f"known: {', '.join(alike)}" if alike else did_you_mean(name, list_names())
        raise UsageError(f"there is no GPU {name!r} in the table", where="--gpu", hint=hint)
    return device


def list_names() -> list[str]:
    """Return the names that `get_device` accepts, in the order of the table."""
    return list(_read_table()[0])


def default_mfu(kind: str) -> Mfu:
    """Return the MFU that is assumed for a kind of device, `gpu` or `cpu`, if none was measured."""
    return Mfu(**_read_file()["mfu"][kind])


def framework_bytes(kind: str) -> int:
    """Return the memory that libraries and driver use before a model is loaded."""
    return int(_read_file()["framework_gb"][kind] * 1e9)


@cache
def _read_file() -> dict[str, Any]:
    values: dict[str, Any] = yaml.safe_load(files("llmkit.core").joinpath("hardware.yaml").read_text(encoding="utf-8"))
    return values


@cache
def _read_table() -> tuple[dict[str, Device], dict[str, set[str]]]:
    """Return devices and the words of their driver names, by key."""
    entries: dict[str, dict[str, Any]] = _read_file()["devices"]
    devices = {key: _to_device(key, entry) for key, entry in entries.items()}
    return devices, {key: {word.lower() for word in entry["match"]} for key, entry in entries.items()}


def _to_device(key: str, entry: dict[str, Any]) -> Device:
    if "cores" in entry:
        flops = {name: entry["cores"] * entry["ghz"] * 1e9 * each for name, each in entry["flops_per_cycle"].items()}
        return Device(key, entry["title"], "cpu", flops, None, cores=entry["cores"])
    return Device(
        key, entry["title"], "gpu", {name: each * 1e12 for name, each in entry["tflops"].items()},
        int(entry["gb"] * 1e9), entry["link_gb_s"] * 1e9, entry["network_gb_s"] * 1e9,
    )  # fmt: skip
