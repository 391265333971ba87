"""`llmkit generate` shows what the model wrote."""

import io
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
    (tmp_path / "p.txt").write_bytes("free\r\n\nca\u2028sh\u0085\x0b\x1c\n".encode())
    code, out, _ = run(
        monkeypatch, capsys, "generate", save_gpt2(tmp_path / "gpt2"), "--prompts", str(tmp_path / "p.txt"), "--json",
        "-s", "generate.max_new_tokens=2",
    )  # fmt: skip
    assert code == 0
    assert [record["prompt"] for record in json.loads(out)] == ["free", "", "ca\u2028sh\u0085\x0b\x1c"]


def test_prompts_come_from_stdin_line_by_line_or_as_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    model, short = save_gpt2(tmp_path / "gpt2"), ("-s", "generate.max_new_tokens=2")
    for option, prompts in (("--prompts", ["a b", "", "c"]), ("--prompt", ["a b\n\nc"])):
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"\xef\xbb\xbfa b\n\nc\n"), "latin-1"))
        code, out, _ = run(monkeypatch, capsys, "generate", model, option, "-", "--json", *short)
        assert code == 0
        assert [record["prompt"] for record in json.loads(out)] == prompts


def test_file_without_prompts_is_an_error_and_no_text_from_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "p.txt").touch()
    code, out, err = run(monkeypatch, capsys, "generate", str(tmp_path), "--prompts", str(tmp_path / "p.txt"))
    assert (code, out) == (3, "")
    assert "there are no prompts" in err


@pytest.mark.parametrize("setting", ["num_samples", "max_new_tokens", "num_beams", "min_new_tokens"])
def test_absurd_counts_are_refused_before_the_model_is_loaded(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, setting: str
) -> None:
    code, _, err = run(
        monkeypatch, capsys, "generate", str(tmp_path), "--prompt", "a", "-s", f"generate.{setting}=1000000000"
    )
    assert code == 2
    assert setting in err and len(err.splitlines()) == 3
