"""`llmkit compare` wants two runs."""

from pathlib import Path

import pytest
from cli.test_app import run


def test_a_run_that_is_given_twice_is_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    code, _, err = run(monkeypatch, capsys, "compare", str(tmp_path), f"{tmp_path}/.", "--out", str(tmp_path / "c"))
    assert code == 2
    assert "is shown once" in err
    assert "one run alone compares with nothing" in err
    assert not (tmp_path / "c").exists()
