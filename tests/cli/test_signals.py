"""SIGINT, SIGTERM and SIGHUP outside of training: the exit code, one line, and no partial file."""

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tiny import make_messages, save_bert, save_gpt2, write_table

from llmkit.cli import app
from llmkit.config.loading import load_recipe
from llmkit.preparing.prepare import prepare
from llmkit.runs.train import finetune, pretrain

EXIT_CODES = {"SIGINT": 130, "SIGTERM": 143, "SIGHUP": 129}

# Importing torch takes seconds, so one process imports it and every case is a fork of it.
FORKING = """
import json, os, signal, sys, time
from pathlib import Path
import torch, transformers, llmkit.cli.app, llmkit.core.files, llmkit.evaluating.evaluate, llmkit.tasks.cls.prediction
import llmkit.generating.generate, llmkit.reporting.compare, llmkit.reporting.report
torch.set_num_threads(1)

def stop(number):
    Path("signalled").write_text(str(time.time()))
    os.kill(os.getpid(), number)

def signal_at_call(number, count):
    embed, calls = torch.nn.functional.embedding, []
    def counted(*args, **kwargs):
        calls.append(1)
        if len(calls) == count:
            stop(number)
        return embed(*args, **kwargs)
    torch.nn.functional.embedding = counted

def signal_at_point(number, point):
    llmkit.core.files.failpoint = lambda now: stop(number) if now == point else None

def hang_in_tidying():
    def hang(path, missing_ok=False):
        if path.suffix == ".partial":
            time.sleep(0.6)  # sooner it would be taken for the first one, sent twice
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(60)
            os._exit(98)
        return unlink(path, missing_ok)
    unlink, Path.unlink = Path.unlink, hang

def run(case):
    number = signal.Signals[case["signal"]]
    for name, descriptor in (("out", 1), ("err", 2)):
        os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), descriptor)
    if case["hangs"]:
        hang_in_tidying()
    if isinstance(case["at"], int):
        signal_at_call(number, case["at"])
    else:
        signal_at_point(number, case["at"])
    sys.argv = ["llmkit", *case["words"]]
    llmkit.cli.app.main()

for case in json.load(sys.stdin):
    before = sorted(map(str, Path(".").rglob("*")))
    if (child := os.fork()) == 0:
        try:
            run(case)
        except SystemExit as error:
            os._exit(error.code)
        finally:
            sys.excepthook(*sys.exc_info())
            os._exit(99)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    sent = Path("signalled")
    seconds = time.time() - float(sent.read_text()) if sent.exists() else None
    sent.unlink(missing_ok=True)
    texts = [Path(name).read_text() for name in ("out", "err")]
    for name in ("out", "err"):
        os.unlink(name)
    left = sorted(set(map(str, Path(".").rglob("*"))) - set(before))
    print(json.dumps({"code": code, "seconds": seconds, "out": texts[0], "err": texts[1], "left": left}))
"""

CASES: dict[str, dict[str, Any]] = {
    "eval clm": {"words": ["eval", "gpt2", "--data", "text.txt", "--json"], "at": 5, "signal": "SIGTERM"},
    "eval mlm": {"words": ["eval", "bert", "--data", "text.txt"], "at": 8, "signal": "SIGINT"},
    "eval cls": {"words": ["eval", "cls", "--data", "rows.csv", "--json"], "at": 5, "signal": "SIGHUP"},
    "eval own": {"words": ["eval", "one"], "at": 3, "signal": "SIGTERM"},
    "generate": {"words": ["generate", "gpt2", "--json"], "at": 9, "signal": "SIGINT"},
    "generate live": {"words": ["generate", "gpt2", "--prompt", "win"], "at": 9, "signal": "SIGTERM"},
    "predict": {"words": ["predict", "cls", "--data", "rows.csv", "--out", "new.csv"], "at": 5, "signal": "SIGTERM"},
    "predict over": {
        "words": ["predict", "cls", "--data", "rows.csv", "--out", "old.csv", "--overwrite"],
        "at": 5,
        "signal": "SIGINT",
    },
    "predict, twice": {
        "words": ["predict", "cls", "--data", "rows.csv", "--out", "new.csv"],
        "at": 5,
        "signal": "SIGTERM",
        "hangs": True,
    },
    "report": {"words": ["report", "one"], "at": "report.html: before rename", "signal": "SIGTERM"},
    "compare": {"words": ["compare", "one", "two"], "at": "compare.html: before rename", "signal": "SIGINT"},
}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models, runs, texts and rows; more rows than are scored at once."""
    home = tmp_path_factory.mktemp("home")
    save_gpt2(home / "gpt2")
    save_bert(home / "bert")
    (home / "text.txt").write_text("".join(f"the time is {n}. you call me. and now {n * n}.\n" for n in range(2000)))
    write_table(home / "rows.csv", make_messages(2000))
    (home / "old.csv").write_text("what was there before\n")
    few = write_table(home / "few.csv", make_messages(40))
    steps = ["train.max_steps=1", "train.block_size=32"]
    recipe = load_recipe(None, [*steps, "model.n_layer=1", "model.n_embd=32", "model.n_head=2"], task="clm")
    finetune(load_recipe(None, steps, task="cls"), files={"train": few}, out=home / "cls", model=str(home / "bert"))
    prepared = prepare([str(home / "text.txt")], home / "data", recipe.prepare)
    pretrain(recipe, data=prepared.path, out=home / "one")
    shutil.copytree(home / "one", home / "two")
    return home


@pytest.fixture(scope="module")
def results(home: Path) -> dict[str, dict[str, Any]]:
    cases = json.dumps([{"hangs": False, **case} for case in CASES.values()])
    done = subprocess.run(
        [sys.executable, "-c", FORKING], cwd=home, input=cases, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return dict(zip(CASES, map(json.loads, done.stdout.splitlines()), strict=True))


@pytest.mark.parametrize("name", CASES)
def test_signal_outside_of_training_ends_the_command_and_leaves_no_half_file(
    home: Path, results: dict[str, dict[str, Any]], name: str
) -> None:
    result, kind = results[name], CASES[name]["signal"]
    assert result["seconds"] is not None, "it was never sent"
    assert result["code"] == EXIT_CODES[kind], result["err"]
    assert result["seconds"] < 50, "a few hundredths on a quiet machine; what hangs here sleeps for a minute"
    if "hangs" not in CASES[name]:
        assert result["err"].splitlines()[-1] == f"stopped by {kind}; no partial result was kept"
        # compare.json is written, as a whole, before compare.html.
        assert set(result["left"]) <= {"compare", "compare/compare.json"}
    assert "Traceback" not in result["err"]
    assert "{" not in result["out"]
    assert (home / "old.csv").read_text() == "what was there before\n"


IMPORTING = """
import os, runpy, signal, sys
module, kind = sys.argv[1:3]
class Watch:
    def find_spec(self, name, path=None, target=None):
        if name == module:
            os.kill(os.getpid(), signal.Signals[kind])
sys.meta_path.insert(0, Watch())
sys.argv = ["llmkit", *sys.argv[3:]]
runpy.run_module("llmkit", run_name="__main__")
"""


@pytest.mark.parametrize(
    ("module", "kind"),
    [
        ("llmkit.cli", "SIGINT"),
        ("typer", "SIGTERM"),
        ("llmkit.config.recipe", "SIGINT"),
        ("torch.nn", "SIGTERM"),
        ("transformers.modeling_utils", "SIGINT"),
        ("llmkit.models.transformer", "SIGTERM"),
    ],
)
def test_signal_in_an_import_ends_the_command_like_any_other(home: Path, module: str, kind: str) -> None:
    command = [sys.executable, "-c", IMPORTING, module, kind, "eval", "gpt2", "--data", "text.txt"]
    done = subprocess.run(command, cwd=home, capture_output=True, text=True, check=False)
    assert done.returncode == EXIT_CODES[kind], done.stderr
    assert done.stderr.startswith(f"stopped by {kind}; no")
    assert (len(done.stderr.splitlines()), done.stdout) == (1, "")


def test_error_that_a_library_makes_of_a_signal_is_still_the_signal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def swallow(**_: object) -> None:
        try:
            app._interrupt(signal.SIGTERM, None)
        except BaseException as error:
            raise ImportError("half a library") from error

    monkeypatch.setattr(app.signal, "signal", lambda *_: None)
    monkeypatch.setattr(app, "app", swallow)
    monkeypatch.setattr(app, "_leave", sys.exit)
    with pytest.raises(SystemExit) as caught:
        app.main()
    assert caught.value.code == 143
    assert capsys.readouterr().err == "stopped by SIGTERM; no partial result was kept\n"
