"""How results reach the user: readable lines, or JSON on stdout for programs."""

import json
import os
import sys
from collections import Counter
from collections.abc import Mapping
from typing import Any

import typer

from llmkit.cli.class_output import describe_classes, is_of_classifier
from llmkit.core.errors import clean_line, clean_lines
from llmkit.core.ranks import is_first

SCORES = (
    ("bits_per_byte", "bits per byte", "{:.4f}"),
    ("bits_per_character", "bits per character", "{:.4f}"),
    ("loss", "loss, nats a token", "{:.4f}"),
    ("perplexity", "perplexity a token", "{:,.3f}"),
    ("word_perplexity", "perplexity a word", "{:,.3f}"),
    ("accuracy", "next-token accuracy", "{:.2%}"),
    ("n_tokens", "over tokens", "{:,}"),
    ("n_words", "over words", "{:,}"),
    ("n_bytes", "over bytes", "{:,}"),
)
MASKED_SCORES = (
    ("mlm_loss", "loss, nats a masked token", "{:.4f}"),
    ("mlm_perplexity", "perplexity, masked tokens", "{:,.3f}"),
    ("mlm_accuracy", "masked-token accuracy", "{:.2%}"),
    ("mlm_baseline_accuracy", "  always the commonest", "{:.2%}"),
    ("mlm_top5_accuracy", "  among the best five", "{:.2%}"),
    ("n_masked", "  over masked tokens", "{:,}"),
    ("nsp_loss", "next sentence, nats", "{:.4f}"),
    ("nsp_accuracy", "next-sentence accuracy", "{:.2%}"),
    ("nsp_baseline_accuracy", "  always the commoner", "{:.2%}"),
    ("sop_loss", "sentence order, nats", "{:.4f}"),
    ("sop_accuracy", "sentence-order accuracy", "{:.2%}"),
    ("sop_baseline_accuracy", "  always the commoner", "{:.2%}"),
    ("n_pairs", "  over pairs", "{:,}"),
    ("pseudo_perplexity", "pseudo-perplexity", "{:,.3f}"),
)
"""Shown in place of SCORES for a masked language model; each accuracy beside its baseline."""


def echo(text: str, end: str = "\n") -> None:
    """Write lines for people to stdout; texts, names and labels in them may come from strangers."""
    write_out(clean_lines(text) + end)


def write_out(text: str) -> None:
    """Write to stdout what a program reads. A reader that has enough, such as head, ends the command in peace.

    Of several ranks the first alone writes.
    """
    if not is_first():
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


def show_metrics(metrics: dict[str, Any]) -> None:
    """Held-out figures, one a line, and how they were computed."""
    if is_of_classifier(metrics):
        for line in describe_classes(metrics):
            echo(line)
        return
    scores = MASKED_SCORES if "mlm_loss" in metrics else SCORES
    width = 26 if "mlm_loss" in metrics else 22
    for key, name, form in scores:
        if metrics.get(key) is not None:
            echo(f"{name:<{width}} {form.format(metrics[key])}")
    for key, confusion in metrics.items():
        if key.endswith("_confusion"):
            _show_confusion(confusion, width)
    for record in metrics.get("documents", []):
        place = clean_line(f"{record['source']} {record['index']}")
        echo(f"{'':<{width}} {record['pseudo_perplexity']:,.3f} over {record['n_tokens']:,} tokens of {place}")
    method = metrics.get("method", {})
    echo(f"{'method':<{width}} " + ", ".join(f"{key} {value}" for key, value in method.items()))


def _show_confusion(confusion: dict[str, dict[str, int]], width: int) -> None:
    """True kinds down, guessed kinds across."""
    echo(f"{'  true, then guessed as':<{width}}" + "".join(f"{name:>10}" for name in confusion))
    for name, row in confusion.items():
        echo(f"{'  ' + name:<{width}}" + "".join(f"{count:>10,}" for count in row.values()))


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
