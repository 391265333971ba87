"""The commands as a user types them: exit codes, three-line errors, JSON on stdout."""

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from llmkit.cli import app
from llmkit.cli.app import COMMANDS, main

ROOT = Path(__file__).parents[2]


def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["llmkit", *arguments])
    monkeypatch.setattr(app.signal, "signal", lambda *_: None)
    capsys.readouterr()
    with pytest.raises(SystemExit) as caught:
        main()
    out, err = capsys.readouterr()
    return int(caught.value.code or 0), out, err


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["pretrain-clm", "recipes/no.yaml", "--data", "d", "--out", "r"], 2, "there is no recipe"),
        (["pretrain-clm", "--data", "d", "--out", "r", "-s", "train.max_step=1"], 2, "did you mean 'max_steps'?"),
        (["pretrain-clm", "--data", "nowhere", "--out", "r"], 3, "there is no folder"),
        (["prepare", "nowhere.txt", "--out", "d"], 3, "nowhere.txt"),
        (["prepare", "nowhere.txt", "--out", "d", "--engine", "slrum"], 2, "did you mean 'slurm'?"),
        (["prepare", "nowhere.txt", "--out", "d", "--engine", "rya", "--dry-run"], 2, "did you mean 'ray'?"),
        (["eval", "./nowhere", "--data", "x.txt"], 6, "there is no folder"),
        (["report", "."], 6, "not a run folder"),
        (["compare", "."], 2, "only one run"),
        (["generate", "./nowhere", "--prompts", "nowhere.txt"], 3, "prompts cannot be read"),
    ],
)
def test_a_mistake_is_three_lines_and_its_exit_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path,
    arguments: list[str], code: int, words: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    found, out, err = run(monkeypatch, capsys, *arguments)
    assert found == code
    assert out == ""
    assert [line.split(":")[0] for line in err.splitlines()] == ["error", "where", "hint"]
    assert words in err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("arguments", [["prepare"], ["nosuch"], ["eval"], ["pretrain", "x.yaml"]])
def test_wrong_usage_is_exit_code_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    assert run(monkeypatch, capsys, *arguments)[0] == 2


def test_all_steps_work_with_json_output(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("book.txt").write_text("".join(f"Line {n}: 却说曹操。\n" for n in range(300)), encoding="utf-8")
    smoke = ROOT / "recipes/smoke"

    def call(*arguments: str) -> tuple[int, Any]:
        code, out, _ = run(monkeypatch, capsys, *arguments, "--json")
        return code, json.loads(out)

    code, result = call("prepare", "book.txt", "--out", "data", "--recipe", f"{smoke}/prepare.yaml")
    assert (code, set(result["splits"])) == (0, {"train", "validation", "test"})
    code, result = call("pretrain", f"{smoke}/pretrain.yaml", "--data", "data", "--out", "run")
    assert (code, result["training"]["steps"]) == (0, 4)
    code, result = call("eval", "run", "--split", "test", "--stride", "8")
    assert (code, result["method"]["stride"]) == (0, 8)
    code, result = call("generate", "run", "--prompt", "却说", "-s", "generate.max_new_tokens=5")
    assert (code, result[0]["prompt"]) == (0, "却说")
    assert result[0]["n_tokens"] <= 5
    assert result[0]["tokens_per_second"] >= 0
    code, out, err = run(monkeypatch, capsys, "generate", "run", "--prompt", "却说", "-s", "generate.max_new_tokens=5")
    assert (code, out.startswith("却说"), "tokens/s" in out) == (0, True, False)
    assert err.splitlines()[-1].endswith(" tokens/s")
    assert call("report", "run") == (0, {"report": "run/report.html"})
    more = ("-s", "train.max_steps=2")
    assert call("pretrain", f"{smoke}/pretrain.yaml", "--data", "data", "--out", "shorter", *more)[0] == 0
    code, result = call("compare", "run", "shorter")
    assert (code, {row["run"] for row in result["runs"]}) == (0, {"run", "shorter"})
    assert json.loads(Path("compare/compare.json").read_text(encoding="utf-8")) == result
    assert Path("compare/compare.html").is_file()


def test_dry_run_prints_the_resolved_recipe_and_writes_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("book.txt").write_text("text")
    code, out, _ = run(monkeypatch, capsys, "prepare", "book.txt", "--out", "data", "--dry-run")
    assert (code, "vocab_size: 8192" in out, "book.txt" in out) == (0, True, True)
    assert [path.name for path in tmp_path.iterdir()] == ["book.txt"]


def test_signal_just_before_the_command_shows_no_traceback() -> None:
    code = """import os, signal, sys
import llmkit.cli.app as app
app.die_with_launcher = lambda: os.kill(os.getpid(), signal.SIGTERM)
sys.argv = ["llmkit", "report", "missing"]
app.main()"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, "Traceback" in done.stderr) == (143, False)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signal_in_prepare_leaves_nothing_half_done(tmp_path: Path, number: int, code: int) -> None:
    (tmp_path / "long.txt").write_text("".join(f"{n} words {n * n} and more\n" for n in range(400_000)))
    command = [sys.executable, "-m", "llmkit", "prepare", str(tmp_path / "long.txt"), "--out", str(tmp_path / "data")]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    while process.poll() is None and not (tmp_path / ".data.partial").exists():
        time.sleep(0.01)
    os.kill(process.pid, number)
    _, err = process.communicate()
    assert process.returncode == code, err
    assert "Traceback" not in err
    # Finished parts may wait for the next start.
    assert {path.name for path in tmp_path.iterdir()} <= {"long.txt", ".data.partial"}


def test_reader_that_has_enough_ends_the_command_quietly() -> None:
    code = "from llmkit.cli.output import echo\nfor n in range(100000): echo(str(n))"
    script = f"import sys, typer\napp = typer.Typer()\n@app.command()\ndef run():\n    exec({code!r})\n"
    script += "from llmkit.cli import app as module\nmodule.app = app\nsys.argv = ['llmkit']\nmodule.main()"
    command = f"{sys.executable} -c {shlex.quote(script)} | head -1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (141, "0\n", "")


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(28, "No space left on device", "runs/x"), "No space left"),
        (MemoryError(), "out of memory"),
        (ImportError("libarrow.so: failed to map segment from shared object"), "ulimit -v"),
    ],
)
def test_machine_that_refuses_is_exit_code_4(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: BaseException, words: str
) -> None:
    def refuse(**_: object) -> None:
        raise error

    monkeypatch.setattr(app, "app", refuse)
    code, _, err = run(monkeypatch, capsys)
    assert code == 4
    assert words in err
    assert [line.split(":")[0] for line in err.splitlines()] == ["error", "where", "hint"]


def test_every_command_that_takes_a_recipe_has_a_smoke_recipe() -> None:
    takes_none = {"compare", "doctor", "schema"}
    assert {path.stem for path in (ROOT / "recipes/smoke").glob("*.yaml")} == set(COMMANDS) - takes_none


def test_every_command_is_in_make_smoke() -> None:
    makefile = (ROOT / "Makefile").read_text()
    assert all(f"$(SMOKE) {name} " in makefile for name in COMMANDS)


@pytest.mark.parametrize(
    ("typed", "number", "offered"),
    [
        ("llmkit pretrain-", 1, {"pretrain-clm", "pretrain-mlm"}),
        ("llmkit pretrain --eng", 2, {"--engine"}),
        ("llmkit predict runs/a --format ", 4, {"csv", "tsv", "jsonl"}),
    ],
)
def test_shell_completes_commands_options_and_values(typed: str, number: int, offered: set[str]) -> None:
    code = "import sys; sys.argv = ['llmkit']; from llmkit.__main__ import main; main()"
    environment = {"_LLMKIT_COMPLETE": "complete_bash", "COMP_WORDS": typed, "COMP_CWORD": str(number)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert set(done.stdout.split()) == offered


def test_completion_script_is_shown(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert "--install-completion" in run(monkeypatch, capsys, "--help")[1]
    monkeypatch.setenv("_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION", "1")
    code, out, _ = run(monkeypatch, capsys, "--show-completion", "bash")
    assert code == 0
    assert out.splitlines()[-1].startswith("complete -o default -F ")


@pytest.mark.parametrize(
    ("closed", "typed", "code", "out", "err"),
    [
        (">&-", "schema", 4, "", "error: stdout is closed\nwhere: stdout\n"),
        (">&-", "--version", 4, "", "error: stdout is closed\nwhere: stdout\n"),
        ("2>&-", "prepare gone.txt --out o", 3, "", ""),
        (">&- 2>&-", "schema", 4, "", ""),
        ("<&-", "prepare - --out o", 3, "", "skipped: - (empty file)\nerror: no usable document"),
    ],
)
def test_closed_streams_cause_no_traceback(
    tmp_path: Path, closed: str, typed: str, code: int, out: str, err: str
) -> None:
    ended = subprocess.run(
        ["sh", "-c", f"{shlex.quote(sys.executable)} -m llmkit {typed} {closed}"], cwd=tmp_path, text=True,
        capture_output=True, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert (ended.returncode, ended.stdout) == (code, out)
    assert ended.stderr.startswith(err) and "Traceback" not in ended.stderr


@pytest.mark.parametrize("variables", ["PYTHONIOENCODING=latin-1", "LC_ALL=C PYTHONUTF8=0 PYTHONCOERCECLOCALE=0"])
def test_results_are_utf8_in_every_locale(variables: str) -> None:
    script = "from llmkit.cli import app, output; app.app = lambda **_: output.echo('\\u732b \\U0001f600'); app.main()"
    command = f"{variables} {shlex.quote(sys.executable)} -c {shlex.quote(script)}"
    ended = subprocess.run(["sh", "-c", command], capture_output=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert (ended.stdout.decode(), ended.stderr) == ("\u732b \U0001f600\n", b"")
