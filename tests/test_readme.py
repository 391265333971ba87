"""The commands of README.md and docs/tasks.md run, with the lengths cut down, in a folder with books and recipes.

What all pages name, commands, options, files and headings, exists.
"""

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
from several import run_command
from tiny import make_tagged, write_conll
from typer.main import get_command

from llmkit.cli.app import app

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(ROOT.glob("docs/*.md"))]
LIVING = [page for page in PAGES if page.name != "log.md"]
SHORT = {
    "prepare": ["-s", "prepare.tokenizer.vocab_size=300"],
    "pretrain": ["-s", "train.max_minutes=null", "-s", "train.max_steps=3", "-s", "model.n_layer=1"],
    "pretrain-clm": ["-s", "train.max_minutes=null", "-s", "train.max_steps=3", "-s", "model.n_layer=1"],
    "pretrain-mlm": ["-s", "train.max_minutes=null", "-s", "train.max_steps=3", "-s", "model.n_layer=1"],
    "finetune-cls": ["-s", "train.max_steps=3"],
    "finetune-ner": ["-s", "train.max_steps=3"],
    "finetune-qa": ["-s", "train.max_steps=3"],
    "generate": ["-s", "generate.max_new_tokens=10"],
}
ROADS = {
    "README.md": ["prepare", "pretrain", "eval", "generate", "finetune-cls"],
    "docs/tasks.md": [
        *("prepare", "pretrain-clm", "eval", "generate", "prepare", "pretrain-clm", "generate"),
        *("prepare", "pretrain-mlm", "eval", "generate", "finetune-cls", "eval", "predict"),
        *("finetune-ner", "eval", "predict"),
        *("finetune-qa", "predict", "eval"),
    ],
}


def console_lines(page: Path) -> list[str]:
    blocks = re.findall(r"```console\n(.*?)```", page.read_text(), re.S)
    return [line for block in blocks for line in block.splitlines()]


@pytest.mark.parametrize("page", ROADS)
def test_llmkit_commands_of_the_page_run(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(ROOT / "recipes", tmp_path / "recipes")
    (tmp_path / "books").mkdir()
    (tmp_path / "books/a.txt").write_text("".join(f"It was the {n}th of times. It was late.\n" for n in range(2000)))
    rows = [f"{'win' if n % 2 else 'meet'} {n} now,{'spam' if n % 2 else 'ham'}\n" for n in range(60)]
    for name in ("spam.csv", "test.csv"):
        (tmp_path / name).write_text("message,kind\n" + "".join(rows))
    (tmp_path / "new.csv").write_text("message\nwin it\n")
    for name in ("train.conll", "test.conll"):
        write_conll(tmp_path / name, make_tagged(60))
    (tmp_path / "letters.txt").write_text("you win cash at home\n")
    for name in ("train.json", "dev.json"):
        shutil.copy(ROOT / "recipes/smoke/questions.json", tmp_path / name)
    (tmp_path / "questions.jsonl").write_text('{"question": "who won?", "context": "the cook won"}\n')
    commands = [shlex.split(line)[1:] for line in console_lines(ROOT / page) if line.startswith("llmkit ")]
    assert [command[0] for command in commands] == ROADS[page]
    for words in commands:
        # The plays are a wheel that the tests do not install.
        command = ["books" if word.startswith("builtin:") else word for word in words]
        code, out, err = run_command([*command, *SHORT.get(command[0], [])], tmp_path / "output")
        assert code == 0, err
        assert command[0] != "generate" or command[command.index("--prompt") + 1].split()[0] in out
    assert (tmp_path / "runs/books/report.html").is_file()
    if (labelled := tmp_path / "labelled.csv").exists():
        assert labelled.read_text().startswith("message,prediction,probability\nwin it,")
        assert '"answer": ' in (tmp_path / "answers.jsonl").read_text()


@pytest.mark.parametrize("page", LIVING, ids=lambda page: page.name)
def test_commands_and_options_that_the_page_names_exist(page: Path) -> None:
    known = {
        name: {option for parameter in command.params for option in parameter.opts} | {"--help"}
        for name, command in get_command(app).commands.items()
    }
    whole = page.read_text()
    blocks, text = re.findall(r"```.*?```", whole, re.S), re.sub(r"```.*?```", "", whole, flags=re.S)
    found = re.findall(r"^llmkit (.*)$", "\n".join(blocks).replace("\\\n", " "), re.M)
    wrong = []
    for command in [*found, *re.findall(r"`llmkit ([^`]*)`", text)]:
        name, *words = re.sub(r'"[^"]*"', "TEXT", command).split()
        options = {word.partition("=")[0] for word in words if re.match(r"--?[a-z]", word)}
        if not name.startswith("--") and (name not in known or options - known[name]):
            wrong.append(command)
    assert not wrong


@pytest.mark.parametrize("page", LIVING, ids=lambda page: page.name)
def test_files_and_headings_that_the_page_names_exist(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.S)
    named = [ROOT / name for name in re.findall(r"`((?:recipes|docs|benchmarks|tests|llmkit)/[\w./-]+)`", text)]
    for target, anchor in re.findall(r"\]\((?!https?:)([^)#]*)(?:#([^)]+))?\)", text):
        linked = page.parent / target if target else page
        named.append(linked)
        headings = re.findall(r"^#+ (.*)$", linked.read_text(), re.M) if anchor else []
        assert not anchor or anchor in [re.sub(r"[^\w -]", "", h.lower()).replace(" ", "-") for h in headings], anchor
    assert not [str(path) for path in named if not path.exists()]


def test_readme_is_one_page() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 160


@pytest.mark.parametrize("line", [line for line in console_lines(ROOT / "README.md") if line.startswith("make ")])
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


def test_every_test_that_the_table_of_faults_names_exists() -> None:
    named = set(re.findall(r"`(test_\w+)`", (ROOT / "docs/faults.md").read_text()))
    defined = set(re.findall(r"^def (test_\w+)", "\n".join(p.read_text() for p in ROOT.glob("tests/**/*.py")), re.M))
    assert named
    assert named <= defined, named - defined
