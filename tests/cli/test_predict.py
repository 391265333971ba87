"""`llmkit predict` checks its output file before it opens a model."""

from pathlib import Path

import pytest
from cli.test_app import run


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("x.foo", "the output format of 'x.foo' is unknown"),
        ("there.csv", "exists"),
        ("there.CSV.xlsx", "--out there.CSV.csv --excel"),
        (".", "'.' is a folder"),
        ("model", "'model' is a folder"),
    ],
)
def test_result_that_cannot_be_written_is_refused_first(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, name: str, words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("there.csv").touch()
    Path("rows.csv").touch()
    Path("model").mkdir()
    Path("model/config.json").touch()  # reading the model would fail
    code, out, err = run(monkeypatch, capsys, "predict", "model", "--data", "rows.csv", "--out", name)
    assert (code, out) == (2, "")
    assert words in err


def test_rows_written_to_a_file_are_counted_on_stderr(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("rows.csv").touch()
    monkeypatch.setattr("llmkit.evaluating.predict.predict", lambda *_, **__: {"n_rows": 1234})
    monkeypatch.chdir(tmp_path)
    Path("rows.csv").touch()
    code, out, err = run(monkeypatch, capsys, "predict", "m", "--data", "rows.csv", "--out", "new.csv")
    assert (code, out, err) == (0, "", "1,234 rows written to new.csv\n")
