"""What is written down of the machine that a result was made on."""

import getpass
import json
import os
import platform
import socket
from importlib.metadata import version

import pytest
import torch

import llmkit
from llmkit.core import machine
from llmkit.core.machine import describe_machine, describe_versions, read_memory, total_memory


def test_description_is_json_and_names_neither_host_nor_user() -> None:
    found = describe_machine()
    text = json.dumps(found)
    assert socket.gethostname() not in text
    assert getpass.getuser() not in text.split('"')
    assert found["threads"] == torch.get_num_threads()
    assert found["cores"] == len(os.sched_getaffinity(0))
    assert found["accelerator"] is None or found["accelerator"]["name"]


def test_memory_is_what_the_control_group_allows_of_the_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = total_memory()
    assert whole == os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for limit, memory in ((None, whole), (10**9, 10**9), (10**18, whole)):
        monkeypatch.setattr(machine, "read_limits", lambda limit=limit: (None, limit))
        assert read_memory() == memory
    monkeypatch.setattr(machine, "total_memory", lambda: None)
    assert read_memory() == 10**18
    monkeypatch.setattr(machine, "read_limits", lambda: (None, None))
    assert read_memory() is None


def test_versions_are_those_that_are_installed_and_what_is_missing_is_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(machine, "PACKAGES", ("torch", "no-such-package"))
    found = describe_versions()
    assert found == {
        "llmkit": llmkit.__version__, "python": platform.python_version(), "torch": version("torch")
    }  # fmt: skip
