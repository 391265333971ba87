"""Every test runs offline and on the CPU, with one thread unless `--torch-threads` says otherwise."""

import os
import shutil
import sys
import tempfile
from pathlib import Path

os.environ |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""}
os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")  # as in a command; else a pipeline of transformers sets "false"
os.environ["TORCHINDUCTOR_COMPILE_THREADS"] = "1"  # more of them are processes that import torch
_IS_WORKER = "PYTEST_XDIST_WORKER" in os.environ
if not _IS_WORKER:  # a worker uses what was set here before it began
    # What an earlier run compiled under another ATEN_CPU_CAPABILITY is taken from the usual cache, and crashes.
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = tempfile.mkdtemp(prefix="llmkit-tests-")

from collections.abc import Iterator
from contextlib import nullcontext

import pytest
import several
import torch
from sum_order import SumOrder
from tiny import make_split

from llmkit.tokens.store import Split


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--torch-threads", type=int, default=1, help="CPU threads of torch in the tests' own process")
    parser.addoption("--reorder-sums", action="store_true", help="add up as another CPU might: see sum_order.py")


def pytest_configure(config: pytest.Config) -> None:
    torch.set_num_threads(config.getoption("--torch-threads"))
    several.REORDER_SUMS = config.getoption("--reorder-sums")


def pytest_unconfigure() -> None:
    if not _IS_WORKER:
        shutil.rmtree(os.environ["TORCHINDUCTOR_CACHE_DIR"], ignore_errors=True)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Around fixtures too."""
    with SumOrder() if item.config.getoption("--reorder-sums") else nullcontext():
        return (yield)


@pytest.fixture(autouse=True)
def _main_does_not_end_the_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    """A command that a signal stopped leaves its process without taking it apart; here that process is ours."""
    monkeypatch.setattr("llmkit.cli.app._leave", sys.exit)


@pytest.fixture
def tiny_split(tmp_path: Path) -> Split:
    """Seven documents of 29 tokens, ids below 50, each ended by id 0."""
    return make_split(tmp_path / "train", n_documents=7, length=29)
