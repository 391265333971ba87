"""All comparisons with all available peers: a table, the figures as JSON, and a plot of the ratios.

    pip install -e '.[bench]'
    python benchmarks/run.py --out build/benchmarks --nanogpt ~/nanoGPT --word-lm ~/examples/word_language_model \\
        --minilm MINILM --sentences sentence-polarity

Peers in plain transformers are in peers/; other peers need their paths, and comparisons without one are skipped with a
message. `--only` selects comparisons. --out keeps the figures of each comparison; `--again` measures all of them again.
Run it on an idle machine: the programs alternate, each in its own process on all cores; figures are medians.

`--cpu native avx2` measures everything twice: with all CPU features, and with AVX2 and no bf16, as on most laptops
and desktops. Each has a column in the table.
"""

import argparse
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from plots import draw_ratios
from turns import Row, format_table

from llmkit.core.machine import describe_machine

HERE = Path(__file__).parent
CPUS: dict[str, dict[str, str]] = {
    "native": {},
    "avx2": {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"},
}
"""Environment variables that limit the CPU instructions of torch and oneDNN, by column."""


@dataclass(frozen=True, slots=True)
class Work:
    """A script that writes rows as JSON (turns.py), and what it is called with."""

    script: str
    arguments: list[str]
    rounds: int = 2


def list_works(options: argparse.Namespace) -> dict[str, Work]:
    """Comparisons by name; reports those that are skipped."""
    nanogpt = ["--nanogpt", str(options.nanogpt)] if options.nanogpt else []
    works = {
        "start": Work("starting.py", [], 5),
        "gpt2-4x128": Work("gpt2_training.py", ["--shapes", "4x128", *nanogpt], 3),
        "gpt2-6x384": Work("gpt2_training.py", ["--shapes", "6x384", *nanogpt]),
        "gpt2-124m": Work("gpt2_training.py", ["--shapes", "124m", "--ways", "llmkit", "Trainer", "loop"], 1),
        "bert-4x256": Work("bert_pretraining.py", ["--sizes", "mini"], 3),
        "bert-base": Work("bert_pretraining.py", ["--sizes", "base", "--steps", "7"]),
        "evaluation": Work("gpt2_evaluation.py", ["--vocabulary", "65"], 3),
        "generation": Work("generation.py", ["--vocabulary", "65", "--batch", "1", "16"], 5),
        "prepare": Work("preparing.py", ["--megabytes", str(options.megabytes)], 1),
    }
    if options.tokenizer:
        works["prepare"].arguments.extend(["--tokenizer", str(options.tokenizer)])
    if options.books:
        works["prepare"].arguments.extend(["--books", *map(str, options.books)])
    if options.word_lm:
        works["gru"] = Work("word_language_model.py", ["--peer", str(options.word_lm)])
    if options.minilm and options.sentences:
        files = [word for name in ("train", "test") for word in (f"--{name}", str(options.sentences / f"{name}.tsv"))]
        works["classification"] = Work("classification.py", ["--model", str(options.minilm), *files])
    for given, what in ((options.nanogpt, "--nanogpt"), (options.word_lm, "--word-lm"), (options.minilm, "--minilm")):
        if not given:
            print(f"no {what}: left out", file=sys.stderr)
    return works


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("build/benchmarks"))
    parser.add_argument("--only", nargs="+", metavar="WORK")
    parser.add_argument("--again", action="store_true")
    parser.add_argument("--cpu", nargs="+", choices=list(CPUS), default=["native"])
    parser.add_argument("--rounds", type=int, help="for all works; default: 1 to 5, the fewer the longer one takes")
    parser.add_argument("--nanogpt", type=Path, help="a checkout of karpathy/nanoGPT")
    parser.add_argument("--word-lm", type=Path, help="the folder word_language_model of pytorch/examples")
    parser.add_argument("--minilm", type=Path, help="the folder of a BERT to classify with")
    parser.add_argument("--sentences", type=Path, help="a folder with train.tsv and test.tsv, columns label and text")
    parser.add_argument("--megabytes", type=int, default=500, help="of text to prepare")
    parser.add_argument("--books", type=Path, nargs="+", help="text files to prepare; default: Python's documentation")
    parser.add_argument("--tokenizer", type=Path, help="GPT-2's, to prepare with")
    options = parser.parse_args()
    works = list_works(options)
    if unknown := set(options.only or []) - set(works):
        parser.error(f"--only {', '.join(sorted(unknown))}: there is {', '.join(works)}")
    options.out.mkdir(parents=True, exist_ok=True)
    for name in options.only or works:
        for cpu in options.cpu:
            run(name, works[name], cpu, options)
    rows = [row for cpu in CPUS for name in works for row in read_rows(kept_path(options.out, name, cpu), cpu)]
    machine = describe_machine()
    (options.out / "results.json").write_text(
        json.dumps({"machine": machine, "rows": rows}, indent=2), encoding="utf-8"
    )
    table = format_table(rows)
    (options.out / "table.md").write_text(table + "\n", encoding="utf-8")
    draw_ratios([row for row in rows if row["cpu"] == "native"], options.out / "ratios.svg")
    about = ", ".join(str(value) for value in machine.values() if value)
    print(f"{table}\n\n{about}, {date.today()}; {options.out}/results.json, table.md, ratios.svg")


def kept_path(out: Path, name: str, cpu: str) -> Path:
    return out / "rows" / (f"{name}.json" if cpu == "native" else f"{name}-{cpu}.json")


def run(name: str, work: Work, cpu: str, options: argparse.Namespace) -> None:
    """Measure, unless --out already has the figures of this comparison."""
    kept = kept_path(options.out, name, cpu)
    rounds = str(options.rounds or work.rounds)
    asked, how = kept.with_suffix(".txt"), " ".join([work.script, *work.arguments, rounds])
    if kept.is_file() and not options.again and asked.is_file() and asked.read_text(encoding="utf-8") == how:
        return
    kept.parent.mkdir(exist_ok=True)
    print(f"{name}, {cpu} ...", file=sys.stderr, flush=True)
    words = [sys.executable, str(HERE / work.script), *work.arguments, "--rounds", rounds, "--json", str(kept)]
    if (code := subprocess.run(words, stdout=subprocess.DEVNULL, env=os.environ | CPUS[cpu]).returncode) != 0:
        raise SystemExit(f"{work.script} ended with exit code {code}; what was measured so far is kept")
    asked.write_text(how, encoding="utf-8")


def read_rows(path: Path, cpu: str) -> list[Row]:
    found: list[Row] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []
    return [row | {"cpu": cpu} for row in found]


if __name__ == "__main__":
    main()
