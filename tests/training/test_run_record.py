"""A run folder can be read in any state, and unreadable files are reported."""

import json
from pathlib import Path

import pytest

from llmkit.core.errors import ModelError
from llmkit.training.run_record import get_number, get_section, read_run


def write_log(run: Path, *lines: object) -> None:
    text = "".join((line if isinstance(line, str) else json.dumps(line, ensure_ascii=False)) + "\n" for line in lines)
    (run / "log.jsonl").write_text(text)


def train(step: int, loss: float) -> dict[str, object]:
    return {"kind": "train", "step": step, "loss": loss}


def test_complete_run_has_nothing_missing(tmp_path: Path) -> None:
    write_log(tmp_path, train(1, 2.0), {"kind": "sample", "step": 1, "text": "a\u2028b"})
    for name in ("metrics", "manifest"):
        (tmp_path / f"{name}.json").write_text(json.dumps({"of": name}))
    (tmp_path / "recipe.yaml").write_text("task: clm\n")
    record = read_run(tmp_path)
    assert (record.name, record.missing, record.recipe) == (tmp_path.name, (), "task: clm\n")
    assert (record.metrics, record.manifest) == ({"of": "metrics"}, {"of": "manifest"})
    assert record.log["sample"][0]["text"] == "a\u2028b"


def test_last_record_of_a_step_is_kept_and_steps_are_in_order(tmp_path: Path) -> None:
    evaluations = [{"kind": "eval", "step": 2, "split": split, "loss": 1.0} for split in ("validation", "test")]
    samples = [{"kind": "sample", "step": 2, "prompt": prompt, "text": "a"} for prompt in "xyx"]
    write_log(tmp_path, train(2, 2.0), train(3, 3.0), train(1, 1.0), train(2, 9.0), *evaluations, *samples)
    log = read_run(tmp_path).log
    assert [(each["step"], each["loss"]) for each in log["train"]] == [(1, 1.0), (2, 9.0), (3, 3.0)]
    assert len(log["eval"]) == 2, "two splits of one step"
    assert [each["prompt"] for each in log["sample"]] == ["x", "y"]


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (
            [train(1, 1.0), '{"kind": "tr'],
            "line 2 of 2 cannot be read (the last one, cut off when the process was killed)",
        ),
        (['{"kind": "tr', train(1, 1.0)], "line 1 of 2 cannot be read and is left out"),
        ([train(1, 1.0), *["[]", "7", "{}", '{"kind": "a", "step": null}', "[" * 99_999, "\x00"]], "2, 3, 4, 5, 6, …"),
    ],
)
def test_unreadable_lines_are_skipped_and_reported(tmp_path: Path, lines: list[object], expected: str) -> None:
    write_log(tmp_path, *lines)
    record = read_run(tmp_path)
    assert [each["loss"] for each in record.log["train"]] == [1.0]
    assert any(expected in line for line in record.missing), record.missing


def test_each_missing_or_damaged_file_is_reported_with_its_consequence(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="is not a run folder"):
        read_run(tmp_path)
    (tmp_path / "log.jsonl").touch()
    (tmp_path / "metrics.json").write_text("[]")
    (tmp_path / "manifest.json").write_bytes(b"\xff{")
    record = read_run(tmp_path)
    assert (record.metrics, record.manifest, record.log, record.recipe) == ({}, {}, {}, "")
    assert len(record.missing) == 4
    for line, words in zip(
        record.missing, ("is empty", "not a JSON object", "cannot be read", "no recipe"), strict=True
    ):
        assert words in line


def test_get_number_takes_finite_numbers_and_no_booleans() -> None:
    record = {"a": 1, "b": 0.5, "c": True, "d": float("nan"), "e": "1", "f": None, "g": float("inf")}
    assert {key: get_number(record, key) for key in "abcdefgh"} == {
        "a": 1, "b": 0.5, **dict.fromkeys("cdefgh")
    }  # fmt: skip
    assert get_section({"a": {"b": 1}, "c": [1]}, "a") == {"b": 1}
    assert get_section({"c": [1]}, "c") == get_section({}, "c") == {}
