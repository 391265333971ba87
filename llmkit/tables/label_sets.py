"""Check the set of labels of a file for signs that the labels are not the classes that the user means.

Each finding is one sentence with an example and the setting that changes it. Nothing is changed here.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from statistics import median

from llmkit.core.console import count
from llmkit.core.errors import DataError
from llmkit.tables.label_forms import fold_label, label_map_option, parse_list
from llmkit.tables.labelled import Label

_SHOWN = 3
_MISSING = frozenset(["na", "n/a", "#n/a", "nan", "<na>", "null", "\\n", "none", "nil", "?", "-", "--"])
_MIN_USUAL_ROWS = 10
"""Labels with a single row are noted only if the median number of rows per label is at least this."""
_MAX_RARE_LABELS = 20
_MIN_ALL_DIFFERENT = 4
"""Minimum number of rows for which labels that are all different are an error."""


def describe_labels(counts: Mapping[str, int]) -> list[str]:
    """Return notes on labels that differ only in form, contain several labels, may be missing values, or have a single
    row.
    """
    lists = _describe_lists(counts)
    return [
        *_describe_variants(counts),
        *lists,
        *_describe_joins(counts),
        *_describe_missing(counts),
        *_describe_rare(counts),
    ]


def require_repeats(counts: Mapping[str, int], n_rows: int, where: str) -> None:
    """Check that labels repeat: refuse labels that are all different, or many labels with under two rows on average.

    Raises:
        DataError: with examples, and the setting that is probably meant.
    """
    is_rare = len(counts) > _MAX_RARE_LABELS and 2 * len(counts) > n_rows
    if not is_rare and not _MIN_ALL_DIFFERENT <= len(counts) == sum(counts.values()):
        return
    examples = ", ".join(repr(label[:40]) for label in list(counts)[:_SHOWN])
    hint = "--label NAME selects another column; to predict numbers, set -s cls.labels=regression"
    what = f"{len(counts):,} different labels in {n_rows:,} rows, such as {examples}: too few rows per label"
    raise DataError(what, where=where, hint="; ".join([*_describe_lists(counts), *_describe_joins(counts)]) or hint)


def describe_contradictions(
    keys: Sequence[int], labels: Sequence[Label], lines: Sequence[int], unit: str = "line"
) -> list[str]:
    """Return a note on rows with equal texts and different labels; rows with equal texts have equal `keys`."""
    first: dict[int, tuple[Label, int]] = {}
    rows: Counter[int] = Counter(keys)
    contrary: dict[int, str] = {}
    for key, label, line in zip(keys, labels, lines, strict=True):
        known, at = first.setdefault(key, (label, line))
        if label != known and key not in contrary:
            contrary[key] = f"{_show(known)} in {unit} {at}, {_show(label)} in {unit} {line}"
    if not contrary:
        return []
    n_rows = sum(rows[key] for key in contrary)
    example = next(iter(contrary.values()))
    return [f"{count(n_rows, 'row')} have a text that occurs with different labels: {example}"]


def _describe_variants(counts: Mapping[str, int]) -> list[str]:
    groups: defaultdict[str, list[str]] = defaultdict(list)
    for label in counts:
        groups[fold_label(label)].append(label)
    variants = [sorted(group, key=lambda label: -counts[label]) for group in groups.values() if len(group) > 1]
    if not variants:
        return []
    shown = [" and ".join(f"{_show(each)} ({counts[each]:,})" for each in group) for group in variants[:_SHOWN]]
    pairs = {label: group[0] for group in variants[:_SHOWN] for label in group[1:]}
    what = "labels that differ only in case or form are separate classes"
    return [f"{what}: {'; '.join(shown)}; {label_map_option(pairs)} merges them"]


def _describe_lists(counts: Mapping[str, int]) -> list[str]:
    lists = [label for label in counts if parse_list(label) is not None]
    if not lists:
        return []
    some = f"{count(len(lists), 'label')} may be a list of labels: {_show(lists[0])}"
    return [f"{some}; to read several labels per row: -s cls.labels=multi_label"]


def _describe_joins(counts: Mapping[str, int]) -> list[str]:
    notes = []
    for mark in ",|;/&":
        parts = {label: {part.strip() for part in label.split(mark)} - {""} for label in counts if mark in label}
        n_joins = Counter(part for each in parts.values() for part in each)
        seen = {part for part, n in n_joins.items() if part in counts or n > 1}
        joined = [label for label, each in parts.items() if len(each) > 1 and each & counts.keys()]
        if any(_is_join(parts[label], counts, seen, mark) for label in joined):
            some = f"{count(len(joined), 'label')} may contain several labels separated by {mark!r}: {joined[0]!r}"
            notes.append(f"{some}; to read several labels per row: -s 'cls.separator={mark}'")
    return notes


def _is_join(parts: set[str], counts: Mapping[str, int], seen: set[str], mark: str) -> bool:
    """Whether the parts of a label are labels: each part is in `seen`, or has the same case style as known labels.

    If `joy` is a label, `joy, love` is two labels. If `C` and `R` are labels, `C, Inc.` and `R&B` are still names.
    """
    styles = {_style(part) for part in parts & counts.keys()}
    unseen = parts - seen
    return not unseen or (mark in ",|;" and all("." not in part and _style(part) in styles for part in unseen))


def _style(label: str) -> str:
    return "lower" if label.islower() else "upper" if label.isupper() else "title" if label.istitle() else "other"


def _describe_missing(counts: Mapping[str, int]) -> list[str]:
    """Return a note on labels that other programs write for missing values; llmkit treats them as classes."""
    found = [label for label in counts if label.casefold() in _MISSING and not (label == "-" and "+" in counts)]
    if not found or len(found) == len(counts):
        return []
    shown = ", ".join(f"{_show(label)} ({counts[label]:,})" for label in found[:_SHOWN])
    what = "labels that may mean a missing value are treated as classes"
    return [f"{what}: {shown}; remove these rows if they have no label"]


def _describe_rare(counts: Mapping[str, int]) -> list[str]:
    """Return a note on labels with one row if others have many: they may be typing errors or the row of a total."""
    rare = [label for label, n in counts.items() if n == 1]
    if not rare or 2 * len(rare) > len(counts) or median(counts.values()) < _MIN_USUAL_ROWS:
        return []
    shown = ", ".join(map(_show, rare[:_SHOWN])) + (", ..." if len(rare) > _SHOWN else "")
    return [f"{count(len(rare), 'label')} with a single row: {shown}; check for typing errors"]


def _show(label: Label) -> str:
    """Return the label in quotes, with escapes for invisible characters."""
    return repr(label if isinstance(label, str | float) else ", ".join(label))
