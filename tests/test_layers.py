"""Imports go down only, and asking for help loads no torch."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import llmkit

ROOT = Path(llmkit.__file__).parent
LAYERS = (
    "core", "architectures", "config", "text", "tables", "tokens", "datasets", "models", "metrics", "pages", "training",
    "tasks", "reporting", "runs", "preparing", "evaluating", "generating", "planning", "doctor", "demo", "api", "cli",
    "__main__",
)  # fmt: skip
"""From the lowest to the highest."""
NO_TORCH = ("core", "architectures", "config", "text", "tables", "cli")


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
        if unit_of(path) in NO_TORCH and path.name != "devices.py"
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


def module_graph() -> dict[str, set[str]]:
    """Each module and those that it imports, anywhere in it."""
    paths = {
        ".".join(path.relative_to(ROOT.parent).with_suffix("").parts).removesuffix(".__init__"): path
        for path in ROOT.rglob("*.py")
    }
    graph: dict[str, set[str]] = {}
    for name, path in paths.items():
        found = set()
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module:
                inner = {f"{node.module}.{alias.name}" for alias in node.names} & set(paths)
                found |= inner or {node.module}
            elif isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
        graph[name] = (found & set(paths)) - {name, "llmkit"}
    return graph


def test_no_modules_import_each_other_in_a_circle() -> None:
    graph = module_graph()
    while free := [name for name, imports in graph.items() if not imports & set(graph)]:
        for name in free:
            del graph[name]
    assert not graph, "every module left imports another one that is left"


NAMED = re.compile(r"(?<![\"'])\b(task|objective|family|label_type|kind) [!=]= [\"']")
OWNERS = (
    "models",
    "tasks/clm",
    "tasks/mlm",
    "tasks/cls",
    "tasks/ner",
    "tasks/qa",
    "core/hardware.py",
    "config/prepare.py",
)
"""Rooms that own tasks, families and types of labels, and the files that own kinds of devices and tokenizers."""


def test_nothing_outside_of_their_folders_asks_which_task_family_or_type_of_labels_it_is() -> None:
    wrong = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in ROOT.rglob("*.py")
        if not path.relative_to(ROOT).as_posix().startswith(OWNERS)
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if NAMED.search(line)
    ]
    assert not wrong


def test_only_the_table_of_tasks_imports_the_folder_of_a_task() -> None:
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in ROOT.rglob("*.py")
        for name in imported_names(path)
        if (found := re.match(r"llmkit\.(tasks\.(?:clm|mlm|cls|ner|qa))\b", name))
        and path.relative_to(ROOT).as_posix() != "tasks/table.py"
        and not path.relative_to(ROOT).as_posix().startswith(found[1].replace(".", "/"))
    ]
    assert not wrong


def test_every_module_has_a_test_file_of_its_name() -> None:
    tests = Path(__file__).parent
    modules = [path.relative_to(ROOT) for path in ROOT.rglob("*.py") if not path.stem.startswith("__")]
    assert not [str(path) for path in modules if not (tests / path.parent / f"test_{path.name}").is_file()]


def test_no_pattern_repeats_a_group_possessively() -> None:
    # Python 3.11.0 to 3.11.4, such as Debian 12's, match these wrongly (CPython issue 106052); (?=(group*))\1 is equal.
    wrong = [
        f"{path.relative_to(ROOT)}: {node.value}"
        for path in ROOT.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
        if re.search(r"(?<!\\)\)[*+?}]\+|\(\?>", node.value) and "\n" not in node.value
    ]
    assert not wrong
