"""How results reach the user: readable lines, or JSON on stdout for programs."""

import json
import os
import sys
from collections import Counter
from collections.abc import Mapping
from typing import Any

import typer

from llmkit.core.console import clean_line, clean_lines
from llmkit.core.distributed import is_main_process


def echo(text: str, end: str = "\n") -> None:
    """Write lines for people to stdout; texts, names and labels in them may come from strangers."""
    write_out(clean_lines(text) + end)


def write_out(text: str) -> None:
    """Write to stdout what a program reads. A reader that has enough, such as head, ends the command in peace.

    Of several ranks the first alone writes.
    """
    if not is_main_process():
        return
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit from None


def show_line(text: str) -> None:
    """A line that may come from data, made harmless for a terminal; what is piped stays as it is."""
    echo(clean_line(text.removesuffix("\n")))


def show_json(result: Any) -> None:
    """The result for a program; what a terminal could take for a command is written as JSON's escapes."""
    text = json.dumps(result, ensure_ascii=False, indent=2, allow_nan=False)
    write_out("".join(c if c.isprintable() or c == "\n" else json.dumps(c)[1:-1] for c in text) + "\n")


def show_metrics(figures: dict[str, Any]) -> None:
    """Held-out figures, as their task shows them, and how they were computed."""
    from llmkit.tasks.table import TASKS

    for line in TASKS[figures["task"]].describe_figures(figures):
        echo(line)


def show_series(result: dict[str, Any], task: str, out: object) -> None:
    """Mean and standard deviation of each figure over several runs, split by split."""
    from llmkit.tasks.table import TASKS

    first = next(iter(result["runs"].values()))
    for split, figures in result["summary"].items():
        metrics = TASKS[task].metrics(first[split])
        echo(f"{split} rows, {len(result['runs'])} runs")
        echo(f"{'':<{metrics.width}}{'mean':>10}{'std':>10}{'lowest':>10}{'highest':>10}")
        for metric in metrics.metrics:
            if metric.in_terminal and (found := figures.get(metric.key)) is not None:
                shown = "".join(f"{found[what]:>10.4f}" for what in ("mean", "std", "min", "max"))
                echo(f"{metric.name:<{metrics.width}}{shown}")
        echo("")
    echo(f"{'runs':<24} {out}")


def show_receipt(manifest: dict[str, Any]) -> None:
    """What `prepare` did: every document, character and token accounted for."""
    echo(f"{'sources':<22} {len(manifest['sources']):,}")
    for encoding, number in sorted(Counter(source["encoding"] for source in manifest["sources"]).items()):
        echo(f"  {encoding or 'own format':<20} {number:,}")
    skipped: Counter[str] = sum((Counter(source["skipped"]) for source in manifest["sources"]), Counter())
    if skipped:
        echo(f"{'skipped':<22} {_list(skipped)}")
    for name, step in manifest["steps"].items():
        facts = [f"{step['changed']:,} of {step['documents_in']:,} documents changed"] if step["changed"] else []
        facts += [f"{kind}: {_list(step[kind])}" for kind in ("removed", "dropped") if step[kind]]
        if facts:
            echo(f"{name:<22} {'; '.join(facts)}")
    by = "whole documents, by hash" if manifest["split_by"] == "document" else "the tail of each document"
    echo(f"held out               {by} (prepare.split)")
    echo(f"\n{'split':<12}{'documents':>11}{'characters':>14}{'bytes':>14}{'tokens':>14}")
    for name, split in manifest["splits"].items():
        numbers = (split["documents"], split["characters"], split["bytes"], split["tokens"])
        echo(f"{name:<12}{numbers[0]:>11,}" + "".join(f"{number:>14,}" for number in numbers[1:]))
    for name, overlap in manifest["overlap"].items():
        echo(f"{overlap['share']:.2%} of {name} stands in train too")
    tokenizer = manifest["tokenizer"]
    echo(
        f"tokenizer {tokenizer['kind']}, {tokenizer['vocab_size']:,} entries, "
        f"{manifest['bytes_per_token']:.2f} bytes a token"
    )
    n_unknown = sum(split["unknown_tokens"] for split in manifest["splits"].values())
    if n_unknown:
        n_tokens = sum(split["tokens"] for split in manifest["splits"].values())
        echo(f"{'unknown tokens':<22} {n_unknown:,} ({n_unknown / n_tokens:.2%})")
    if manifest["sentences"]:
        n_sentences, n_tokens = (sum(s[key] for s in manifest["splits"].values()) for key in ("sentences", "tokens"))
        mean = f"{n_tokens / max(1, n_sentences):.0f} tokens each"
        echo(f"{'sentences':<22} {n_sentences:,}, {mean}; Chinese words by {manifest['sentences']['chinese_words']}")
    for note in manifest["notes"]:
        echo(clean_line(note))
    for sample in manifest["samples"]:
        echo(f"sample: {clean_line(sample)}")


def _list(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {clean_line(reason)}" for reason, count in counts.items())
