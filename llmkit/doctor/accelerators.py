"""The accelerators: are they there, does torch see them, was it built for them, and do they compute as they should?

What the driver says (nvidia-smi) and what torch says are two answers; most trouble is where they differ.
"""

import re
import subprocess
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmkit.core.files import show_size
from llmkit.core.hardware import find_device
from llmkit.doctor.finding import Finding, fault, ok, warn
from llmkit.doctor.speed import (
    GPU_ADVICE,
    Limit,
    judge_speed,
    measure_copy,
    measure_product,
    measure_transfer,
)

QUERY = "name,driver_version,pcie.link.gen.max,pcie.link.width.current"
LANE_BYTES = {1: 0.25e9, 2: 0.5e9, 3: 0.985e9, 4: 1.97e9, 5: 3.94e9, 6: 7.56e9}
"""Bytes a second of one PCI Express lane, one way, by generation, after its encoding."""

FREE_SHARE = 0.85
"""A GPU of which less is free has another program on it; the driver itself takes a few hundred MB."""

EVEN_SHARE = 0.85
"""In one job all GPUs wait for the slowest in every step."""


@dataclass(frozen=True, slots=True)
class Card:
    """What the driver says of an NVIDIA GPU; `link` is bytes a second from the host, at most."""

    name: str
    driver: str
    link: float | None


@dataclass(frozen=True, slots=True)
class Driver:
    """What nvidia-smi says: the cards, and the newest CUDA that the driver can serve."""

    cards: list[Card]
    cuda: str | None


def ask_driver(run: Callable[[list[str]], str] | None = None) -> Driver:
    """No cards where there is no nvidia-smi, or where it cannot reach a driver."""
    run = run or _run
    rows = [
        line.split(", ") for line in run(["nvidia-smi", f"--query-gpu={QUERY}", "--format=csv,noheader"]).splitlines()
    ]
    cards = [Card(row[0], row[1], _link(row[2], row[3])) for row in rows if len(row) == 4]
    cuda = re.search(r"CUDA Version\s*:\s*([\d.]+)", run(["nvidia-smi"])) if cards else None
    return Driver(cards, cuda and cuda.group(1))


def _link(generation: str, lanes: str) -> float | None:
    """None where the driver does not know, as in many virtual machines."""
    if not generation.isdigit() or not lanes.isdigit() or int(generation) not in LANE_BYTES:
        return None
    return LANE_BYTES[int(generation)] * int(lanes)


def _run(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""


def check_accelerators(torch: Any, driver: Driver, root: Path = Path("/")) -> Iterator[Finding]:
    """Every GPU that torch can use; else why it can use none."""
    with warnings.catch_warnings(record=True) as said:  # torch says there why it cannot use what it sees
        warnings.simplefilter("always")
        usable = torch.cuda.is_available()
    if usable:
        for index in range(torch.cuda.device_count()):
            yield from _check_gpu(torch, index)
        yield from _check_group(torch)
        return
    names = ", ".join(sorted({card.name for card in driver.cards}))
    if driver.cards and not torch.version.cuda:
        advice = "install a torch with CUDA, by the command that pytorch.org/get-started gives"
        yield warn("accelerator", f"{names} is here, but this torch was built without CUDA", advice, usable=0)
    elif driver.cards:
        yield _explain_driver(torch, driver, names, str(said[0].message).splitlines()[0] if said else "")
    elif (root / "dev/kfd").exists() and not torch.version.hip:
        advice = "install a torch with ROCm, by the command that pytorch.org/get-started gives"
        yield warn("accelerator", "an AMD GPU is here, but this torch was built without ROCm", advice, usable=0)
    elif torch.backends.mps.is_available():
        yield ok("accelerator", "Apple's GPU; llmkit computes on the CPU beside it", usable=0)
    else:
        yield ok("accelerator", "none; the CPU computes", usable=0)


def _explain_driver(torch: Any, driver: Driver, names: str, said: str) -> Finding:
    """A torch with CUDA, cards that the driver sees, and yet none is usable."""
    version = driver.cards[0].driver
    if driver.cuda and _major(driver.cuda) < _major(torch.version.cuda):
        value = f"{names}: driver {version} serves CUDA {driver.cuda}, torch wants {torch.version.cuda}"
        major = _major(driver.cuda)
        advice = f"update the driver, or install a torch for CUDA {major} (pytorch.org/get-started)"
        return fault("accelerator", value, advice, usable=0)
    value = f"{names} is here, but torch cannot use it{': ' if said else ''}{said}"
    advice = "look at CUDA_VISIBLE_DEVICES, in a container at `--gpus all`, and at nvidia-smi; then restart the driver"
    return fault("accelerator", value, advice, usable=0)


def _major(version: str) -> int:
    return int(version.split(".")[0])


def _check_gpu(torch: Any, index: int) -> Iterator[Finding]:
    """Memory, kernels and precisions of one GPU."""
    name = f"gpu {index}"
    properties = torch.cuda.get_device_properties(index)
    free, total = torch.cuda.mem_get_info(index)
    has_bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
    has_tf32 = torch.version.hip is None and properties.major >= 8
    tf32 = ("used" if torch.get_float32_matmul_precision() != "highest" else "off") if has_tf32 else "none"
    memory = f"{show_size(free)} of {show_size(total)} free"
    value = f"{properties.name}, {memory}, {'bf16' if has_bf16 else 'no bf16'}, TF32 {tf32}"
    figures = {"device": properties.name, "free_bytes": free, "total_bytes": total, "bf16": has_bf16, "tf32": tf32}
    architectures = torch.cuda.get_arch_list()
    if torch.version.hip is None and not has_kernels(properties.major, properties.minor, architectures):
        value = f"{value}; this torch has no kernels for it ({', '.join(architectures)})"
        advice = (
            f"install a torch that was built for sm_{properties.major}{properties.minor} (an older one, or CUDA 12)"
        )
        yield fault(name, value, advice, **figures)
    elif free < FREE_SHARE * total:
        advice = f"nvidia-smi shows who has the rest; end it, or choose others: CUDA_VISIBLE_DEVICES without {index}"
        yield warn(name, value, advice, **figures)
    else:
        yield ok(name, value, **figures)


def has_kernels(major: int, minor: int, architectures: list[str]) -> bool:
    """Machine code runs on its own major version from its minor version up, PTX (compute_) on all later ones (CUDA
    programming guide, "Application compatibility"); nothing is known where the list is empty."""
    for architecture in architectures:
        target, _, number = architecture.rstrip("af").partition("_")
        built = (int(number[:-1]), int(number[-1]))
        if target == "compute" and built <= (major, minor):
            return True
        if target == "sm" and built[0] == major and built[1] <= minor:
            return True
    return not architectures


def _check_group(torch: Any) -> Iterator[Finding]:
    if torch.cuda.device_count() > 1 and not torch.distributed.is_nccl_available():
        yield warn(
            "nccl", "missing: several GPUs cannot train together", "install a torch with CUDA and NCCL, on Linux"
        )


SLOT_ADVICE = "nvidia-smi topo -m; is the process on the CPU that the card hangs on, and the card in a slot of its own?"


def check_gpu_speed(torch: Any, driver: Driver) -> Iterator[Finding]:
    """Products, a copy in memory and one from the host, on each GPU, beside the data sheet."""
    products = {}
    for index in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        device = torch.device("cuda", index)
        known = find_device(torch.cuda.get_device_name(index))
        precision = "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
        try:
            products[index] = measure_product(torch, device, precision)
            copied = measure_copy(torch, device)
            moved = measure_transfer(torch, device)
        except Exception as error:  # the first kernel that runs is where a wrong installation shows
            what = (str(error).splitlines() or [type(error).__name__])[0]
            yield fault(
                f"gpu {index} product", what, "nvidia-smi; free its memory, or install the torch for its driver"
            )
            continue
        sheet = f"the data sheet of {known.title}" if known else ""
        flops = Limit(known.flops[precision], sheet) if known and precision in known.flops else None
        bandwidth = Limit(known.bandwidth, sheet) if known and known.bandwidth else None
        link = driver.cards[index].link if index < len(driver.cards) else None
        slot = Limit(link, "its PCI Express lanes") if link else None
        yield judge_speed(f"gpu {index} {precision} product", products[index], "FLOP/s", flops, GPU_ADVICE)
        yield judge_speed(f"gpu {index} copy", copied, "B/s", bandwidth, GPU_ADVICE)
        yield judge_speed(f"gpu {index} from host", moved, "B/s", slot, SLOT_ADVICE)
    if len(products) > 1:
        yield judge_evenness(products)


def judge_evenness(products: dict[int, float]) -> Finding:
    """All GPUs of a job wait for the slowest."""
    slowest, fastest = min(products, key=products.__getitem__), max(products, key=products.__getitem__)
    share = products[slowest] / products[fastest]
    value = f"gpu {slowest} computes at {share:.0%} of gpu {fastest}'s rate"
    if share >= EVEN_SHARE:
        return ok("gpus alike", value, share=share)
    advice = f"leave gpu {slowest} out with CUDA_VISIBLE_DEVICES, or see why it is slow: {GPU_ADVICE}"
    return warn("gpus alike", value, advice, share=share)
