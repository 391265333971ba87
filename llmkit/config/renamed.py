"""Keys and values of recipes that were renamed since an earlier version.

Used for recipes and for recipe settings that runs recorded.
"""

from collections.abc import Mapping
from typing import Any

Key = tuple[str, ...]

RENAMED_KEYS: dict[Key, str] = {
    ("objective",): "task",
    ("prepare", "read", "text_column"): "field",
    ("mlm", "mask_share"): "mlm_probability",
    ("mlm", "nsp"): "sentence_objective",
    ("cls", "window_overlap"): "stride",
    ("cls", "random_weights"): "from_scratch",
    ("train", "max_eval_blocks"): "max_eval_samples",
}
"""The last part of a key's new name."""
RENAMED_VALUES: dict[Key, dict[Any, str]] = {
    ("cls", "labels"): {"single": "single_label", "multiple": "multi_label"},
    ("mlm", "sentence_objective"): {True: "nsp", False: "none", "order": "sop"},
}
"""Old values and their new names, by current key."""


def rename_fields(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return recorded fields (dotted names such as `mlm.nsp` to values) under their current names and values."""
    renamed: dict[str, Any] = {}
    for name, value in fields.items():
        key = _rename_key(tuple(name.split(".")))
        renamed[".".join(key)] = _rename_value(key, value)
    return renamed


def rename_sections(values: dict[str, Any], sources: dict[Key, str], renamed: dict[str, str]) -> dict[str, Any]:
    """Return a recipe's values under current names; adds a line for the user to `renamed` for each renamed key, by
    location.

    `sources` has the location of each key; a new key gets the location of the old key. If both the old and the new key
    are set, both stay, and the old key is later refused as unknown.
    """
    return _rename_mapping(values, (), sources, renamed)


def describe_key(key: Key) -> str:
    """Return the message for a renamed key: `OLD is now called NEW`."""
    return f"{'.'.join(key)} is now called {'.'.join(_rename_key(key))}"


def _rename_mapping(
    values: dict[str, Any], prefix: Key, sources: dict[Key, str], renamed: dict[str, str]
) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for name, value in values.items():
        key = (*prefix, name)
        new_key = _rename_key(key)
        if new_key != key and new_key[-1] not in values:
            sources[new_key] = sources.get(key, ".".join(key))
            renamed[sources[new_key]] = describe_key(key)
            key = new_key
        new_value = _rename_value(key, value)
        if new_value != value:
            place = sources.get(key, ".".join(key))
            shown = str(value).lower() if isinstance(value, bool) else value
            line = f"{'.'.join(key)} {shown} is now called {new_value}"
            renamed[place] = f"{renamed[place]}, and {shown} {new_value}" if place in renamed else line
        is_section = isinstance(new_value, dict)
        result[key[-1]] = _rename_mapping(new_value, key, sources, renamed) if is_section else new_value
    return result


def _rename_key(key: Key) -> Key:
    return (*key[:-1], RENAMED_KEYS.get(key, key[-1]))


def _rename_value(key: Key, value: Any) -> Any:
    known = RENAMED_VALUES.get(key, {})
    return known[value] if isinstance(value, bool | str) and value in known else value
