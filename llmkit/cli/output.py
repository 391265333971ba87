"""Show results: readable lines, or JSON on stdout for programs."""

import io
import json
import os
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from llmkit.core.console import clean_line, clean_lines, count
from llmkit.core.distributed import is_main_process
from llmkit.core.files import nan_to_null

if TYPE_CHECKING:
    from llmkit.pages.blocks import Table

NAME_WIDTH = 22
"""Width of the column of names, in characters."""
MAX_CELL = 32
READER_LEFT = 141
"""Exit code of a program that SIGPIPE has terminated."""
PIPE_COLUMNS = 10_000
"""Width without a terminal, so that no line is wrapped or cut."""


def echo(text: str, end: str = "\n") -> None:
    """Write lines for people to stdout; escapes control characters, as texts and labels may be untrusted."""
    write_out(clean_lines(text) + end)


def write_out(text: str) -> None:
    """Write machine-readable output to stdout. Only rank 0 writes.

    If the reader closes the pipe, as head does, the command ends without a message, with the exit code of SIGPIPE.
    """
    if not is_main_process():
        return
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(READER_LEFT) from None


def show_line(text: str) -> None:
    """Show a line that may come from data: control characters are escaped on a terminal, and kept in a pipe."""
    echo(clean_line(text.removesuffix("\n")))


def show_json(result: Any) -> None:
    """Show the result as JSON: control characters as JSON escapes, numbers that are not finite as null."""
    text = json.dumps(nan_to_null(result), ensure_ascii=False, indent=2, allow_nan=False)
    write_out("".join(c if c.isprintable() or c == "\n" else json.dumps(c)[1:-1] for c in text) + "\n")


def show_metrics(figures: dict[str, Any]) -> None:
    """Show held-out metrics, the tables of their task, and how they were computed."""
    from llmkit.pages.blocks import Confusion, Table
    from llmkit.tasks.table import TASKS

    task = TASKS[figures["task"]]
    show_table(Table(("", "", ""), task.describe_figures(figures)))
    tables = task.tables(figures, brief=True)
    for block in tables:
        echo("")
        if isinstance(block, Table | Confusion):
            show_table(block.table if isinstance(block, Confusion) else block)
    method = ", ".join(f"{key} {value}" for key, value in (figures.get("method") or {}).items())
    echo("\n" * bool(tables) + f"{'method':<{NAME_WIDTH}} {clean_line(method)}")


def show_run(result: dict[str, Any], out: Path, splits: tuple[str, ...]) -> None:
    """Show the result of a run: metrics of the first of `splits` that was scored, paths of model and report."""
    split = next((name for name in splits if name in result), None)
    if split is not None:
        if len(splits) > 1:
            echo(f"on the {split} rows")
        show_metrics(result[split])
    echo(f"{'model':<{NAME_WIDTH}} {out / 'model'}\n{'report':<{NAME_WIDTH}} {out / 'report.html'}")


def show_dry_run(result: dict[str, Any], sample: str) -> None:
    """Show the resolved recipe, and the numbers of parameters and samples."""
    counts = f"{result['n_parameters']:,} parameters, {count(result['samples_per_epoch'], sample)} per epoch"
    echo(f"{result['recipe']}\n# {counts}")


def show_series(result: dict[str, Any], task: str, out: Path) -> None:
    """Show several runs per split: mean and standard deviation of each metric, or the learning curve."""
    from llmkit.pages.blocks import Table
    from llmkit.reporting.series import make_tables
    from llmkit.tasks.table import TASKS

    tables = make_tables(result, TASKS[task])
    first = next(iter(result["runs"].values()))
    for split, figures in result.get("summary", {}).items():
        rows = [
            [
                metric.name,
                *(f"{found[what]:.4f}" for what in ("mean", "std", "min", "max")),
                " to ".join(f"{bound:.4f}" for bound in metric.clip(found.get("interval", ()))),
            ]
            for metric in TASKS[task].metrics(first[split]).metrics
            if metric.in_terminal and (found := figures.get(metric.key)) is not None
        ]
        header = ("metric", "mean", "std", "min", "max", "95% interval")
        tables.append(Table(header, rows, f"{split} rows, {len(result['runs'])} runs", numeric=header[1:]))
    for table in tables:
        show_table(table)
        echo("")
    echo(f"{'runs':<{NAME_WIDTH}} {out}\n{'report':<{NAME_WIDTH}} {out / 'report.html'}")


def show_table(table: "Table") -> None:
    """Show a table: styled and fitted to the width of a terminal, or as plain lines of any width in a pipe.

    Control characters in cells are escaped, because cells may come from data.
    """
    # Imported here, because `--help` does not need these libraries.
    from rich import box
    from rich.console import Console
    from rich.table import Table as RichTable
    from rich.text import Text

    from llmkit.pages.blocks import show_value

    is_terminal = sys.stdout.isatty()
    columns = None if is_terminal else PIPE_COLUMNS
    text = io.StringIO()
    out = Console(file=text, force_terminal=is_terminal, width=columns, legacy_windows=False)
    has_header = any(table.header)
    shown = RichTable(box=box.SIMPLE_HEAD if is_terminal and has_header else None, show_header=has_header)
    shown.pad_edge, shown.padding = False, (0, 2, 0, 0)
    for n, (name, is_numeric) in enumerate(zip(table.header, table.is_numeric, strict=True)):
        shown.add_column(
            Text(clean_line(name)), justify="right" if is_numeric else "left", no_wrap=True, overflow="ellipsis",
            min_width=None if n or has_header else NAME_WIDTH, max_width=MAX_CELL if has_header else None,
            style="bold" if n == 1 and not has_header else "", header_style="bold",
        )  # fmt: skip
    for row in table.rows:
        shown.add_row(*(Text(clean_line("" if cell == "" else show_value(cell))) for cell in row))
    if table.title:
        out.print(Text(clean_line(table.title), style="dim"), soft_wrap=True)
    out.print(shown)
    write_out("".join(f"{line.rstrip()}\n" for line in text.getvalue().splitlines()))


def show_receipt(manifest: dict[str, Any]) -> None:
    """Show the receipt of `prepare`, which accounts for every document, character and token."""
    from llmkit.text.cleaning.cleaners import COUNTED_IN_CHARACTERS, MARKS
    from llmkit.text.cleaning.marks import OPTIONS
    from llmkit.text.inputs import list_counts

    read = [source for source in manifest["sources"] if source.get("documents") or not source["skipped"]]
    echo(f"{'sources':<22} {len(read):,}")
    examples = {source["encoding"]: source for source in reversed(read) if source.get("example")}
    for encoding, number in sorted(Counter(source["encoding"] for source in read).items()):
        found = examples.get(encoding)
        example = f', such as {found["path"]}: "{found["example"]}"' if found else ""
        echo(clean_line(f"  {encoding or 'binary format':<20} {number:,}{example}"))
    skipped: Counter[str] = sum((Counter(source["skipped"]) for source in manifest["sources"]), Counter())
    if skipped:
        echo(clean_line(f"{'skipped':<22} {list_counts(skipped)}"))
    for name, step in manifest["steps"].items():
        facts = [f"{step['changed']:,} of {step['documents_in']:,} documents changed"] if step["changed"] else []
        removed = "removed characters" if name in COUNTED_IN_CHARACTERS else "removed"
        for key, what in (("removed", removed), ("dropped", "dropped documents"), ("notes", "notes")):
            if name == MARKS and key == "notes":
                facts += [f"{n:,} {mark} (prepare.clean.{OPTIONS[mark]})" for mark, n in step[key].items()]
            elif any(step.get(key, {}).values()):
                facts.append(f"{what}: {_list(step[key])}")
        if facts:
            echo(f"{name:<22} {'; '.join(facts)}")
    by = "whole documents, by hash" if manifest["split_by"] == "document" else "the tail of each document"
    echo(f"held out               {by} (prepare.split)")
    echo(f"\n{'split':<12}{'documents':>11}{'characters':>14}{'bytes':>14}{'tokens':>14}")
    for name, split in manifest["splits"].items():
        numbers = (split["documents"], split["characters"], split["bytes"], split["tokens"])
        echo(f"{name:<12}{numbers[0]:>11,}" + "".join(f"{number:>14,}" for number in numbers[1:]))
    for name, overlap in manifest["overlap"].items():
        echo(f"{overlap['share']:.2%} of {name} is also in train, counted by passages of 50 letters (16 in Chinese)")
    tokenizer = manifest["tokenizer"]
    echo(
        f"tokenizer {tokenizer['kind']}, {tokenizer['vocab_size']:,} entries, "
        f"{manifest['bytes_per_token']:.2f} bytes per token"
    )
    n_unknown = sum(split["unknown_tokens"] for split in manifest["splits"].values())
    if n_unknown:
        n_tokens = sum(split["tokens"] for split in manifest["splits"].values())
        echo(f"{'unknown tokens':<22} {n_unknown:,} ({n_unknown / n_tokens:.2%}){_describe_unknown(manifest)}")
    if manifest["sentences"]:
        n_sentences, n_tokens = (sum(s[key] for s in manifest["splits"].values()) for key in ("sentences", "tokens"))
        mean = f"{n_tokens / max(1, n_sentences):.0f} tokens each"
        echo(f"{'sentences':<22} {n_sentences:,}, {mean}; Chinese words by {manifest['sentences']['chinese_words']}")
    for note in manifest["notes"]:
        echo(clean_line(note))
    for sample in manifest["samples"]:
        echo(f"sample: {clean_line(sample)}")


def _describe_unknown(manifest: dict[str, Any]) -> str:
    """Return the fraction of unknown characters, with examples; empty for folders of older versions."""
    from llmkit.tokens.unknown import describe_unknown

    splits = list(manifest["splits"].values())
    if not all("unknown_characters" in split for split in splits):
        return ""
    n_unknown, n_characters = (sum(split[key] for split in splits) for key in ("unknown_characters", "characters"))
    examples: list[str] = next((split["unknown_examples"] for split in splits if split.get("unknown_examples")), [])
    return f"; {describe_unknown(n_unknown, n_characters, examples)}"


def _list(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{n:,} {clean_line(reason)}" for reason, n in counts.items() if n)
