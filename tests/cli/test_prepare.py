"""`llmkit prepare` shows the receipt, or gives it to programs."""

import json
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
