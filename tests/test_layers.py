"""Imports go down only, siblings stay apart, and asking for help loads no torch."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import llmkit

ROOT = Path(llmkit.__file__).parent
LAYERS = {
    "": 0,
    "errors": 0,
    "files": 0.5,
    "lock": 0.5,
    "ranks": 0.5,
    "threads": 0.5,
    "untrusted": 0.5,
    "devices": 0.7,
    "config": 1,
    "text": 2,
    "tokens": 3,
    "models": 4,
    "objectives": 5,
    "runs": 6,
    "training": 7,
    "evaluation": 7,
    "generation": 7,
    "pipelines": 8,
    "cli": 9,
    "__main__": 10,
}
NO_TORCH = ("config", "text", "cli", "errors", "files", "lock", "ranks", "threads", "untrusted")


def imported_names(path: Path, *, top_level_only: bool = False) -> list[str]:
    tree = ast.parse(path.read_text())
    nodes = tree.body if top_level_only else list(ast.walk(tree))
    names = [node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)]
    return names + [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]


def unit_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return "" if parts == ("__init__",) else parts[0]


def test_every_module_stands_in_a_known_layer() -> None:
    assert {unit_of(path) for path in ROOT.rglob("*.py")} == set(LAYERS)


def test_no_module_imports_from_its_own_height_or_above() -> None:
    wrong = []
    for path in ROOT.rglob("*.py"):
        own = unit_of(path)
        for name in imported_names(path):
            package, *rest = name.split(".")
            other = rest[0] if rest else ""
            allowed = other == own or LAYERS.get(other, 99) < LAYERS[own]
            if package == "llmkit" and other and not allowed:
                wrong.append(f"{path.relative_to(ROOT)} imports {name}")
    assert not wrong


def test_text_config_and_cli_import_neither_torch_nor_transformers_at_their_top() -> None:
    heavy = {"torch", "transformers", "datasets", "accelerate"}
    wrong = [
        f"{path.relative_to(ROOT)}: {name}"
        for path in ROOT.rglob("*.py")
        if unit_of(path) in NO_TORCH
        for name in imported_names(path, top_level_only=True)
        if name.split(".")[0] in heavy or name.startswith("llmkit.pipelines")
    ]
    assert not wrong


def test_help_loads_no_torch_and_answers_at_once() -> None:
    code = "import sys; sys.argv = ['llmkit', '--help']\nfrom llmkit.cli.app import app\n"
    code += "try: app()\nexcept SystemExit: pass\n"
    code += "print(sorted({'torch', 'transformers', 'datasets', 'pydantic', 'pyarrow'} & set(sys.modules)))"
    started = os.times()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    ended = os.times()
    seconds = ended.children_user + ended.children_system - started.children_user - started.children_system
    assert done.stdout.splitlines()[-1] == "[]"
    assert "pretrain-clm" in done.stdout
    assert seconds < 3, "far beyond the 0.3 s of a core that it takes"
