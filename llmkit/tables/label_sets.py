"""Look at the labels of a file as a set: what often means that they are not the classes the user thinks of.

Each finding is one sentence with an example and the setting that changes it. Nothing is changed here.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

from llmkit.core.console import count
from llmkit.tables.labelled import Label

_MARKS = (", ", ",", "|", ";", "/", "+", "&", " ")
_SHOWN = 3


def describe_labels(counts: Mapping[str, int]) -> list[str]:
    """Notes on labels that differ only in case, width or type, and on labels that are joins of others."""
    return [*_describe_variants(counts), *_describe_joins(counts)]


def describe_contradictions(keys: Sequence[int], labels: Sequence[Label], lines: Sequence[int]) -> list[str]:
    """A note on rows with equal texts, which have equal `keys`, and different labels."""
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
    return [f"labels that differ only in case or form are different classes: {shown}; --label-map {setting!r} joins them"]


def _fold(label: str) -> str:
    """Equal for `Neg`, `NEG` and `neg.`, and for `1`, `1.0` and `True`."""
    folded = label.casefold().strip(" .!\t_-")
    try:
        return f"{float(folded):g}"
    except ValueError:
        return {"true": "1", "false": "0"}.get(folded, folded) or label


def _describe_joins(counts: Mapping[str, int]) -> list[str]:
    for mark in _MARKS:
        joined = [label for label in counts if mark in label and all(p.strip() in counts for p in label.split(mark))]
        joined = [label for label in joined if len(label.split(mark)) > 1 and label.strip() != mark.strip()]
        if joined:
            some = f"{count(len(joined), 'label')} join other labels by {mark!r}, such as {joined[0]!r}"
            return [f"{some}; for several labels per row: -s 'cls.separator={mark.strip() or mark}'"]
    return []


def _show(label: Label) -> str:
    return repr(label if isinstance(label, str) else ", ".join(label) if isinstance(label, tuple) else label)
