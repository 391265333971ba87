"""`llmkit generate` shows what the model wrote."""

import json
from pathlib import Path

import pytest
from cli.test_app import run
from tiny import save_bert, save_gpt2


def test_candidates_of_a_mask_stand_one_a_line_with_their_probability(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    model = save_bert(tmp_path / "bert")
    code, out, _ = run(monkeypatch, capsys, "generate", model, "--prompt", "win [MASK] now", "-s", "generate.top_k=2")
    lines = out.splitlines()
    assert code == 0
    assert len(lines) == 2
    assert all("%" in line and "win" in line and "now" in line for line in lines)


def test_each_line_of_a_file_is_a_prompt(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "p.txt").write_text("free\n\ncash\n")
    code, out, _ = run(
        monkeypatch, capsys, "generate", save_gpt2(tmp_path / "gpt2"), "--prompts", str(tmp_path / "p.txt"), "--json",
        "-s", "generate.max_new_tokens=2",
    )  # fmt: skip
    assert code == 0
    assert [record["prompt"] for record in json.loads(out)] == ["free", "cash"]
