"""GPUs and CPUs by name, from hardware.yaml: what they multiply, hold and move in a second.

Knows nothing of models. What this machine has is asked by those who have torch; a name that is not in the table is no
error here, as anything can be measured.
"""

import re
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, Literal

import yaml

from llmkit.core.errors import UsageError, did_you_mean

SLOWER_KINDS = {"laptop", "max", "mig", "d"}
"""Words that make another device of a name: a laptop's, Max-Q, a part of a GPU, the cut-down 4090 D."""


@dataclass(frozen=True, slots=True)
class Device:
    """One GPU, or one CPU with all its cores."""

    name: str
    """How a user calls it."""
    title: str
    kind: Literal["gpu", "cpu"]
    flops: dict[str, float]
    """Dense FLOP/s by precision; a precision that is missing is one that the device lacks."""
    n_bytes: int | None
    """Memory; None for a CPU, which has what it was given."""
    bandwidth: float | None
    """Bytes a second from and to its memory."""
    link: float | None = None
    """Bytes a second and way to the other devices of the machine."""
    network: float | None = None
    """Bytes a second and way to other machines, for each device."""
    cores: int | None = None

    @property
    def is_cpu(self) -> bool:
        return self.kind == "cpu"

    @property
    def precision(self) -> str:
        """What `train.precision: auto` comes to: bf16 where there is any, and no fp16."""
        return "bf16" if "bf16" in self.flops else "fp32"


@dataclass(frozen=True, slots=True)
class Mfu:
    """Model FLOPs over peak FLOPs, and where the figure is from."""

    share: float
    source: str


def find_device(name: str) -> Device | None:
    """The entry that a user's word (`h100`, `RTX 4090`) or a driver's name ("NVIDIA H100 80GB HBM3") means."""
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
    """As `find_device`.

    Raises:
        UsageError: no entry is meant; names the nearest.
    """
    device = find_device(name)
    if device is None:
        alike = [known for known in list_names() if known.startswith(f"{name.lower()}-")]
        hint = f"known: {', '.join(alike)}" if alike else did_you_mean(name, list_names())
        raise UsageError(f"there is no GPU {name!r} in the table", where="--gpu", hint=hint)
    return device


def list_names() -> list[str]:
    """What `get_device` takes, in the order of the table."""
    return list(_read_table()[0])


def default_mfu(kind: str) -> Mfu:
    """What is reckoned with for a kind of device where nothing was measured."""
    return Mfu(**_read_file()["mfu"][kind])


def framework_bytes(kind: str) -> int:
    """Memory that libraries and driver take before there is any model."""
    return int(_read_file()["framework_gb"][kind] * 1e9)


@cache
def _read_file() -> dict[str, Any]:
    values: dict[str, Any] = yaml.safe_load(files("llmkit.core").joinpath("hardware.yaml").read_text(encoding="utf-8"))
    return values


@cache
def _read_table() -> tuple[dict[str, Device], dict[str, set[str]]]:
    """Devices, and the words of their names, by their keys."""
    entries: dict[str, dict[str, Any]] = _read_file()["devices"]
    devices = {key: _to_device(key, entry) for key, entry in entries.items()}
    return devices, {key: {word.lower() for word in entry["match"]} for key, entry in entries.items()}


def _to_device(key: str, entry: dict[str, Any]) -> Device:
    if "cores" in entry:
        flops = {name: entry["cores"] * entry["ghz"] * 1e9 * each for name, each in entry["flops_per_cycle"].items()}
        return Device(key, entry["title"], "cpu", flops, None, entry["gb_s"] * 1e9, cores=entry["cores"])
    return Device(
        key, entry["title"], "gpu", {name: each * 1e12 for name, each in entry["tflops"].items()},
        int(entry["gb"] * 1e9), entry["gb_s"] * 1e9, entry["link_gb_s"] * 1e9, entry["network_gb_s"] * 1e9,
    )  # fmt: skip
