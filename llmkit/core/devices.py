"""The device that models run on here, and what differs between NVIDIA's GPUs, Apple's and the CPU.

Every choice of a device is made here. Apple GPUs (`mps`) are taken where torch has them, by a process alone:
torch has no exchange of gradients between them. Nobody has run llmkit on one yet; tests mock the list of devices.
"""

import torch

from llmkit.core import distributed


def pick_device() -> torch.device:
    """The first NVIDIA GPU, else Apple's, else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() and distributed.expected_ranks() == 1 else "cpu")


def synchronize(device: torch.device) -> None:
    """Wait until the device has done all it was given, so that a clock can be read."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def free_bytes(device: torch.device) -> int | None:
    """Memory of a GPU that models may take; Apple's is a share of the machine's. None on a CPU."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    if device.type == "mps":
        return max(0, torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory())
    return None


def release_memory(device: torch.device) -> None:
    """Release torch's cached memory to the device."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()


def used_bytes() -> int | None:
    """Peak GPU memory of this process in bytes; on Apple GPUs, where torch reports no peak, the current use. None
    without a GPU."""
    device = pick_device()
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated()
    return torch.mps.driver_allocated_memory() if device.type == "mps" else None


def describe_gpu() -> str | None:
    """Its name; None where there is none."""
    device = pick_device()
    if device.type == "cuda":
        return torch.cuda.get_device_name()
    return "Apple GPU (MPS)" if device.type == "mps" else None
