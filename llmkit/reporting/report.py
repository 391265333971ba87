"""Write a run's report.html: one file that opens anywhere, without network, and says what the run is worth.

The result comes first, then what it stands on: curves, samples, data, recipe, metrics, machine. A run
that is not finished gives a page too, which says what is missing.

Loads no torch. What a run's task adds is behind its contract (tasks/base.py); reading is in training/run_record.py,
markup in pages/, the two largest parts in report_curves.py and report_data.py.
"""

import json
import shlex
from collections.abc import Iterable
from pathlib import Path

from llmkit.core.errors import EnvironmentFault
from llmkit.core.files import write_text
from llmkit.pages.page import Html, join, pairs, render_page, section, show_duration, table, tag
from llmkit.reporting.report_curves import find_non_finite, render_curves
from llmkit.reporting.report_data import render_data
from llmkit.tasks.base import Task
from llmkit.tasks.table import describe_run, task_of_run
from llmkit.training.run_record import Record, RunRecord, get_number, get_section, read_run

_NOT_SPLITS = ("train", "training")
_SIZES = (("n_rows", "rows"), ("n_tokens", "tokens"), ("n_bytes", "bytes"))
_MAX_EARLIER_SAMPLES = 20
_MAX_LIST_ITEMS = 300


def write_report(run: Path, *, title: str | None = None) -> Path:
    """Write `run/report.html` from what lies in the run folder, and return its path.

    The title is the run folder's name unless given.

    Raises:
        ModelError: `run` is not a run folder.
        EnvironmentFault: the file cannot be written.
    """
    record = read_run(run)
    path = run / "report.html"
    task = task_of_run(record)
    metrics = task.metrics(describe_run(record))
    split, result, _ = _choose_result(record, task)
    page = render_page(
        title or record.name,
        _render_header(record, title or record.name),
        _render_result(record, task),
        *task.render_sections(record, split, result, metrics),
        render_curves(record, metrics),
        _render_samples(record, task),
        render_data(get_section(record.manifest, "data")),
        _render_recipe(record),
        _render_metrics(record, task),
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


def _render_result(record: RunRecord, task: Task) -> Html:
    split, result, origin = _choose_result(record, task)
    notes = record.log.get("note", [])
    figures = [
        tag(
            "div",
            tag("span", metric.title or metric.name),
            tag("b", metric.show_on_page(value)),
            tag("span", task.note_headline(result, metric)),
            class_="figure",
        )
        for metric in task.metrics(describe_run(record)).headlines
        if (value := get_number(result, metric.key)) is not None
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
        *task.render_result(result),
    )


def _describe_method(method: object) -> str:
    """`block-wise, block size 256, stride 256`."""
    if not isinstance(method, dict):
        return str(method or "")
    words = (f"{key.replace('_', ' ')} {value}" for key, value in method.items() if key not in ("windows", "split"))
    return ", ".join([str(method.get("windows", "")), *words]).removeprefix(", ")


def _choose_result(record: RunRecord, task: Task) -> tuple[str, Record, str]:
    """The split to judge the run by, its metrics, and a word on where they are from."""
    headlines = task.metrics(describe_run(record)).headlines
    measured = [name for name in record.metrics if name not in _NOT_SPLITS]
    for split in sorted(measured, key=lambda name: {"test": 0, "validation": 1}.get(name, 2)):
        result = get_section(record.metrics, split)
        if any(get_number(result, metric.key) is not None for metric in headlines):
            return split, result, ""
    for logged in reversed(record.log.get("eval", [])):
        return (
            str(logged.get("split", "held-out")),
            logged,
            f"This is the last evaluation in the log, at step {logged['step']:,}, not a final one.",
        )
    return "", {}, ""


def _render_samples(record: RunRecord, task: Task) -> Html | None:
    samples = record.log.get("sample", [])
    if not samples and not task.writes_samples:
        return None
    if not samples:
        return section("Samples", tag("p", "No samples have been logged.", class_="quiet"))
    last = [sample for sample in samples if sample["step"] == samples[-1]["step"]]
    earlier = samples[: -len(last)]
    shown = earlier[:: max(1, len(earlier) // _MAX_EARLIER_SAMPLES + 1)]
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


def _render_metrics(record: RunRecord, task: Task) -> Html | None:
    above = _choose_result(record, task)[0]
    splits = {
        name: _flatten(task.shorten(part, is_above=name == above) if name not in _NOT_SPLITS else part)
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
    short = len(shown) <= _MAX_LIST_ITEMS and not any(isinstance(value, dict) for value in values)
    return shown if short else f"{len(values):,} entries, in metrics.json"


def _list(items: Iterable[object]) -> Html:
    return tag("ul", *(tag("li", item) for item in items))
