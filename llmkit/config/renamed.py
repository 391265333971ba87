"""Keys and values of recipes that had another name in an earlier version.

Both a recipe and what a run recorded of its recipe are read through here.
"""

from collections.abc import Mapping
from typing import Any

Key = tuple[str, ...]

RENAMED_KEYS: dict[Key, str] = {
    ("mlm", "mask_share"): "mlm_probability",
    ("mlm", "nsp"): "sentence_objective",
    ("cls", "window_overlap"): "stride",
    ("cls", "random_weights"): "from_scratch",
    ("train", "max_eval_blocks"): "max_eval_samples",
}
"""Section and old key: the new key."""
RENAMED_VALUES: dict[Key, dict[Any, str]] = {
    ("cls", "labels"): {"single": "single_label", "multiple": "multi_label"},
    ("mlm", "sentence_objective"): {True: "nsp", False: "none", "order": "sop"},
}
"""Section and today's key: old values and their new names."""


def rename_fields(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Recorded fields by dotted name, such as `mlm.nsp`, under today's names and with today's values."""
    renamed: dict[str, Any] = {}
    for name, value in fields.items():
        section, _, key = name.partition(".")
        key = RENAMED_KEYS.get((section, key), key)
        renamed[f"{section}.{key}" if key else section] = _rename_value((section, key), value)
    return renamed


def rename_sections(values: dict[str, Any], places: dict[Key, str]) -> tuple[dict[str, Any], dict[str, str]]:
    """A recipe's values under today's names, and what was renamed: by its place, a line for the user.

    `places` says where each key stands; the new key gets the place of the old one. A key that is given under both names
    keeps both, so that the old one is refused as unknown.
    """
    renamed: dict[str, str] = {}
    for (section, old), new in RENAMED_KEYS.items():
        inner = values.get(section)
        if isinstance(inner, dict) and old in inner and new not in inner:
            place = places.get((section, old), f"{section}.{old}")
            values = values | {section: {new if key == old else key: value for key, value in inner.items()}}
            places[section, new] = place
            renamed[place] = f"{section}.{old} is now called {section}.{new}"
    for section, key in RENAMED_VALUES:
        inner = values.get(section)
        if isinstance(inner, dict) and (new := _rename_value((section, key), inner.get(key))) != inner.get(key):
            place = places.get((section, key), f"{section}.{key}")
            line = f"{section}.{key} {_show(inner[key])} is now called {new}"
            renamed[place] = f"{renamed[place]}, and {_show(inner[key])} {new}" if place in renamed else line
            values = values | {section: inner | {key: new}}
    return values, renamed


def _rename_value(key: Key, value: Any) -> Any:
    known = RENAMED_VALUES.get(key, {})
    return known[value] if isinstance(value, bool | str) and value in known else value


def _show(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
