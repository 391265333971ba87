"""Convert pydantic's errors to problems of three lines, with the place in the recipe and the key that was meant."""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from llmkit.config.other_tools import find_meaning, find_value, normalize
from llmkit.config.recipe import OWNERS, RECIPES, Recipe
from llmkit.config.renamed import Key
from llmkit.config.section import split_message
from llmkit.core.errors import Problem, did_you_mean, find_near, narrow

_SLIPS = (
    (re.compile(r"^ *\t"), "indent with spaces: YAML does not allow tabs"),
    (re.compile(r"^\s*[\w.]+\s*："), "write `: ` instead of the full-width colon"),
    (re.compile(r"^\s*[\w.]+:[^\s/]"), "write a space after the colon, such as `max_steps: 100`"),
    (re.compile(r"^\s*[\w.]+\s*=(?!=)"), "write `key: value`, not `key = value`"),
)
"""Common mistakes in a line of YAML, and what to write instead."""
_MIN_SIMILARITY_ELSEWHERE = 0.85
"""Minimum similarity of an unknown key and a key elsewhere; at 0.75, `prepare.split.unit` suggested `model.init`."""
_SETTING = re.compile(r"[a-z]\w*(\.\w+)*=[^\s;,]+")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.IGNORECASE)
_OTHER_UNIT = re.compile(r"_per_|percentage|^min_lr$|^num_iterations$")
"""Names of other tools whose values have another unit than the key of llmkit."""


def to_problem(item: Any, sources: dict[Key, str], path: Path | None) -> Problem:
    """Convert a pydantic error to a problem, located at the nearest key that the user wrote."""
    if item["type"].startswith("union_tag"):
        where = sources.get(("task",), f"{path or 'recipe'}, task")
        task = item["input"].get("task")
        return Problem(f"task is {_show(task)}", where, _suggest_value("task", task, list(RECIPES)))
    task, *inner = map(str, item["loc"])  # pydantic's location starts with the union's branch
    kind = RECIPES[task]
    location: Key = tuple(part for part in inner if not _is_union_branch(part))
    if item["type"] == "extra_forbidden":  # the last part is the user's own key, which may be called `int`
        location = (*(part for part in inner[:-1] if not _is_union_branch(part)), inner[-1])
    name = ".".join(location)
    where = _find_source(location, sources) or f"{path or 'recipe'}, {name}"
    if item["type"] == "extra_forbidden":
        if narrow(name) != name:
            return Problem(f"unknown key {name!r}", where, f"write ASCII characters: {narrow(name)}")
        if name in OWNERS:
            what = f"task {task} does not read section {name!r}"
            return Problem(what, where, f"remove it: it applies only to task {' or '.join(OWNERS[name])}")
        return Problem(f"unknown key {name!r}", where, _suggest_key(location, kind, where, item["input"]))
    field = _section_at(location[:-1], kind).model_fields.get(location[-1]) if location else None
    if item["type"] == "value_error":
        what, hint = split_message(str(item["msg"]))
        hint = hint or (field.description if field else None) or "docs/reference.md describes all keys"
        return Problem(f"{name or 'recipe'}: {what}", where, hint)
    if item["type"] == "literal_error":
        words = re.split(r", | or ", item["ctx"]["expected"])
        known = [word.lower() if word in ("True", "False") else word.strip("'") for word in words]
        return Problem(f"{name} is {_show(item['input'])}", where, _suggest_value(name, item["input"], known))
    if item["type"] == "model_type":  # `optim: adamw_torch`
        section = _section_at(location, kind)
        value = item["input"]
        meant = describe_slip([value]) if isinstance(value, str) else None
        if isinstance(value, list):
            meant = "remove the dashes: a section has lines `key: value`"
        meant = meant or describe_unknown(name, where) or f"its keys are {', '.join(section.model_fields)}"
        return Problem(f"{name} is a section, not {_show(item['input'])}", where, meant)
    is_wide = isinstance(item["input"], str) and narrow(item["input"]) != item["input"]
    if item["type"] in ("int_parsing", "int_from_float", "float_parsing") and not is_wide:
        number = "a number, such as 0.1 or 1e-3" if item["type"] == "float_parsing" else "a whole number, such as 1000"
        about = f"; {field.description}" if field and field.description else ""
        return Problem(f"{name} is {_show(item['input'])}", where, f"write {number}, without units and commas{about}")
    message = str(item["msg"])
    hint = (field.description if field else None) or message
    if is_wide:
        hint = f"write ASCII characters: {narrow(item['input'])}"
    return Problem(f"{name} is {_show(item['input'])}: {message[:1].lower()}{message[1:]}", where, hint)


def describe_slip(lines: Iterable[str]) -> str | None:
    """Return a hint for the first line with a common YAML mistake; None if there is none."""
    return next((hint for line in lines for slip, hint in _SLIPS if slip.search(line)), None)


def describe_unknown(name: str, where: str = "--set", value: object = None) -> str | None:
    """Return a hint for an unknown key or option: llmkit's name for another tool's name, or the keys with this name in
    other sections; None if there is neither.

    `where` is the place of the name. It decides whether the hint shows an option (`-s a.b=1`) or a line of a file. The
    hint repeats a number that the user gave as `value` if the key accepts it; otherwise it has a usual value.
    """
    last = normalize(name).rpartition(".")[2]
    if meaning := find_meaning(name):
        setting = _SETTING.match(meaning)
        if setting is None:
            return f"write {meaning}" if meaning.startswith("--") else meaning
        return _show_setting(setting[0], where, None if _OTHER_UNIT.search(last) else value) + meaning[setting.end() :]
    homes = {key: field for key, field in _all_fields() if key.rpartition(".")[2] == last}
    if len(homes) > 3 or not homes:
        return None
    first, *others = homes
    shown = _show_setting(f"{first}={_to_yaml(homes[first].default)}", where, value)
    return shown + (f"; or {' or '.join(others)}" if others else "")


def _show_setting(setting: str, where: str, given: object = None) -> str:
    key, _, value = setting.partition("=")
    section, _, name = key.rpartition(".")
    field = dict(_all_fields()).get(key)
    if field is not None and _NUMBER.fullmatch(str(given)) and _NUMBER.fullmatch(value) and _accepts(field, given):
        value = str(given)
    about = f" ({field.description.rstrip('.')})" if field is not None and field.description else ""
    if where.startswith("-") or not section:
        return f"write -s {key}={value}{about}"
    return f"write `{name}: {value}` in section {section}{about}"


def _accepts(field: FieldInfo, value: object) -> bool:
    annotation: Any = Annotated[field.annotation, field]
    try:
        TypeAdapter(annotation).validate_python(value)
    except ValidationError:
        return False
    return True


def _to_yaml(value: object) -> str:
    return "VALUE" if value is None else str(value).lower() if isinstance(value, bool) else str(value) or '""'


def _suggest_key(location: Key, kind: type[Recipe], where: str, value: object) -> str:
    """Return a hint for an unknown key that was set to `value`: the key that was probably meant, else known keys."""
    own = _section_at(location[:-1], kind).model_fields
    known = describe_unknown(".".join(location), where, value)
    if known is not None:
        return known
    near = find_near(location[-1], own)
    if near is not None:
        return f"did you mean {near!r}?"
    names = [key for key, _ in _all_fields()]
    meant = find_near(location[-1], {key.rpartition(".")[2] for key in names}, _MIN_SIMILARITY_ELSEWHERE)
    homes = [key for key in names if meant is not None and key.rpartition(".")[2] == meant]
    return f"did you mean {' or '.join(map(repr, homes))}?" if homes else did_you_mean(location[-1], own)


def _suggest_value(key: str, value: object, known: list[str]) -> str:
    meant = find_value(key, value)
    hint = f"did you mean {meant!r}?" if meant in known else did_you_mean(str(value)[:100], known)
    return hint if hint.startswith("known") else f"{hint} known: {', '.join(known)}"


def _all_fields(section: type[BaseModel] | None = None, prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """Yield all keys of all recipes with their fields, in the order of the sections; sections of one task come last."""
    if section is None:
        recipes: list[type[Recipe]] = [Recipe, *RECIPES.values()]
        fields = {name: field for recipe in recipes for name, field in recipe.model_fields.items()}
    else:
        fields = dict(section.model_fields)
    for name, field in fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            yield from _all_fields(inner, f"{prefix}{name}.")
        elif prefix:
            yield f"{prefix}{name}", field


def _show(value: object) -> str:
    """Return a value in Python's notation, cut to 200 characters."""
    shown = repr(value)
    return shown if len(shown) <= 200 else f"{shown[:200]}..."


def _find_source(location: Key, sources: dict[Key, str]) -> str | None:
    """Return the place of the option that set the key or one of its subkeys, else of the nearest key in the file."""
    below = [place for key, place in sources.items() if key[: len(location)] == location]
    typed = [place for place in below if place.startswith("--")]
    above = [sources[location[:n]] for n in range(len(location), 0, -1) if location[:n] in sources]
    return next(iter([*typed[::-1], *above, *below]), None)


def _is_union_branch(part: str) -> bool:
    """Whether a part of a location is pydantic's name of a union's branch, such as `int`, and not a key."""
    return part in {"int", "float", "str", "bool", "none"} or part.startswith(("literal[", "constrained-", "dict["))


def _section_at(key: Key, kind: type[Recipe]) -> type[BaseModel]:
    section: type[BaseModel] = kind
    for part in key:
        field = section.model_fields.get(part)
        if field is None or not isinstance(field.annotation, type) or not issubclass(field.annotation, BaseModel):
            break
        section = field.annotation
    return section
