"""Keys and values of recipes that were renamed since an earlier version.

Used for recipes and for what runs recorded of their recipes.
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
"""(section, old key) -> new key."""
RENAMED_VALUES: dict[Key, dict[Any, str]] = {
    ("cls", "labels"): {"single": "single_label", "multiple": "multi_label"},
    ("mlm", "sentence_objective"): {True: "nsp", False: "none", "order": "sop"},
}
"""(section, new key) -> {old value: new value}."""


def rename_fields(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Recorded fields by dotted name, such as `mlm.nsp`, with new names and values."""
    renamed: dict[str, Any] = {}
    for name, value in fields.items():
        section, _, key = name.partition(".")
        key = RENAMED_KEYS.get((section, key), key)
        renamed[f"{section}.{key}" if key else section] = _rename_value((section, key), value)
    return renamed


def rename_sections(values: dict[str, Any], sources: dict[Key, str]) -> tuple[dict[str, Any], dict[str, str]]:
    """A recipe's values with new names, and log lines about the renamed ones by their source.

    `sources` says where each key was set; a new key gets the source of the old one. If both the old and the new key are
    set, both stay, and the old one is then refused as unknown.
    """
    renamed: dict[str, str] = {}
    for (section, old), new in RENAMED_KEYS.items():
        inner = values.get(section)
        if isinstance(inner, dict) and old in inner and new not in inner:
            source = sources.get((section, old), f"{section}.{old}")
            values = values | {section: {new if key == old else key: value for key, value in inner.items()}}
            sources[section, new] = source
            renamed[source] = f"{section}.{old} is now called {section}.{new}"
    for section, key in RENAMED_VALUES:
        inner = values.get(section)
        if isinstance(inner, dict) and (new := _rename_value((section, key), inner.get(key))) != inner.get(key):
            source = sources.get((section, key), f"{section}.{key}")
            line = f"{section}.{key} {_show(inner[key])} is now called {new}"
            renamed[source] = f"{renamed[source]}, and {_show(inner[key])} {new}" if source in renamed else line
            values = values | {section: inner | {key: new}}
    return values, renamed


def _rename_value(key: Key, value: Any) -> Any:
    known = RENAMED_VALUES.get(key, {})
    return known[value] if isinstance(value, bool | str) and value in known else value


def _show(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
