"""Check the set of labels of a file for signs that the labels are not the classes that the user means.

Each finding is one sentence with an example and the setting that changes it. Nothing is changed here.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

from llmkit.core.console import count
from llmkit.core.errors import DataError
from llmkit.tables.labelled import Label

_SHOWN = 3
_MAX_RARE_LABELS = 20
_MIN_ALL_DIFFERENT = 4
"""Minimum number of rows for which labels that are all different are an error."""


def describe_labels(counts: Mapping[str, int]) -> list[str]:
    """Return notes on labels that differ only in case, width or type, and on labels that join several other labels."""
    return [*_describe_variants(counts), *_describe_joins(counts)]


def require_repeats(counts: Mapping[str, int], n_rows: int, where: str) -> None:
    """Check that labels repeat: refuse them if nearly every row has a different label.

    Raises:
        DataError: with examples, and the setting that is probably meant.
    """
    is_rare = len(counts) > _MAX_RARE_LABELS and 2 * len(counts) > n_rows
    if not is_rare and not _MIN_ALL_DIFFERENT <= len(counts) == sum(counts.values()):
        return
    examples = ", ".join(repr(label[:40]) for label in list(counts)[:_SHOWN])
    hint = "--label names another column; to predict numbers, set -s cls.labels=regression"
    what = f"{len(counts):,} different labels in {n_rows:,} rows, such as {examples}: too few rows for each"
    raise DataError(what, where=where, hint="; ".join(_describe_joins(counts)) or hint)


def describe_contradictions(keys: Sequence[int], labels: Sequence[Label], lines: Sequence[int]) -> list[str]:
    """Return a note on rows with equal texts and different labels; rows with equal texts have equal `keys`."""
    first: dict[int, tuple[Label, int]] = {}
    rows: Counter[int] = Counter(keys)
    contrary: dict[int, str] = {}
    for key, label, line in zip(keys, labels, lines, strict=True):
        known, at = first.setdefault(key, (label, line))
        if label != known and key not in contrary:
            contrary[key] = f"{_show(known)} in line {at}, {_show(label)} in line {line}"
    if not contrary:
        return []
    n_rows = sum(rows[key] for key in contrary)
    example = next(iter(contrary.values()))
    return [f"{count(n_rows, 'row')} have a text that occurs with different labels, such as {example}"]


def _describe_variants(counts: Mapping[str, int]) -> list[str]:
    groups: defaultdict[str, list[str]] = defaultdict(list)
    for label in counts:
        groups[_fold(label)].append(label)
    variants = [sorted(group, key=lambda label: -counts[label]) for group in groups.values() if len(group) > 1]
    if not variants:
        return []
    shown = "; ".join(" and ".join(f"{label} ({counts[label]:,})" for label in group) for group in variants[:_SHOWN])
    setting = ",".join(f"{label}={group[0]}" for group in variants[:_SHOWN] for label in group[1:])
    return [
        f"labels that differ only in case or form are different classes: {shown}; --label-map {setting!r} joins them"
    ]


def _fold(label: str) -> str:
    """Return a key that is equal for `Neg`, `NEG` and `neg.`, and for `1`, `1.0` and `True`."""
    folded = label.casefold().strip(" .!\t_-")
    try:
        return f"{float(folded):g}"
    except ValueError:
        return {"true": "1", "false": "0"}.get(folded, folded) or label


def _describe_joins(counts: Mapping[str, int]) -> list[str]:
    notes = []
    for mark in ",|;/&":
        joined = [
            label for label in counts if mark in label and any(part.strip() in counts for part in label.split(mark))
        ]
        if joined:
            some = f"{count(len(joined), 'label')} with {mark!r} between others, such as {joined[0]!r}"
            notes.append(f"{some}; for several labels per row: -s 'cls.separator={mark}'")
    return notes


def _show(label: Label) -> str:
    return repr(label if isinstance(label, str) else ", ".join(label) if isinstance(label, tuple) else label)
