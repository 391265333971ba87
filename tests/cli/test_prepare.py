"""`llmkit prepare` prints the receipt, as text or as JSON."""

import json
import os
from pathlib import Path

import pytest
from cli.test_app import run


def test_receipt_counts_what_the_manifest_has(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "t.txt").write_text("It was the best of times.\n" * 300)
    words = ("prepare", str(tmp_path / "t.txt"), "--out", str(tmp_path / "d"), "-s", "prepare.tokenizer.vocab_size=270")
    code, out, _ = run(monkeypatch, capsys, *words)
    manifest = json.loads((tmp_path / "d/manifest.json").read_text())
    assert code == 0
    assert f"{manifest['splits']['train']['tokens']:,}" in out
    code, out, _ = run(monkeypatch, capsys, *words, "--json")
    assert json.loads(out)["splits"] == manifest["splits"]


@pytest.mark.parametrize("as_json", [False, True])
def test_a_dry_run_shows_names_that_are_no_utf8_as_text(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, as_json: bool
) -> None:
    (tmp_path / "in").mkdir()
    name = os.fsdecode(os.fsencode(tmp_path / "in") + b"/caf\xe9.txt")
    Path(name).write_text("A text.\n")
    words = (
        "prepare",
        str(tmp_path / "in"),
        "--out",
        str(tmp_path / "d"),
        "--dry-run",
        *(["--json"] if as_json else []),
    )
    code, out, _ = run(monkeypatch, capsys, *words)
    assert code == 0
    shown = json.loads(out)["inputs"][0] if as_json else out
    assert "caf\\xe9.txt" in shown
