"""Write a run's report.html: one file that opens anywhere, without network, and says what the run is worth.

The result comes first, then what it stands on: curves, samples, data, recipe, metrics, machine. A run
that is not finished gives a page too, which says what is missing.

Knows nothing of torch; reading is in run_record.py, drawing in charts.py, markup in page.py.
"""

import json
import math
import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path

from llmkit.errors import EnvironmentFault
from llmkit.evaluation.charts import Curve, draw_chart, smooth
from llmkit.evaluation.page import Html, join, pairs, render_page, section, table, tag
from llmkit.evaluation.report_data import render_data
from llmkit.evaluation.run_record import Record, RunRecord, get_number, get_section, read_run

HEADLINES = (
    ("bits_per_byte", "bits per byte", "compares across tokenizers"),
    ("perplexity", "perplexity", "per token"),
    ("loss", "loss", "nats a token"),
    ("accuracy", "accuracy", "share of right guesses"),
    ("mlm_loss", "masked-token loss", "nats a masked token"),
    ("mlm_accuracy", "masked-token accuracy", "share of right guesses"),
    ("nsp_accuracy", "next-sentence accuracy", "share of right guesses"),
    ("f1_macro", "F1, macro", "mean over labels"),
)
"""Key in metrics.json, its name, what it is: the first four that the run has make the top of the page."""

CHARTS = (
    # title, unit, key in train records, key in eval records, whether the axis starts at zero
    ("Loss", "nats a token", "loss", "loss", False),
    ("Held-out bits per byte", "", None, "bits_per_byte", False),
    ("Held-out masked-token accuracy", "", None, "mlm_accuracy", False),
    ("Learning rate", "", "learning_rate", None, True),
    ("Gradient norm", "before clipping", "grad_norm", None, True),
    ("Tokens a second", "", "tokens_per_second", None, True),
    ("MFU", "share of the machine's peak", "mfu", None, True),
)

_HELD_OUT_LOOKS = ("orange", "green", "violet")
_SMOOTHED_FROM = 40
"""Train records from which the loss is smoothed; fewer are read well as they are."""
_MOST_EARLIER_SAMPLES = 20


def write_report(run: Path) -> Path:
    """Write `run/report.html` from what lies in the run folder, and return its path.

    UsageError if `run` is no run folder, EnvironmentFault if the file cannot be written.
    """
    record = read_run(run)
    path = run / "report.html"
    page = render_page(
        f"{record.name} · llmkit",
        _render_header(record),
        _render_result(record),
        _render_curves(record),
        _render_samples(record),
        render_data(get_section(record.manifest, "data")),
        _render_recipe(record),
        _render_metrics(record),
        _render_machine(record),
    )
    unfinished = run / "report.html.tmp"
    try:
        unfinished.write_text(page, encoding="utf-8")
        unfinished.replace(path)
    except OSError as error:
        unfinished.unlink(missing_ok=True)
        raise EnvironmentFault(
            f"the report cannot be written: {error.strerror}", where=str(path), hint="check rights and free space there"
        ) from error
    return path


def _render_header(record: RunRecord) -> Html:
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
    missing = [*record.missing, *_find_non_finite(record)]
    return tag(
        "header",
        tag("h1", record.name),
        tag("p", " · ".join(str(fact) for fact in facts if fact), class_="quiet"),
        tag("div", tag("p", "Not all is there"), _list(missing), class_="missing") if missing else None,
    )


def _render_result(record: RunRecord) -> Html:
    split, result, origin = _choose_result(record)
    shown = [(get_number(result, key), key, name, note) for key, name, note in HEADLINES]
    figures = [
        tag("div", tag("span", name), tag("b", _show_headline(key, value)), tag("span", note), class_="figure")
        for value, key, name, note in shown
        if value is not None
    ]
    if not figures:
        return section("Held-out result", tag("p", "Nothing has been measured on held-out text yet.", class_="quiet"))
    sizes = ((get_number(result, key), noun) for key, noun in (("n_tokens", "tokens"), ("n_bytes", "bytes")))
    over = " and ".join(f"{n:,.0f} {noun}" for n, noun in sizes if n is not None)
    method = result.get("method")
    basis = f"On the {split} split" + (f", over {over}" if over else "") + (f"; method: {method}" if method else "")
    return section(
        "Held-out result",
        tag("div", *figures[:4], class_="figures"),
        tag("p", f"{basis}. {origin}".strip(), class_="quiet"),
    )


def _choose_result(record: RunRecord) -> tuple[str, Record, str]:
    """The split to judge the run by, its metrics, and a word on where they are from."""
    measured = [name for name in record.metrics if name not in ("train", "training")]
    for split in sorted(measured, key=lambda name: {"test": 0, "validation": 1}.get(name, 2)):
        result = get_section(record.metrics, split)
        if any(get_number(result, key) is not None for key, _, _ in HEADLINES):
            return split, result, ""
    for logged in reversed(record.log.get("eval", [])):
        return (
            str(logged.get("split", "held-out")),
            logged,
            f"This is the last evaluation in the log, at step {logged['step']:,}, not a final one.",
        )
    return "", {}, ""


def _render_curves(record: RunRecord) -> Html:
    figures, absent = [], []
    for title, unit, train_key, eval_key, from_zero in CHARTS:
        curves = [*_make_train_curves(record, train_key), *_make_eval_curves(record, eval_key)]
        if curves:
            figures.append(draw_chart(title, unit, curves, from_zero=from_zero))
        elif eval_key != "mlm_accuracy":
            absent.append(title if title.isupper() else title.lower())
    return section(
        "Curves",
        tag("div", *figures, class_="charts") if figures else None,
        tag("p", f"Not in the log: {', '.join(absent)}.", class_="quiet") if absent else None,
    )


def _make_train_curves(record: RunRecord, key: str | None) -> list[Curve]:
    steps, values = _pick(record.log.get("train", []), key)
    if not values:
        return []
    if key != "loss" or len(values) < _SMOOTHED_FROM:
        return [Curve("training", steps, values)]
    window = max(5, len(values) // 25) | 1
    mean = Curve(f"mean of {window}", steps, smooth(values, window))
    return [Curve("training", steps, values, "faint"), mean]


def _make_eval_curves(record: RunRecord, key: str | None) -> list[Curve]:
    records = record.log.get("eval", [])
    curves = []
    splits = list(dict.fromkeys(str(evaluation.get("split", "held-out")) for evaluation in records))
    for split, look in zip(splits, _HELD_OUT_LOOKS, strict=False):
        steps, values = _pick([r for r in records if str(r.get("split", "held-out")) == split], key)
        if values:
            curves.append(Curve(split, steps, values, look))
    return curves


def _pick(records: Sequence[Record], key: str | None) -> tuple[list[float], list[float]]:
    """Steps and values of the records that have a finite number under the key."""
    if key is None:
        return [], []
    found = [(float(record["step"]), get_number(record, key)) for record in records]
    return [step for step, value in found if value is not None], [value for _, value in found if value is not None]


def _find_non_finite(record: RunRecord) -> list[str]:
    """One line for each logged quantity that was infinite or not a number at some step."""
    lines = []
    for kind in ("train", "eval"):
        steps: dict[str, list[int]] = {}
        for logged in record.log.get(kind, []):
            for key, value in logged.items():
                if isinstance(value, float) and not math.isfinite(value):
                    steps.setdefault(key, []).append(int(logged["step"]))
        for key, at in steps.items():
            times = f" and {len(at) - 1} more times" if len(at) > 1 else ""
            lines.append(f"{kind} {key} is not finite at step {at[0]:,}{times}; the curve leaves this out")
    return lines


def _render_samples(record: RunRecord) -> Html | None:
    samples = record.log.get("sample", [])
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
        tag("pre", record.recipe) if record.recipe else tag("p", "No recipe was found.", class_="quiet"),
    )


def _render_metrics(record: RunRecord) -> Html | None:
    splits = {name: _flatten(part) for name, part in record.metrics.items() if isinstance(part, dict)}
    training = splits.pop("training", {})
    training |= {name: value for name, value in record.metrics.items() if not isinstance(value, dict)}
    names = list(dict.fromkeys(key for part in splits.values() for key in part))
    notes = record.log.get("note", [])
    if not splits and not training and not notes:
        return None
    return section(
        "Metrics",
        table(["", *splits], [[name, *(part.get(name) for part in splits.values())] for name in names])
        if names
        else None,
        tag("h3", "Training") if training or notes else None,
        pairs(training.items()) if training else None,
        _list(f"step {note['step']:,}: {note.get('text', '')}" for note in notes) if notes else None,
    )


def _render_machine(record: RunRecord) -> Html | None:
    machine = get_section(record.manifest, "machine")
    versions = {"llmkit": record.manifest.get("llmkit"), **get_section(record.manifest, "versions")}
    if not machine and not any(versions.values()):
        return None
    return section(
        "Machine and versions",
        pairs((name.replace("_", " "), value) for name, value in machine.items()),
        pairs(versions.items()),
    )


def show_duration(seconds: float) -> str:
    """`57 s`, `3 min 5 s`, `2 h 10 min`."""
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if minutes else f"{rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def _show_headline(key: str, value: float) -> str:
    if key.endswith("accuracy"):
        return f"{100 * value:.2f} %"
    return f"{value:,.2f}" if key == "perplexity" else f"{value:.4f}"


def _flatten(part: Record, prefix: str = "") -> Record:
    """One level of names, joined by dots; lists as JSON."""
    flat: Record = {}
    for key, value in part.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict):
            flat |= _flatten(value, f"{name}.")
        else:
            flat[name] = json.dumps(value, ensure_ascii=False) if isinstance(value, list) else value
    return flat


def _list(items: Iterable[object]) -> Html:
    return tag("ul", *(tag("li", item) for item in items))
