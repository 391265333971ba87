"""Write a run's report.html: one file that opens anywhere, without network, and says what the run is worth.

The result comes first, then what it stands on: curves, samples, data, recipe, metrics, machine. A run
that is not finished gives a page too, which says what is missing.

Knows nothing of torch; reading is in run_record.py, markup in page.py, the two largest parts in
report_curves.py and report_data.py.
"""

import json
import shlex
from collections.abc import Iterable
from pathlib import Path

from llmkit.core.errors import EnvironmentFault
from llmkit.core.files import write_text
from llmkit.reporting.page import Html, join, pairs, render_page, section, show_duration, table, tag
from llmkit.reporting.report_classes import (
    choose_headlines,
    describe_interval,
    render_classes,
    render_other_mistakes,
    shorten_metrics,
)
from llmkit.reporting.report_curves import find_non_finite, render_curves
from llmkit.reporting.report_data import render_data
from llmkit.reporting.run_record import Record, RunRecord, get_number, get_section, read_run

HEADLINES = (
    ("bits_per_byte", "bits per byte", "compares across tokenizers"),
    ("perplexity", "perplexity", "per token"),
    ("loss", "loss", "nats a token"),
    ("accuracy", "accuracy", "share of right guesses"),
)
"""Key in metrics.json, its name, what it is: the first four that the run has make the top of the page.

Those of classifiers are in report_classes.py.
"""

MASKED_HEADLINES = (
    ("mlm_accuracy", "masked-token accuracy", "share of right guesses"),
    ("mlm_perplexity", "perplexity", "per masked token"),
    ("nsp_accuracy", "next-sentence accuracy", "share of right guesses"),
    ("sop_accuracy", "sentence-order accuracy", "share of right guesses"),
    ("mlm_loss", "masked-token loss", "nats a masked token"),
)
"""The same for a masked language model, whose `loss` is the sum of two."""

_SIZES = (("n_rows", "rows"), ("n_tokens", "tokens"), ("n_bytes", "bytes"))
_MOST_EARLIER_SAMPLES = 20
_LONGEST_LIST = 300


def write_report(run: Path, *, title: str | None = None) -> Path:
    """Write `run/report.html` from what lies in the run folder, and return its path.

    The title is the run folder's name unless given.

    Raises:
        ModelError: `run` is not a run folder.
        EnvironmentFault: the file cannot be written.
    """
    record = read_run(run)
    path = run / "report.html"
    split, result, _ = _choose_result(record)
    page = render_page(
        title or record.name,
        _render_header(record, title or record.name),
        _render_result(record),
        render_classes(result),
        render_other_mistakes(record.metrics, split),
        render_curves(record),
        _render_samples(record),
        render_data(get_section(record.manifest, "data")),
        _render_recipe(record),
        _render_metrics(record),
        _render_machine(record),
    )
    try:
        write_text(path, page)
    except OSError as error:
        raise EnvironmentFault(
            f"the report cannot be written: {error.strerror}", where=str(path), hint="check rights and free space there"
        ) from error
    return path


def _render_header(record: RunRecord, title: str) -> Html:
    model = get_section(record.manifest, "model")
    n_parameters = get_number(model, "n_parameters")
    seconds = get_number(get_section(record.metrics, "training"), "seconds")
    facts = (
        model.get("family"),
        f"{n_parameters:,.0f} parameters" if n_parameters is not None else None,
        record.manifest.get("precision"),
        f"trained for {show_duration(seconds)}" if seconds is not None else None,
        record.manifest.get("created"),
    )
    missing = [*record.missing, *find_non_finite(record)]
    return tag(
        "header",
        tag("h1", title),
        tag("p", " · ".join(str(fact) for fact in facts if fact), class_="quiet"),
        tag("div", tag("p", "Not all is there"), _list(missing), class_="missing") if missing else None,
    )


def _render_result(record: RunRecord) -> Html:
    split, result, origin = _choose_result(record)
    headlines = _choose_headlines(result)
    shown = [(get_number(result, key), key, name, _note(result, key, note)) for key, name, note in headlines]
    notes = record.log.get("note", [])
    figures = [
        tag("div", tag("span", name), tag("b", _show_headline(key, value)), tag("span", note), class_="figure")
        for value, key, name, note in shown
        if value is not None
    ]
    if not figures:
        return section("Held-out result", tag("p", "Nothing has been measured on held-out text yet.", class_="quiet"))
    sizes = ((get_number(result, key), noun) for key, noun in _SIZES)
    over = " and ".join(f"{n:,.0f} {noun}" for n, noun in sizes if n is not None)
    method = _describe_method(result.get("method"))
    basis = f"On the {split} split" + (f", over {over}" if over else "") + (f"; {method}" if method else "")
    return section(
        "Held-out result",
        tag("div", *figures[:4], class_="figures"),
        tag("p", f"{basis}. {origin}".strip(), class_="quiet"),
        tag("div", _list(str(note.get("text", "")) for note in notes), class_="missing") if notes else None,
        *(_render_confusion(confusion) for key, confusion in result.items() if key.endswith("_confusion")),
    )


def _choose_headlines(result: Record) -> tuple[tuple[str, str, str], ...]:
    return MASKED_HEADLINES if "mlm_loss" in result else choose_headlines(result) or HEADLINES


def _note(result: Record, key: str, note: str) -> str:
    """How sure a figure is, and what it is; an accuracy stands beside what a constant guess reaches."""
    baseline = get_number(result, key.replace("accuracy", "baseline_accuracy")) if key.endswith("accuracy") else None
    meaning = note if baseline is None else f"{100 * baseline:.2f} % by a constant guess"
    interval = describe_interval(result, key)
    return f"{interval}; {meaning}" if interval else meaning


def _render_confusion(confusion: object) -> Html | None:
    """True kinds down, guessed kinds across."""
    if not isinstance(confusion, dict):
        return None
    kinds = [kind.replace("_", " ") for kind in confusion]
    rows = [[kind, *row.values()] for kind, row in zip(kinds, confusion.values(), strict=True)]
    return table(["true, then guessed as", *kinds], rows)


def _describe_method(method: object) -> str:
    """`block-wise, block size 256, stride 256`."""
    if not isinstance(method, dict):
        return str(method or "")
    words = (f"{key.replace('_', ' ')} {value}" for key, value in method.items() if key not in ("windows", "split"))
    return ", ".join([str(method.get("windows", "")), *words]).removeprefix(", ")


def _choose_result(record: RunRecord) -> tuple[str, Record, str]:
    """The split to judge the run by, its metrics, and a word on where they are from."""
    measured = [name for name in record.metrics if name not in ("train", "training")]
    for split in sorted(measured, key=lambda name: {"test": 0, "validation": 1}.get(name, 2)):
        result = get_section(record.metrics, split)
        if any(get_number(result, key) is not None for key, _, _ in _choose_headlines(result)):
            return split, result, ""
    for logged in reversed(record.log.get("eval", [])):
        return (
            str(logged.get("split", "held-out")),
            logged,
            f"This is the last evaluation in the log, at step {logged['step']:,}, not a final one.",
        )
    return "", {}, ""


def _render_samples(record: RunRecord) -> Html | None:
    samples = record.log.get("sample", [])
    if not samples and record.manifest.get("objective") == "cls":
        return None  # a classifier writes no text
    if not samples:
        return section("Samples", tag("p", "No samples have been logged.", class_="quiet"))
    last = [sample for sample in samples if sample["step"] == samples[-1]["step"]]
    earlier = samples[: -len(last)]
    shown = earlier[:: max(1, len(earlier) // _MOST_EARLIER_SAMPLES + 1)]
    title = f"{len(shown)} of {len(earlier)} earlier samples" if len(shown) < len(earlier) else "Earlier samples"
    return section(
        "Samples",
        *map(_render_sample, last),
        tag("details", tag("summary", title), *map(_render_sample, shown)) if shown else None,
    )


def _render_sample(sample: Record) -> Html:
    prompt, text = str(sample.get("prompt") or ""), str(sample.get("text") or "")
    continuation = text.removeprefix(prompt)
    return join(
        (
            tag("h3", f"Step {sample['step']:,}"),
            tag("pre", tag("mark", prompt) if prompt else None, continuation, class_="sample", dir="auto"),
        )
    )


def _render_recipe(record: RunRecord) -> Html:
    command = record.manifest.get("command")
    given = shlex.join(map(str, command)) if isinstance(command, list) else command
    return section(
        "Recipe",
        tag("pre", given) if given else None,
        tag("details", tag("summary", "recipe.yaml"), tag("pre", record.recipe), open=True)
        if record.recipe
        else tag("p", "No recipe was found.", class_="quiet"),
    )


def _render_metrics(record: RunRecord) -> Html | None:
    above = _choose_result(record)[0]
    splits = {
        name: _flatten(shorten_metrics(part, is_above=name == above))
        for name, part in record.metrics.items()
        if isinstance(part, dict)
    }
    training = splits.pop("training", {})
    training |= {name: value for name, value in record.metrics.items() if not isinstance(value, dict)}
    names = list(dict.fromkeys(key for part in splits.values() for key in part))
    if not splits and not training:
        return None
    return section(
        "Metrics",
        table(["metric", *splits], [[name, *(part.get(name) for part in splits.values())] for name in names])
        if names
        else None,
        tag("h3", "Training") if training else None,
        pairs(_flatten(training).items()) if training else None,
    )


def _render_machine(record: RunRecord) -> Html | None:
    machine = get_section(record.manifest, "machine")
    versions = get_section(record.manifest, "versions")
    if not machine and not versions:
        return None
    return section(
        "Machine and versions",
        pairs((name.replace("_", " "), value) for name, value in machine.items()),
        pairs(versions.items()),
    )


def _show_headline(key: str, value: float) -> str:
    if key.endswith("accuracy"):
        return f"{100 * value:.2f} %"
    return f"{value:,.2f}" if key.endswith("perplexity") else f"{value:.4f}"


def _flatten(part: Record, prefix: str = "") -> Record:
    """One level of names, joined by dots; short lists as JSON, of long ones and of records their length."""
    flat: Record = {}
    for key, value in part.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict):
            flat |= _flatten(value, f"{name}.")
        else:
            flat[name] = _show_list(value) if isinstance(value, list) else value
    return flat


def _show_list(values: list[object]) -> str:
    shown = json.dumps(values, ensure_ascii=False)
    short = len(shown) <= _LONGEST_LIST and not any(isinstance(value, dict) for value in values)
    return shown if short else f"{len(values):,} entries, in metrics.json"


def _list(items: Iterable[object]) -> Html:
    return tag("ul", *(tag("li", item) for item in items))
