"""Show a tagger on the terminal and in the report: types, confusions, mistakes with coloured entities.

Reads the metrics of one split. Entries that are missing or of another type are omitted.
"""

from collections.abc import Mapping
from typing import Any

from llmkit.pages.blocks import COLOURS, Block, MarkedText, MarkedTexts, Section, Segment, Table, make_confusion
from llmkit.training.run_record import Record, get_number

_MAX_TYPES = 10
_HIDDEN = ("per_type", "type_labels", "type_confusion", "mistakes")


def make_tables(figures: Mapping[str, Any], *, brief: bool = False) -> list[Block]:
    """Return the table of types and the confusion matrix; with `brief`, only a table of the most frequent types."""
    rows = [
        [each.get("type"), *(get_number(each, key) for key in ("precision", "recall", "f1", "n_true", "n_predicted"))]
        for each in _records(figures, "per_type")
    ]
    blocks: list[Block] = []
    if rows:
        shown = rows[:_MAX_TYPES] if brief else rows
        title = "Types of entities" if len(shown) == len(rows) else f"Types of entities: {len(shown)} of {len(rows)}"
        header = ["type", "precision", "recall", "F1", "true", "predicted"]
        shown = [[row[0], *row[1:4], *(None if n is None else int(n) for n in row[4:])] for row in shown]
        blocks.append(Table(header, shown, title))
    confusion = make_confusion(figures.get("type_labels"), figures.get("type_confusion"), "Confusion of types")
    return [*blocks, confusion] if confusion is not None and not brief else blocks


def make_sections(figures: Record) -> list[Section]:
    """Return the report's sections on mistakes."""
    types = [str(each.get("type")) for each in _records(figures, "per_type")]
    colours = {name: COLOURS[number % len(COLOURS)] for number, name in enumerate(types)}
    texts = [text for each in _records(figures, "mistakes") if (text := _mark(each, colours)) is not None]
    if not texts:
        return []
    return [Section("Most confident mistakes", [MarkedTexts(texts)])]


def shorten_metrics(part: Record) -> Record:
    """Return the metrics of a split without those shown in tables."""
    return {name: value for name, value in part.items() if name not in _HIDDEN}


def _mark(mistake: Record, colours: Mapping[str, str]) -> MarkedText | None:
    """Return the text of a mistake with its true and its predicted entities."""
    text, spans = mistake.get("text"), _records(mistake, "spans")
    if not isinstance(text, str):
        return None
    readings = []
    for name, is_true in (("true", True), ("predicted", False)):
        segments: list[Segment] = []
        before = 0
        for span in (each for each in spans if each.get("is_true") is is_true):
            start, end, label = span.get("start"), span.get("end"), str(span.get("label"))
            if not (type(start) is int and type(end) is int and before <= start < end <= len(text)):
                return None
            segments += [(text[before:start], "", ""), (text[start:end], label, colours.get(label, COLOURS[0]))]
            before = end
        readings.append((name, [*segments, (text[before:], "", "")]))
    what, probability, true = mistake.get("what"), get_number(mistake, "probability"), mistake.get("true")
    instead = ", ".join(map(str, true)) if isinstance(true, list) and what == "predicted" else ""
    note = f"line {mistake.get('line')}: {mistake.get('label')} {what}" + (f" instead of {instead}" if instead else "")
    return MarkedText(note + ("" if probability is None else f", probability {probability:.3f}"), readings)


def _records(figures: Mapping[str, Any], key: str) -> list[Record]:
    value = figures.get(key)
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []
