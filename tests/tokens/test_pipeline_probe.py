"""The pipeline of a tokenizer is run on difficult texts in a process with limits."""

import json
import subprocess
import sys
from typing import Any

from llmkit.tokens import pipeline_probe

NONE: dict[str, Any] = {"normalizer": None, "pre_tokenizer": None, "decoder": None}


def probe(steps: dict[str, Any], texts: list[str]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-I", pipeline_probe.__file__]
    request = json.dumps({"steps": NONE | steps, "texts": texts})
    return subprocess.run(command, input=request, capture_output=True, text=True, timeout=60, check=False)


def test_ordinary_steps_have_no_fault() -> None:
    steps = {"normalizer": {"type": "NFKD"}, "pre_tokenizer": {"type": "Whitespace"}, "decoder": {"type": "Fuse"}}
    assert json.loads(probe(steps, ["ﷺ" * 1000]).stdout) == ""


def test_growth_is_reported_in_characters() -> None:
    replace = {"type": "Replace", "pattern": {"String": "needle"}, "content": "needle" * 200}
    fault = json.loads(probe({"normalizer": replace}, ["needle" * 100]).stdout)
    assert fault == "its normalizer turns 600 characters into 120,000"


def test_probe_that_takes_too_long_is_ended() -> None:
    split = {"type": "Split", "pattern": {"Regex": r"\p{L}"}, "behavior": "Isolated", "invert": False}
    assert probe({"pre_tokenizer": split}, ["a " * 50_000] * 300).returncode < 0


def test_memory_is_bounded() -> None:
    twice = {"type": "Replace", "pattern": {"String": "a"}, "content": "aa"}
    done = probe({"normalizer": {"type": "Sequence", "normalizers": [twice] * 60}}, ["a"])
    assert done.returncode < 0 or json.loads(done.stdout)
