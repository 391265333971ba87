"""The benchmarks' calculations, and one small benchmark from end to end."""

import ast
import importlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def turns(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import turns

    return turns


@pytest.mark.parametrize("path", sorted(BENCHMARKS.rglob("*.py")), ids=lambda path: path.stem)
def test_names_that_a_benchmark_imports_from_llmkit_exist(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "llmkit":
            assert node.module is not None
            module = importlib.import_module(node.module)
            assert not [name.name for name in node.names if not hasattr(module, name.name)]


def test_llmkit_and_its_peers_alternate(turns: Any) -> None:
    order: list[str] = []

    def run(name: str) -> float:
        order.append(name)
        return float(len(order))

    figures = turns.take_turns({name: lambda name=name: run(name) for name in ("llmkit", "peer")}, 2)
    assert order == ["llmkit", "peer", "llmkit", "peer"]
    assert figures == {"llmkit": [1.0, 3.0], "peer": [2.0, 4.0]}


def test_ratio_is_above_one_where_llmkit_is_faster(turns: Any) -> None:
    rate = turns.make_row("training", {"llmkit": [300.0, 100.0, 200.0], "peer": [100.0]})
    wait = turns.make_row("start", {"llmkit": [2.0], "peer": [5.0]}, unit="s", lower_is_better=True)
    assert turns.find_ratio(rate, "peer") == 2.0
    assert turns.find_ratio(wait, "peer") == 2.5


def test_table_has_every_peer_and_works_without_one(turns: Any) -> None:
    rows = [
        turns.make_row("training", {"llmkit": [12_345.0], "Trainer": [5_000.0], "nanoGPT": [20_000.0]}),
        turns.make_row("--help", {"llmkit": [0.0912]}, unit="s", lower_is_better=True),
    ]
    assert turns.format_table(rows).splitlines()[2:] == [
        "| training | 12,345 tokens/s; Trainer 5,000: **2.47**; nanoGPT 20,000: **0.62** |",
        "| --help | 0.0912 s |",
    ]
    slower = turns.make_row("training", {"llmkit": [3_000.0], "Trainer": [2_000.0]}) | {"cpu": "avx2"}
    assert turns.format_table([*rows, slower]).splitlines()[2:] == [
        "| training | 12,345 tokens/s; Trainer 5,000: **2.47**; nanoGPT 20,000: **0.62** | 3,000 tokens/s; Trainer "
        "2,000: **1.50** |",
        "| --help | 0.0912 s | - |",
    ]


@pytest.mark.slow
def test_training_benchmark_measures_llmkit_and_its_peers(tmp_path: Path, turns: Any) -> None:
    found = tmp_path / "training.json"
    words = ["--shapes", "tiny", "--ways", "llmkit", "Trainer", "loop", "--rounds", "1", "--json", str(found)]
    subprocess.run([sys.executable, str(BENCHMARKS / "gpt2_training.py"), *words], check=True, capture_output=True)
    (row,) = json.loads(found.read_text())
    assert list(row["figures"]) == ["llmkit", "Trainer", "loop, fp32", "loop, bf16"]
    assert all(rate > 0 for rates in row["figures"].values() for rate in rates)
