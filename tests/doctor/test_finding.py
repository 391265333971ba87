"""Findings are plain data, and each warning or fault has advice."""

import json
from dataclasses import asdict

import pytest

from llmkit.doctor.finding import fault, ok, warn


def test_a_finding_is_json_with_its_figures() -> None:
    found = warn("memory", "1 GB free", "end other programs", free_bytes=10**9)
    assert json.loads(json.dumps(asdict(found))) == {
        "name": "memory",
        "value": "1 GB free",
        "status": "warn",
        "advice": "end other programs",
        "figures": {"free_bytes": 10**9},
    }


def test_warnings_and_faults_require_advice() -> None:
    for found in (warn, fault):
        with pytest.raises(TypeError, match="advice"):
            found("memory", "1 GB free")  # type: ignore[call-arg]
    assert ok("memory", "8 GB free").advice == ""
