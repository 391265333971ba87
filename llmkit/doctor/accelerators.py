"""GPUs: whether torch sees them, was built for them and their driver, and computes on them.

nvidia-smi and torch are asked separately, because most faults show as a difference between them.
"""

import re
import subprocess
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmkit.core.console import first_line
from llmkit.core.files import show_size
from llmkit.doctor.finding import Finding, fault, ok, warn

MIN_FREE_SHARE = 0.85
"""Below this another program uses the GPU; the driver alone takes a few hundred MB."""


@dataclass(frozen=True, slots=True)
class Driver:
    """What nvidia-smi reports: names of the GPUs, the driver's version, the newest CUDA that it supports."""

    names: list[str]
    version: str = ""
    cuda: str | None = None


def _run(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""


def read_driver(run: Callable[[list[str]], str] = _run) -> Driver:
    """No names if there is no nvidia-smi or it cannot reach the driver."""
    output = run(["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"])
    rows = [line.split(", ") for line in output.splitlines() if ", " in line]
    if not rows:
        return Driver([])
    cuda = re.search(r"CUDA Version\s*:\s*([\d.]+)", run(["nvidia-smi"]))
    return Driver([row[0] for row in rows], rows[0][1], cuda and cuda[1])


def check_accelerators(torch: Any, driver: Driver, root: Path = Path("/")) -> Iterator[Finding]:
    """One finding per GPU that torch can use; otherwise the reason why it can use none."""
    with warnings.catch_warnings(record=True) as caught:  # torch warns here if a GPU cannot be used
        warnings.simplefilter("always")
        usable = torch.cuda.is_available()
    if usable:
        n_gpus = torch.cuda.device_count()
        yield from (_check_gpu(torch, index) for index in range(n_gpus))
        if n_gpus > 1 and not torch.distributed.is_nccl_available():
            value = "missing: training on several GPUs is not possible"
            yield warn("nccl", value, "install a torch with CUDA and NCCL, on Linux")
        return
    names = ", ".join(sorted(set(driver.names)))
    if driver.names and not torch.version.cuda:
        value = f"{names} found, but this torch was built without CUDA"
        yield warn("accelerator", value, "install a torch with CUDA: see pytorch.org/get-started")
    elif driver.names:
        yield _explain_driver(torch, driver, names, str(caught[0].message).splitlines()[0] if caught else "")
    elif (root / "dev/kfd").exists() and not torch.version.hip:
        value = "an AMD GPU found, but this torch was built without ROCm"
        yield warn("accelerator", value, "install a torch with ROCm: see pytorch.org/get-started")
    elif torch.backends.mps.is_available():
        yield ok("accelerator", "Apple GPU found; llmkit uses the CPU")
    else:
        yield ok("accelerator", "none; llmkit uses the CPU")


def _explain_driver(torch: Any, driver: Driver, names: str, warning: str) -> Finding:
    """Torch has CUDA and the driver sees GPUs, but torch cannot use them."""
    major = driver.cuda and driver.cuda.split(".")[0]
    if major and int(major) < int(torch.version.cuda.split(".")[0]):
        value = f"{names}: driver {driver.version} supports CUDA {driver.cuda}, torch needs {torch.version.cuda}"
        advice = f"update the driver, or install a torch for CUDA {major}: see pytorch.org/get-started"
        return fault("accelerator", value, advice)
    value = f"{names} found, but torch cannot use it{': ' if warning else ''}{warning}"
    return fault("accelerator", value, "check CUDA_VISIBLE_DEVICES, `--gpus all` of a container, and nvidia-smi")


def _check_gpu(torch: Any, index: int) -> Finding:
    """Kernels, free memory and precisions of one GPU, and whether it computes."""
    name = f"gpu {index}"
    properties = torch.cuda.get_device_properties(index)
    free, total = torch.cuda.mem_get_info(index)
    has_bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
    bf16 = "bf16" if has_bf16 else "no bf16 (train.precision auto chooses fp32)"
    value = f"{properties.name}, {show_size(free)} of {show_size(total)} free, {bf16}"
    figures = {"device": properties.name, "free_bytes": free, "total_bytes": total, "bf16": has_bf16}
    architectures = torch.cuda.get_arch_list()
    if torch.version.hip is None and not has_kernels(properties.major, properties.minor, architectures):
        value = f"{value}; this torch has no kernels for it ({', '.join(architectures)})"
        advice = f"install a torch built for sm_{properties.major}{properties.minor} (an older one, or CUDA 12)"
        return fault(name, value, advice, **figures)
    try:
        torch.ones(256, 256, device=f"cuda:{index}").matmul(torch.ones(256, 256, device=f"cuda:{index}")).sum().item()
    except Exception as error:  # a wrong installation fails at the first kernel, with any type of error
        advice = "see nvidia-smi; free its memory, or install the torch for its driver"
        return fault(name, f"{value}; cannot compute: {first_line(error)}", advice, **figures)
    if free < MIN_FREE_SHARE * total:
        advice = f"stop the programs that nvidia-smi lists, or set CUDA_VISIBLE_DEVICES without {index}"
        return warn(name, value, advice, **figures)
    return ok(name, value, **figures)


def has_kernels(major: int, minor: int, architectures: list[str]) -> bool:
    """Machine code (sm_) runs on its own major version from its minor version up, PTX (compute_) on all later ones.

    CUDA programming guide, "Application compatibility". An empty list tells nothing and passes.
    """
    for architecture in architectures:
        target, _, number = architecture.rstrip("af").partition("_")
        built = (int(number[:-1]), int(number[-1]))
        if built <= (major, minor) and (target == "compute" or (target == "sm" and built[0] == major)):
            return True
    return not architectures
