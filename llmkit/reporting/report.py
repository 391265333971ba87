"""Write a run's report.html: the held-out result, then curves, samples, data, recipe, metrics and machine.

The page is one file that needs no network. For an unfinished run, the page lists what is missing. A task adds its own
tables and sections through its contract (tasks/base.py).

Does not import torch.
"""

import json
import shlex
from pathlib import Path

from llmkit.core import console
from llmkit.core.errors import EnvironmentFault
from llmkit.core.files import write_text
from llmkit.pages.blocks import (
    Block,
    Facts,
    Fold,
    Headlines,
    Notice,
    Paragraph,
    Preformatted,
    Section,
    Table,
    show_duration,
)
from llmkit.pages.page import render_page
from llmkit.reporting.report_curves import find_non_finite, make_curves
from llmkit.reporting.report_data import make_data
from llmkit.reporting.series import is_series, make_series_sections
from llmkit.tasks.base import Task
from llmkit.tasks.table import describe_run, task_of_run
from llmkit.training.run_record import Record, RunRecord, get_number, get_section, read_run

_NOT_SPLITS = ("train", "training")
_SIZES = (("n_rows", "rows"), ("n_tokens", "tokens"), ("n_bytes", "bytes"))
_MAX_HEADLINES = 4
_MAX_EARLIER_SAMPLES = 20
_MAX_LIST_CHARS = 300
_MAX_OPEN_METRICS = 20


def write_report(run: Path, *, title: str | None = None) -> Path:
    """Write `run/report.html` from the files in the run folder, and return its path.

    The title is the run folder's name unless given.

    Raises:
        ModelError: `run` is not a run folder.
        EnvironmentFault: the file cannot be written.
    """
    record = read_run(run)
    path = run / "report.html"
    without = "no log.jsonl" if is_series(record) else "\0"  # a series has no log of its own
    damage = [line for line in record.missing if not line.startswith(without)]
    for line in damage:
        console.info(f"{path} is incomplete: {line}")
    missing = [*damage, *find_non_finite(record)]
    notice = [Notice("This report is incomplete", missing)] if missing else []
    page = render_page(title or record.name, _describe_run(record), notice, make_sections(run, record))
    try:
        write_text(path, page)
    except OSError as error:
        raise EnvironmentFault(
            f"the report cannot be written: {error.strerror}",
            where=str(path),
            hint="check permissions and free space there",
        ) from error
    return path


def make_sections(run: Path, record: RunRecord) -> list[Section]:
    """Return the sections of the report that are not empty; `run` is the folder of the record."""
    task = task_of_run(record)
    if is_series(record):
        sections = [*make_series_sections(run, record, task), _make_recipe(record)]
        return [each for each in sections if each.blocks]
    metrics = task.metrics(describe_run(record))
    split, result, origin = _choose_result(record, task)
    sections = [
        _make_result(record, task, split, result, origin),
        *task.sections(record, split, result, metrics),
        make_curves(record, metrics),
        _make_samples(record, task),
        make_data(get_section(record.manifest, "data")),
        _make_recipe(record),
        _make_metrics(record, task, split),
        _make_machine(record),
    ]
    return [each for each in sections if each.blocks]


def _describe_run(record: RunRecord) -> str:
    model = get_section(record.manifest, "model")
    n_parameters = get_number(model, "n_parameters")
    seconds = get_number(get_section(record.metrics, "training"), "seconds")
    facts = (
        model.get("family"),
        f"{n_parameters:,.0f} parameters" if n_parameters is not None else None,
        record.manifest.get("precision"),
        f"trained for {show_duration(seconds)}" if seconds is not None else None,
        str(record.manifest.get("created") or "")[:10],
    )
    return " · ".join(str(fact) for fact in facts if fact)


def _choose_result(record: RunRecord, task: Task) -> tuple[str, Record, str]:
    """Return the split to show at the top, its metrics, and a sentence if they are not final."""
    headlines = task.metrics(describe_run(record)).headlines
    measured = [name for name in record.metrics if name not in _NOT_SPLITS]
    for split in sorted(measured, key=lambda name: {"test": 0, "validation": 1}.get(name, 2)):
        result = get_section(record.metrics, split)
        if any(get_number(result, metric.key) is not None for metric in headlines):
            return split, result, ""
    for logged in reversed(record.log.get("eval", [])):
        origin = f"From the last evaluation in the log, at step {logged['step']:,}; there is no final evaluation yet."
        return str(logged.get("split", "held-out")), logged, origin
    return "", {}, ""


def _make_result(record: RunRecord, task: Task, split: str, result: Record, origin: str) -> Section:
    title = "Held-out result"
    figures = [
        (metric.title or metric.name, metric.show_on_page(value), task.note_headline(result, metric))
        for metric in task.metrics(describe_run(record)).headlines
        if (value := get_number(result, metric.key)) is not None
    ]
    if not figures:
        return Section(title, [Paragraph("There is no evaluation on held-out data yet.")])
    sizes = ((get_number(result, key), noun) for key, noun in _SIZES)
    over = " and ".join(f"{n:,.0f} {noun}" for n, noun in sizes if n is not None)
    method = _describe_method(result.get("method"))
    basis = f"On the {split} split" + (f", over {over}" if over else "") + (f"; {method}" if method else "")
    notes = [str(note.get("text", "")) for note in record.log.get("note", [])]
    return Section(
        title,
        [
            Headlines(figures[:_MAX_HEADLINES]),
            Paragraph(f"{basis}. {origin}".strip()),
            *([Notice("Notes from training", notes)] if notes else []),
            *task.tables(result),
        ],
    )


def _describe_method(method: object) -> str:
    """Describe how the split was scored: `block-wise, block size 256, stride 256`."""
    if not isinstance(method, dict):
        return str(method or "")
    words = (f"{key.replace('_', ' ')} {value}" for key, value in method.items() if key not in ("windows", "split"))
    return ", ".join([str(method.get("windows", "")), *words]).removeprefix(", ")


def _make_samples(record: RunRecord, task: Task) -> Section:
    samples = record.log.get("sample", [])
    if not samples:
        return Section("Samples", [Paragraph("The log has no samples.")] if task.writes_samples else [])
    last = [sample for sample in samples if sample["step"] == samples[-1]["step"]]
    earlier = samples[: -len(last)]
    shown = earlier[:: max(1, len(earlier) // _MAX_EARLIER_SAMPLES + 1)]
    title = f"{len(shown)} of {len(earlier)} earlier samples" if len(shown) < len(earlier) else "Earlier samples"
    folded = [Fold(title, [_make_sample(sample) for sample in shown])] if shown else []
    return Section("Samples", [*(_make_sample(sample) for sample in last), *folded])


def _make_sample(sample: Record) -> Preformatted:
    prompt, text = str(sample.get("prompt") or ""), str(sample.get("text") or "")
    return Preformatted(text.removeprefix(prompt), f"Step {sample['step']:,}", prompt)


def _make_recipe(record: RunRecord) -> Section:
    command = record.manifest.get("command")
    given = shlex.join(map(str, command)) if isinstance(command, list) else command
    blocks: list[Block] = [Preformatted(str(given), is_code=True)] if given else []
    if record.recipe:
        blocks.append(Fold("recipe.yaml", [Preformatted(record.recipe, is_code=True)]))
    else:
        blocks.append(Paragraph("The run folder has no recipe."))
    return Section("Recipe", blocks)


def _make_metrics(record: RunRecord, task: Task, above: str) -> Section:
    """Return all metrics of all splits; the top of the page already has the tables of split `above`."""
    splits = {
        name: _flatten(task.shorten(part, is_above=name == above) if name not in _NOT_SPLITS else part)
        for name, part in record.metrics.items()
        if isinstance(part, dict)
    }
    training = splits.pop("training", {})
    training |= {name: value for name, value in record.metrics.items() if not isinstance(value, dict)}
    names = list(dict.fromkeys(key for part in splits.values() for key in part))
    blocks: list[Block] = []
    if names:
        rows = [[name, *(part.get(name) for part in splits.values())] for name in names]
        table = Table(["metric", *splits], rows)
        blocks.append(Fold("All metrics", [table], is_open=len(rows) <= _MAX_OPEN_METRICS))
    if training:
        facts = [(_to_words(name), value) for name, value in _flatten(training).items()]
        blocks.append(Facts(facts, "Training"))
    return Section("Metrics", blocks)


def _make_machine(record: RunRecord) -> Section:
    machine = get_section(record.manifest, "machine")
    versions = get_section(record.manifest, "versions")
    facts = [(_to_words(name), value) for name, value in machine.items()]
    return Section("Machine and versions", [Facts(part) for part in (facts, list(versions.items())) if part])


def _to_words(key: str) -> str:
    """Return a readable name: `seconds spent: training` for `seconds_spent.training`, `tokens` for `n_tokens`."""
    return key.removeprefix("n_").replace("_", " ").replace(".", ": ")


def _flatten(part: Record, prefix: str = "") -> Record:
    """Join nested names with dots. Short lists become JSON; long lists and lists of records become their length."""
    flat: Record = {}
    for key, value in part.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict):
            flat |= _flatten(value, f"{name}.")
        elif isinstance(value, list):
            shown = json.dumps(value, ensure_ascii=False)
            is_short = len(shown) <= _MAX_LIST_CHARS and not any(isinstance(each, dict) for each in value)
            flat[name] = shown if is_short else f"{len(value):,} entries, in metrics.json"
        else:
            flat[name] = value
    return flat
