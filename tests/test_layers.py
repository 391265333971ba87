"""Imports go down only, and asking for help loads no torch."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import llmkit

ROOT = Path(llmkit.__file__).parent
LAYERS = (
    "core", "config", "text", "tables", "tokens", "datasets", "models", "metrics", "training", "tasks", "reporting",
    "runs", "preparing", "evaluating", "generating", "planning", "doctor", "demo", "cli", "__main__",
)  # fmt: skip
"""From the lowest to the highest."""
NO_TORCH = ("core", "config", "text", "tables", "cli")


def imported_names(path: Path, *, top_level_only: bool = False) -> list[str]:
    tree = ast.parse(path.read_text())
    nodes = tree.body if top_level_only else list(ast.walk(tree))
    names = [node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)]
    return names + [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]


def unit_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return "" if parts == ("__init__",) else parts[0]


def test_every_module_stands_in_a_known_layer() -> None:
    assert {unit_of(path) for path in ROOT.rglob("*.py")} == {"", *LAYERS}


def test_no_module_imports_from_a_room_above_its_own() -> None:
    wrong = []
    for path in ROOT.rglob("*.py"):
        own = unit_of(path)
        for name in imported_names(path) if own else ():
            package, *rest = name.split(".")
            other = rest[0] if rest else ""
            if package == "llmkit" and other and LAYERS.index(other) > LAYERS.index(own):
                wrong.append(f"{path.relative_to(ROOT)} imports {name}")
    assert not wrong


def test_text_config_and_cli_import_neither_torch_nor_transformers_at_their_top() -> None:
    heavy = {"torch", "transformers", "datasets", "accelerate"}
    wrong = [
        f"{path.relative_to(ROOT)}: {name}"
        for path in ROOT.rglob("*.py")
        if unit_of(path) in NO_TORCH
        for name in imported_names(path, top_level_only=True)
        if name.split(".")[0] in heavy or name.split(".")[1:2] in (["runs"], ["preparing"])
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
