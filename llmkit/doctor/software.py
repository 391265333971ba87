"""Are Python, the libraries and the extras in the ranges that llmkit was tested with, and do they load?

The ranges are those of pyproject.toml in a clone, which can be newer than what was installed from it, else those of
the installed package.
"""

import importlib
import os
import platform
import tomllib
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

import llmkit
from llmkit.doctor.finding import Finding, fault, ok, warn

EXTRA_USES = {
    "bench": "plots of the benchmarks",
    "chinese": "Chinese words, and traditional to simplified",
    "dedup": "near copies of documents",
    "lora": "fine-tuning with low-rank additions",
    "mlflow": "the log in MLflow",
    "ray": "prepare on several machines",
    "swanlab": "the log in SwanLab",
    "tensorboard": "the log in TensorBoard",
    "trackio": "the log in Trackio",
    "wandb": "the log in Weights & Biases",
}
"""What each extra of pyproject.toml is for; `dev` is for developers of llmkit."""


def read_ranges(package: Path = Path(llmkit.__file__).parent) -> tuple[str, list[str], dict[str, list[str]]]:
    """Python's range, the requirements, and those of each extra, as pyproject.toml spells them."""
    project = package.parent / "pyproject.toml"
    if project.is_file():
        table = tomllib.loads(project.read_text(encoding="utf-8"))["project"]
        return table["requires-python"], table["dependencies"], table["optional-dependencies"]
    installed = distribution("llmkit")
    extras = {name: [] for name in installed.metadata.get_all("Provides-Extra") or []}  # type: dict[str, list[str]]
    needed = []
    for text in installed.requires or []:
        marker = Requirement(text).marker
        if marker is None or marker.evaluate({"extra": ""}):
            needed.append(text)
        for name in extras:
            if marker is not None and not marker.evaluate({"extra": ""}) and marker.evaluate({"extra": name}):
                extras[name].append(text)
    return installed.metadata["Requires-Python"] or "", needed, extras


def check_python(wanted: str, found: str | None = None) -> Finding:
    """Python itself, and how it was built."""
    found = found or platform.python_version()
    value = f"{found} on {platform.system()} {platform.machine()}"
    if found in SpecifierSet(wanted, prereleases=True):
        return ok("python", value, version=found)
    return fault("python", f"{value}, {wanted} is needed", f"make a new environment with Python {wanted}")


def check_libraries(requirements: Sequence[str], version_of: Callable[[str], str] = version) -> Iterator[Finding]:
    """Every library that is missing or out of its range, and then those that are as they should be."""
    good = {}
    for requirement in map(Requirement, requirements):
        wrong = _mistake(requirement, version_of)
        if wrong:
            advice = f"pip install '{requirement.name}{requirement.specifier}'"
            yield fault(f"library {requirement.name}", f"{wrong}, {requirement.specifier} is needed", advice)
        else:
            good[requirement.name] = version_of(requirement.name)
    listed = ", ".join(f"{name} {good[name]}" for name in sorted(good))
    yield ok("libraries", f"{len(good)} as they should be: {listed}", versions=good)


def check_extras(extras: dict[str, list[str]], version_of: Callable[[str], str] = version) -> Iterator[Finding]:
    """What is not installed is no mistake; what is there in a version that was never tested is one."""
    for extra, texts in extras.items():
        if extra == "dev":
            continue
        command = f"pip install 'llmkit[{extra}]'"
        use = EXTRA_USES.get(extra, f"what the extra {extra} adds")
        wrong = {r.name: _mistake(r, version_of) for r in map(Requirement, texts)}
        bad = [f"{name} {mistake}" for name, mistake in wrong.items() if mistake not in ("", MISSING)]
        if bad:
            yield warn(f"extra {extra}", ", ".join(bad), command)
        elif MISSING in wrong.values():
            yield ok(f"extra {extra}", f"not installed, needed for {use}: {command}", installed=False)
        else:
            yield ok(f"extra {extra}", f"installed, for {use}", installed=True)


MISSING = "is not installed"


def _mistake(requirement: Requirement, version_of: Callable[[str], str]) -> str:
    """What is wrong with the installed version, in words; nothing if nothing is."""
    try:
        found = version_of(requirement.name)
    except PackageNotFoundError:
        return MISSING
    return "" if requirement.specifier.contains(found, prereleases=True) else f"is {found}"


def check_imports(load: Callable[[str], Any] = importlib.import_module) -> Finding:
    """Libraries that are there may still refuse to load, or refuse one another."""
    try:
        load("llmkit.runs.train")
        load("llmkit.preparing.prepare")
    except Exception as error:  # anything can happen while a broken library loads
        what = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:200]}"
        advice = "make a fresh environment and install again; a library there does not fit the others"
        return fault("imports", f"the training code cannot be loaded: {what}", advice)
    return ok("imports", "the training code loads")


def check_torch(torch: Any, environment: dict[str, str] | os._Environ[str] = os.environ) -> Iterator[Finding]:
    """For which hardware torch was built, and which instructions of the CPU its products use."""
    if torch.version.cuda:
        build = f"CUDA {torch.version.cuda}"
    elif torch.version.hip:
        build = f"ROCm {torch.version.hip}"
    else:
        build = "Metal" if torch.backends.mps.is_built() else "CPU only"
    yield ok("torch", f"{torch.__version__}, built for {build}", build=build)
    kernels = torch.backends.cpu.get_cpu_capability()
    onednn = torch.backends.mkldnn.is_available()
    bf16 = bool(onednn and torch.ops.mkldnn._is_mkldnn_bf16_supported())
    figures = {"kernels": kernels, "onednn": onednn, "onednn_bf16": bf16}
    value = f"{kernels}, oneDNN {'with' if bf16 else 'without'} bf16" if onednn else f"{kernels}, no oneDNN"
    held = [name for name in ("ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA") if environment.get(name)]
    if held:
        said = ", ".join(f"{name}={environment[name]}" for name in held)
        yield warn("cpu kernels", f"{value}; held back by {said}", f"unset {' '.join(held)}", **figures)
    elif not onednn and torch.backends.cpu.get_cpu_capability() != "DEFAULT":
        yield warn("cpu kernels", value, "install a torch with oneDNN: pip install --force-reinstall torch", **figures)
    else:
        yield ok("cpu kernels", value, **figures)
