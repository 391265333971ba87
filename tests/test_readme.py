"""The README's commands run, with the lengths cut down, in a folder that has nothing but books and recipes."""

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
from several import run_command

ROOT = Path(__file__).parents[1]
SHORT = {
    "prepare": ["-s", "prepare.tokenizer.vocab_size=300"],
    "pretrain-clm": ["-s", "train.max_minutes=null", "-s", "train.max_steps=3", "-s", "model.n_layer=1"],
    "pretrain-mlm": ["-s", "train.max_minutes=null", "-s", "train.max_steps=3", "-s", "model.n_layer=1"],
    "finetune-cls": ["-s", "train.max_steps=3"],
    "generate": ["-s", "generate.max_new_tokens=10"],
}


def console_lines() -> list[str]:
    blocks = re.findall(r"```console\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
    return [line for block in blocks for line in block.splitlines()]


def test_llmkit_commands_of_the_readme_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(ROOT / "recipes", tmp_path / "recipes")
    (tmp_path / "books").mkdir()
    (tmp_path / "books/a.txt").write_text("".join(f"It was the {n}th of times. It was late.\n" for n in range(2000)))
    rows = [f"{'win' if n % 2 else 'meet'} {n} now,{'spam' if n % 2 else 'ham'}\n" for n in range(60)]
    for name in ("spam.csv", "test.csv"):
        (tmp_path / name).write_text("message,kind\n" + "".join(rows))
    (tmp_path / "new.csv").write_text("message\nwin it\n")
    commands = [shlex.split(line)[1:] for line in console_lines() if line.startswith("llmkit ")]
    roads = [("prepare", road, "eval", "generate") for road in ("pretrain-clm", "pretrain-mlm")]
    classics = ["prepare", "pretrain-clm", "generate"]
    labels, ahead = ["finetune-cls", "eval", "predict"], ["doctor", "plan"]
    assert [command[0] for command in commands] == [*roads[0], *roads[1], *classics, *labels, *ahead]
    for words in commands:
        # The plays are a wheel that the tests do not install.
        command = ["books" if word.startswith("builtin:") else word for word in words]
        code, out, err = run_command([*command, *SHORT.get(command[0], [])], tmp_path / "said")
        assert code == 0, err
        assert command[0] != "generate" or command[command.index("--prompt") + 1].split()[0] in out
    assert (tmp_path / "runs/books/report.html").is_file()
    assert (tmp_path / "runs/bert/report.html").is_file()
    assert (tmp_path / "labelled.csv").read_text().startswith("message,prediction,probability\nwin it,")


@pytest.mark.parametrize("line", [line for line in console_lines() if line.startswith("make ")])
def test_make_commands_of_the_readme_are_targets(line: str) -> None:
    done = subprocess.run(
        ["make", "--dry-run", *shlex.split(line)[1:]], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_make_help_lists_every_recipe() -> None:
    done = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert all(path.stem in done.stdout for path in ROOT.glob("recipes/*.yaml"))


def test_every_recipe_says_its_command_in_its_header() -> None:
    for path in ROOT.glob("recipes/**/*.yaml"):
        assert re.search(r"^#\s+llmkit \w+", path.read_text(), re.M), path


def test_files_that_the_readme_names_exist() -> None:
    text = (ROOT / "README.md").read_text()
    named = re.findall(r"`((?:recipes|docs|benchmarks)/[\w./-]+)`", text)
    assert named
    assert all((ROOT / name).exists() for name in named), named


def test_every_test_that_the_table_of_faults_names_exists() -> None:
    named = set(re.findall(r"`(test_\w+)`", (ROOT / "docs/faults.md").read_text()))
    defined = set(re.findall(r"^def (test_\w+)", "\n".join(p.read_text() for p in ROOT.glob("tests/**/*.py")), re.M))
    assert named
    assert named <= defined, named - defined
