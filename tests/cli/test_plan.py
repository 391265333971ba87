"""The command `llmkit plan` and its text output."""

import json
import sys
from pathlib import Path

import pytest

from llmkit.cli import app
from llmkit.cli.app import main
from llmkit.cli.plan import read_number, show_time
from llmkit.core.errors import UsageError


def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["llmkit", "plan", *arguments])
    monkeypatch.setattr(app.signal, "signal", lambda *_: None)
    with pytest.raises(SystemExit) as caught:
        main()
    out, err = capsys.readouterr()
    return int(caught.value.code or 0), out, err


def test_plan_is_shown_in_lines_and_a_table(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = run(monkeypatch, capsys, "recipes/gpt2-small.yaml", "--gpu", "h100", "--gpus", "8", "--price", "2.5")
    assert code == 0
    for words in (
        "124,439,808 parameters",
        "8 x NVIDIA H100 SXM, bf16",
        "--engine ddp",
        "  gradients  ",
        "an assumption",
    ):
        assert words in out
    assert "cost" in out
    rows = [line.split()[:2] for line in out.splitlines() if line.split()[2:3] == ["yes"]]
    assert [" ".join(row) for row in rows] == ["1 -", "2 ddp", "4 ddp", "8 ddp", "8 fsdp2", "8 zero3", "8 zero2"]
    assert all(len(line) <= 130 for line in out.splitlines())


def test_plan_in_json_is_one_object(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(monkeypatch, capsys, "--gpu", "l4", "--tokens", "1B", "--json")
    assert (code, json.loads(out)["machine"]["device"]["name"]) == (0, "l4")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--gpu", "h1000"], "did you mean 'h100'?"),
        (["--gpu", "a100"], "known: a100-40-pcie, a100-80-pcie, a100-40, a100-80"),
        (["--tokens", "many"], "not a number of tokens"),
    ],
)
def test_mistake_is_three_lines(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    code, out, err = run(monkeypatch, capsys, *arguments)
    assert (code, out) == (2, "")
    assert [line.split(":")[0] for line in err.splitlines()] == ["error", "where", "hint"]
    assert words in err


@pytest.mark.parametrize("arguments", [["--gpus", "0"], ["--mfu", "35"], ["--mfu", "0"], ["--price", "-1"]])
def test_number_out_of_range_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    code, out, err = run(monkeypatch, capsys, *arguments)
    assert (code, out) == (2, "")
    assert f"invalid value for '{arguments[0]}'" in err


@pytest.mark.parametrize(
    ("text", "number"),
    [("10B", 1e10), ("300m", 3e8), ("2.5e9", 2.5e9), ("1_000", 1000), ("1,000", 1000), ("2 T", 2e12)],
)
def test_numbers_of_tokens_are_read_as_people_write_them(text: str, number: float) -> None:
    assert read_number(text) == number


@pytest.mark.parametrize("text", ["", "B", "0", "-5", "1e400", "ten", "1..5", "nan", "1,5B", "1,0000"])
def test_invalid_numbers_of_tokens_are_refused(text: str) -> None:
    with pytest.raises(UsageError):
        read_number(text)


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0.25, "0.25 s"), (119, "119 s"), (600, "10.0 minutes"), (7200, "2.0 hours"), (864_000, "10.0 days")],
)
def test_time_is_in_the_largest_unit_of_which_there_are_two(seconds: float, shown: str) -> None:
    assert show_time(seconds) == shown


def test_prepared_folder_of_the_recipe_is_planned_for_and_reported(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "books").mkdir()
    (tmp_path / "books/manifest.json").write_text("{}")
    recipe = tmp_path / "r.yaml"
    recipe.write_text("task: clm\ninputs: {data: books}\n")
    code, _, err = run(monkeypatch, capsys, str(recipe))
    assert code != 0, "it opens the folder, which is not whole"
    assert f"reading the prepared folder that the recipe names in inputs.data: {tmp_path / 'books'}" in err
    recipe.write_text("task: clm\ninputs: {data: moved}\n")
    assert run(monkeypatch, capsys, str(recipe))[0] == 0
