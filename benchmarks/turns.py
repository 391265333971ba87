"""Alternating measurements of several programs, each in its own process: figures, medians, tables and JSON.

Every benchmark that run.py calls writes a list of these rows as JSON: `work`, `unit`, `lower_is_better`, and `figures`
with the figure of every round by program, llmkit first.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

PEERS = Path(__file__).parent / "peers"
QUIET = {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "true", "PYTHONWARNINGS": "ignore"}

Row = dict[str, Any]


def take_turns(contenders: dict[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """The figures of all rounds; the programs alternate, so that changing load affects all of them."""
    figures: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(rounds):
        for name, measure in contenders.items():
            figures[name].append(measure())
            print(f"  round {number + 1}, {name}: {figures[name][-1]:,.4g}", file=sys.stderr, flush=True)
    return figures


def make_row(
    work: str, figures: dict[str, list[float]], *, unit: str = "tokens/s", lower_is_better: bool = False
) -> Row:
    return {"work": work, "unit": unit, "lower_is_better": lower_is_better, "figures": figures}


def find_ratio(row: Row, peer: str) -> float:
    """llmkit's speedup over the peer, by the medians."""
    ours, theirs = (statistics.median(row["figures"][name]) for name in ("llmkit", peer))
    return theirs / ours if row["lower_is_better"] else ours / theirs


def format_table(rows: list[Row]) -> str:
    """A Markdown table: one line per task, one column per `cpu` of the rows; each peer with llmkit's speedup over
    it.
    """
    cpus = list(dict.fromkeys(row.get("cpu", "native") for row in rows))
    cells: dict[str, dict[str, str]] = {}
    for row in rows:
        cells.setdefault(row["work"], {})[row.get("cpu", "native")] = format_cell(row)
    heads = [f"{cpu}: llmkit; peers, and how many times as fast llmkit is" for cpu in cpus]
    lines = [f"| work | {' | '.join(heads)} |", "| --- |" + " --- |" * len(cpus)]
    lines += [f"| {work} | {' | '.join(found.get(cpu, '-') for cpu in cpus)} |" for work, found in cells.items()]
    return "\n".join(lines)


def format_cell(row: Row) -> str:
    medians = {name: format_figure(statistics.median(found)) for name, found in row["figures"].items()}
    ours = medians.pop("llmkit", None)
    ratios = {name: f": **{find_ratio(row, name):.2f}**" if ours else "" for name in medians}
    peers = [f"{name} {figure}{ratios[name]}" for name, figure in medians.items()]
    return "; ".join([f"{f'{ours} ' if ours else 'no '}{row['unit']}", *peers])


def format_figure(value: float) -> str:
    """Three digits."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def finish(rows: list[Row], options: argparse.Namespace) -> None:
    """Print the rows, and write them to the file of --json."""
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
    print(format_table(rows))


def call(*command: object, folder: Path | None = None) -> str:
    """The stdout of a command; exits with its last lines of output if it fails."""
    words = [str(word) for word in command]
    environment = {**os.environ, **QUIET}
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, encoding="utf-8", env=environment)
    if done.returncode:
        output = (done.stdout + done.stderr).splitlines()[-20:]
        sys.exit("\n".join([*output, f"{' '.join(words[:4])} ended with exit code {done.returncode}"]))
    return done.stdout


def call_llmkit(*arguments: object) -> str:
    return call(sys.executable, "-m", "llmkit", *arguments)


def call_peer(script: str, *arguments: object) -> Any:
    """The JSON at the end of the output of a script in peers/."""
    return json.loads(call(sys.executable, PEERS / script, *arguments).splitlines()[-1])
