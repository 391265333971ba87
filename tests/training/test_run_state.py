"""State files of a run are checked before they are used, and damage is an error with a hint."""

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llmkit.core.errors import LlmkitError, ModelError
from llmkit.training.folder import RunFolder, load_origin, read_series
from llmkit.training.run_state import read_log, read_manifest, read_metrics

MANIFEST = {
    "task": "cls",
    "data_path": "../data",
    "origin": {"start": "../bert", "files": {"train": "../rows.csv"}, "fold": [0, 5]},
    "series": {"folds": 5, "seeds": 2},
    "plan": {"n_steps": 4, "resume_fingerprint": {"data": "ab"}},
    "lengths": {"2": {"n_steps": 4, "eval_steps": 1, "final_share": 0.5, "step_seconds": [0.1]}},
    "changes": [{"step": 2, "changed": ["train.seed: 1 -> 2"]}],
}
LINES = ('{"kind": "eval", "step": 1, "loss": 2.5}', '{"kind": "sample", "step": 1, "text": "a\u2028b"}')


@pytest.mark.parametrize(
    ("damage", "what"),
    [
        (lambda text: text[:-9], "the run's manifest is damaged: invalid json"),
        (lambda text: "[]", "manifest is damaged: input should be an object"),
        (lambda text: "[" * 100_000, "recursion limit exceeded"),
        (lambda text: text.replace('"../rows.csv"', "7"), "origin.files.train: input should be a valid string"),
        (lambda text: text.replace('"seeds": 2', '"seeds": "2"'), "series.seeds: input should be a valid integer"),
        (lambda text: text.replace('"2": {', '"two": {'), "lengths.two"),
        (lambda text: text.replace('"final_share": 0.5', '"final_share": NaN'), "final_share"),
        (lambda text: text.replace('"n_steps": 4, "eval', f'"n_steps": {10**400}, "eval'), "n_steps"),
        (lambda text: text.replace('"step": 2, ', ""), "changes.0.step: field required"),
    ],
)
def test_damaged_manifest_is_named_with_its_key(damage: Callable[[str], str], what: str, tmp_path: Path) -> None:
    path = tmp_path / "manifest.json"
    path.write_text(json.dumps(MANIFEST))
    assert read_manifest(path) == MANIFEST
    path.write_text(damage(json.dumps(MANIFEST)))
    with pytest.raises(ModelError, match=what) as caught:
        read_manifest(path)
    assert caught.value.problems[0].where == str(path)


def test_damaged_metrics_lead_to_a_new_evaluation(tmp_path: Path) -> None:
    path = tmp_path / "metrics.json"
    assert read_metrics(path) == {}
    for text in ('{"training": {', '{"training": 7}', "\udcff"):
        path.write_bytes(text.encode(errors="surrogateescape"))
        with pytest.raises(ModelError, match="metrics file is damaged") as caught:
            read_metrics(path)
        assert f"llmkit eval {tmp_path}" in caught.value.problems[0].hint


def test_only_the_last_line_of_a_log_may_be_incomplete(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text("\n".join([*LINES, '{"kind": "ev']))
    assert [line for line, _ in read_log(path)] == list(LINES)
    for damaged in ('{"kind": "ev', '{"kind": "eval"}', "7", '{"kind": "eval", "step": 1, "loss": "2"}'):
        path.write_text("\n".join([damaged, *LINES, ""]))
        with pytest.raises(ModelError, match="line 1 of the run's log is damaged"):
            list(read_log(path))


def mutate(text: bytes, random: random.Random) -> bytes:
    """Change bytes, cut, repeat or replace a value, one to three times."""
    for _ in range(random.randint(1, 3)):
        start = random.randrange(len(text) + 1)
        end = min(len(text), start + random.choice([0, 1, 1, 2, 5, 30]))
        new = random.choice([b"", b"null", b"-1", b"NaN", b"1e999", b"[]", b"{}", b'""', b"9" * 30, b"\xff\x00", b"\n"])
        text = text[:start] + random.choice([new, text[start:end] * 2, random.randbytes(2)]) + text[end:]
    return text


def test_mutated_state_is_read_or_an_error_of_ours(tmp_path: Path) -> None:
    """What is read is complete enough for everything that acts on it."""
    generator, run = random.Random(1), RunFolder(tmp_path)
    files: dict[Path, bytes] = {
        run.manifest: json.dumps(MANIFEST).encode(),
        run.metrics: json.dumps({"training": {"steps": 1}, "validation": {"loss": 1.5}}).encode(),
        run.log: "".join(f"{line}\n" for line in LINES).encode(),
    }
    outcomes: dict[str, set[type]] = {}
    for path, content in files.items():
        for _ in range(2000):
            for each, whole in files.items():
                each.write_bytes(mutate(whole, generator) if each == path else whole)
            outcomes.setdefault(path.name, set()).add(_use(run))
        path.write_bytes(content)
    assert outcomes == {path.name: {bool, ModelError} for path in files}


def _use(run: RunFolder) -> type:
    def act() -> Any:
        run.check_files()
        load_origin(run, None, {})
        read_series(run.path)
        run.read_log("eval")
        run.truncate_log(1)
        run.add_metrics("test", {})
        return True

    try:
        return type(act())
    except LlmkitError as error:
        return type(error)
