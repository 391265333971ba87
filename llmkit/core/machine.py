"""What a result was made on: machine, versions, command. The names of host and user are not asked for."""

import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import llmkit
from llmkit.core.console import redact
from llmkit.core.threads import allowed_cores, read_limits, thread_count

PACKAGES = ("torch", "transformers", "accelerate", "datasets", "tokenizers", "numpy", "pyarrow")


def describe_machine() -> dict[str, Any]:
    """CPU, cores, torch's threads and what decided their number, memory, accelerator, platform."""
    import torch  # `prepare` asks for versions only, and does without

    from llmkit.core.devices import describe_gpu

    return {
        "cpu": _cpu_name(),
        "cores": len(allowed_cores()),
        "threads": torch.get_num_threads(),
        "threads_source": thread_count().source,
        "memory_gb": _memory_gb(),
        "accelerator": describe_gpu(),
        "platform": f"{platform.system()} {platform.machine()}",
    }


def describe_versions() -> dict[str, str]:
    """llmkit, Python and the libraries that a result can depend on."""
    versions = {"llmkit": llmkit.__version__, "python": platform.python_version()}
    for name in PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions


def describe_command() -> list[str]:
    """The command line as it was typed, without the path of the program and without passwords."""
    return [Path(sys.argv[0]).name, *map(redact, sys.argv[1:])]


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def _memory_gb() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (ValueError, OSError, AttributeError):
        return None


def read_memory() -> int | None:
    """Bytes of the machine, or what the control groups of this process allow of them; None if no one says."""
    return min((size for size in (total_memory(), read_limits()[1]) if size is not None), default=None)


def total_memory() -> int | None:
    """Bytes that the system says it has."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return None
