"""Load a recipe: YAML file, then `--set section.key=value`, then validation.

All errors are reported at once, each with its file and line. PyYAML drops line numbers when it constructs values, so
the line of every key is read from the node tree.
"""

import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from llmkit.config.problems import describe_slip, describe_unknown, to_problem
from llmkit.config.recipe import RECIPES, ROW_TASK, Recipe, find_task, make_recipe
from llmkit.config.renamed import RENAMED_KEYS, Key, describe_key, rename_sections
from llmkit.config.train import LENGTHS
from llmkit.core import console
from llmkit.core.errors import ModelError, Problem, UsageError, did_you_mean, narrow

MAX_NODES = 10_000
"""Limit of YAML nodes with all aliases expanded: a file of one kilobyte can expand to billions."""

FILE_FIELDS = ("encoding", "delimiter", "header", "sheet")
"""Fields of `prepare.read` that describe one file."""
COLUMN_FIELDS = (
    *("text", "pair", "label", "header", "separator"),
    *("format", "tokens", "tags", "sentence", "spans", "token_column", "tag_column", "scheme"),
    *("question", "context", "answer", "answer_start"),
)
"""Fields of a section with columns that describe how its train file is read."""
CODE_FIELDS = (("cls", "metrics"),)
"""Keys that name functions of Python files; see `Recipe.code`."""
_COMMENT = re.compile(r"(?:^|\s)#")
LENGTH_KEYS = {("train", name) for name in LENGTHS}


def load_recipe(
    path: Path | None,
    overrides: Sequence[str | tuple[str, str]] = (),
    task: str | None = None,
    *,
    columns: Mapping[str, str | None] | None = None,
    forget_columns: bool = False,
) -> Recipe:
    """Load the recipe in `path` (defaults if None) with `overrides` such as `train.max_steps=10`.

    An override that comes from a separate option is a pair with the option: `("--split", "evaluate.split=test")`.
    `task` is the command's task, for a recipe that names none. `columns` are the command's options for columns; values
    other than None are set in the task's section for columns. `forget_columns` drops custom metrics, and the settings
    of columns, encoding and delimiter, which apply only to the train file of the recipe. Paths of code are relative to
    the recipe. Old names of keys and values are accepted; the new names are logged, except for the copy of a recipe in
    a run folder, which users do not edit.

    Raises:
        UsageError: an unreadable file, invalid YAML, unknown keys, wrong types or ranges; lists all problems.
        ModelError: all problems are in the recipe that a run folder keeps.
    """
    try:
        return _load_recipe(path, overrides, task, columns or {}, forget_columns)
    except UsageError as error:
        if path is not None and _is_kept(path) and all(_is_in(problem, path) for problem in error.problems):
            raise ModelError.from_problems(error.problems) from None
        raise


def _is_in(problem: Problem, path: Path) -> bool:
    return problem.where.startswith(str(path))


def _load_recipe(
    path: Path | None, overrides: Sequence[str | tuple[str, str]], task: str | None,
    columns: Mapping[str, str | None], forget_columns: bool,
) -> Recipe:  # fmt: skip
    values: dict[str, Any] = {}
    sources: dict[Key, str] = {}
    settings = [("", each) if isinstance(each, str) else each for each in overrides]
    problems = [_malformed(setting) for _, setting in settings if not _is_setting(setting)]
    renamed: dict[str, str] = {}
    if path is not None:
        try:
            values = rename_sections(_read_yaml(path, sources, problems), sources, renamed)
        except UsageError as error:
            raise UsageError.from_problems([*problems, *error.problems]) from None
    sections = {recipe.COLUMNS_SECTION for recipe in RECIPES.values()}
    if forget_columns and isinstance(values.get("prepare"), dict) and isinstance(values["prepare"].get("read"), dict):
        for name in FILE_FIELDS:  # a new file has its own encoding
            values["prepare"]["read"].pop(name, None)
    for section in sections if forget_columns else ():
        if section is not None and isinstance(values.get(section), dict):
            values[section] = {name: value for name, value in values[section].items() if name not in COLUMN_FIELDS}
    if path is not None:
        _resolve_code(values, path.parent, forget=forget_columns)
        if _is_kept(path):
            renamed.clear()
    for option, setting in (each for each in settings if _is_setting(each[1])):
        place = f"{option} {setting.partition('=')[2]}" if option else f"--set {setting}"
        _apply_override(values, setting, place, sources, renamed)
    values = rename_sections(values, sources, renamed)
    for place, line in renamed.items():
        console.info(f"{place}: {line}")
    given = {name: value for name, value in columns.items() if value is not None}
    if values.get("task") is None:
        values["task"] = task or find_task(values) or (ROW_TASK if given else None)
    _apply_columns(values, given, sources, problems)
    recipe = None
    try:
        recipe = make_recipe(values)
    except ValidationError as error:
        problems += [to_problem(item, sources, path) for item in error.errors(include_url=False)]
    if recipe is None or problems:
        order = {place: number for number, place in enumerate(sources.values())}
        raise UsageError.from_problems(sorted(problems, key=lambda problem: order.get(problem.where, -1)))
    return recipe if path is None else _locate_inputs(recipe, path, sources)


def _locate_inputs(recipe: Recipe, path: Path, sources: Mapping[Key, str]) -> Recipe:
    """Return the recipe with paths from its file relative to the current folder, as paths from `--set` are."""
    keys = {name: (("inputs",), ("inputs", name)) for name in recipe.inputs.given}
    written = [name for name in keys if not any(sources.get(key, "").startswith("--") for key in keys[name])]
    return recipe.with_updates(inputs=recipe.inputs.read_from(path.parent, written)) if written else recipe


def find_line(path: Path, key: Key) -> str:
    """Return the place of a key in a recipe, for messages: `recipe.yaml:3, inputs.data`."""
    sources: dict[Key, str] = {}
    _read_yaml(path, sources, [])
    return sources.get(key, f"{path}, {'.'.join(key)}")


def require_named_code(recipe: Recipe, path: Path, overrides: Sequence[str | tuple[str, str]]) -> None:
    """Check that the user has named the code that the recipe of a run folder names.

    Raises:
        UsageError: a setting in `recipe.code` is missing from `overrides`; the error names the setting.
    """
    given = {each.partition("=")[0].strip() for each in overrides if isinstance(each, str)}
    if missing := [setting for setting in recipe.code if setting.partition("=")[0] not in given]:
        what = f"the recipe of the run names Python code, which llmkit runs only if you name it too: {missing[0]}"
        raise UsageError(what, where=str(path), hint=f"if you trust it, add: {shlex.join(['-s', missing[0]])}")


def _resolve_code(values: dict[str, Any], folder: Path, *, forget: bool) -> None:
    """Make the paths of code relative to the current folder instead of `folder`; with `forget`, remove the settings."""
    for section, name in CODE_FIELDS:
        fields = values.get(section)
        if not isinstance(fields, dict) or not fields.get(name):
            continue
        named = [fields[name]] if isinstance(fields[name], str) else fields[name]
        if forget:
            values[section] = {key: value for key, value in fields.items() if key != name}
        elif isinstance(named, list):
            paths = [str(folder / Path(each).expanduser()) if isinstance(each, str) else each for each in named]
            values[section] = fields | {name: paths}


def _is_kept(path: Path) -> bool:
    """Whether a recipe file is the copy that llmkit keeps in a run folder."""
    return path.name == "recipe.yaml" and (path.parent / "manifest.json").is_file()


def _apply_columns(
    values: dict[str, Any], given: Mapping[str, str], sources: dict[Key, str], problems: list[Problem]
) -> None:
    recipe = RECIPES.get(str(values.get("task")), Recipe)
    for name, value in given.items():
        option = f"--{name.replace('_', '-')}"
        if recipe.COLUMNS_SECTION is None and name == "text":
            continue  # `eval` also sets prepare.read.field, which language models read
        if recipe.COLUMNS_SECTION is None:
            hint = "remove it: it applies only to tasks that read rows of a table"
            problems.append(Problem(f"task {values.get('task') or 'clm'} has no columns", option, hint))
            continue
        section = values.get(recipe.COLUMNS_SECTION)
        values[recipe.COLUMNS_SECTION] = (section if isinstance(section, dict) else {}) | {name: value}
        sources[recipe.COLUMNS_SECTION, name] = option


def dump_recipe(recipe: Recipe) -> str:
    """Return the resolved recipe as YAML: all fields, including defaults, in the order of the sections."""
    return yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


SHELL_PATHS = ("/dev/fd/", "/dev/stdin", "/dev/null", "/proc/self/fd/")
"""Paths of streams that a shell has opened, such as <(command)."""


def _read_yaml(path: Path, sources: dict[Key, str], problems: list[Problem]) -> dict[str, Any]:
    is_special = path.exists() and not path.is_file() and not path.is_dir()
    if is_special and not str(path).startswith(SHELL_PATHS):  # reading a named pipe or /dev/zero may never end
        hint = "give a file, or the output of a command as <(command)"
        raise UsageError("the recipe is a pipe, a socket or a device, not a file", where=str(path), hint=hint)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        candidates = sorted(p.name for p in path.parent.glob("[!.]*.yaml")) if path.parent.is_dir() else []
        if "=" in path.name:
            hint = f"settings follow -s: -s {path.name}"
        elif candidates:
            hint = did_you_mean(path.name, candidates)
        else:
            hint = "give the path of a recipe, such as recipes/gpt2-tiny.yaml"
        raise UsageError(f"there is no recipe {str(path)!r}", where=str(path.parent), hint=hint) from None
    except UnicodeDecodeError as error:
        what = f"the recipe is not UTF-8: byte {error.object[error.start]:#04x} at position {error.start}"
        raise UsageError(what, where=str(path), hint="save it as UTF-8 in your editor") from None
    except OSError as error:
        raise UsageError(
            f"the recipe cannot be read: {error}", where=str(path), hint="it must be a YAML file"
        ) from None
    if "\0" in text:
        what = "the recipe is not UTF-8 text: it has null characters, as UTF-16 does"
        raise UsageError(what, where=str(path), hint="save it as UTF-8 in your editor")
    try:
        node, values = _parse_yaml(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}:{mark.column + 1}" if mark else ""
        what = f"the recipe is not valid YAML: {getattr(error, 'problem', None) or error}"
        hint = describe_slip(text.splitlines()) or "check indentation, colons and quotes"
        raise UsageError(what, where=f"{path}{line}", hint=hint) from None
    if node is None:
        return {}
    if not isinstance(node, yaml.MappingNode):
        hint = "a recipe has sections, such as `train:`; give text files with --data"
        raise UsageError("the recipe is not a mapping", where=f"{path}:1", hint=hint)
    _record_sources(node, (), str(path), sources, problems)
    return {str(key): value for key, value in values.items()}


def _parse_yaml(text: str) -> tuple[yaml.Node | None, Any]:
    """Return the tree of nodes, which have line numbers, and the constructed value.

    Raises:
        yaml.YAMLError: invalid YAML, a value that cannot be constructed, or too many nodes.
    """
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None, None
        if _count_nodes(node, {}) > MAX_NODES:
            raise yaml.MarkedYAMLError(problem=f"more than {MAX_NODES:,} values", problem_mark=node.start_mark)
        return node, loader.construct_document(node)
    except RecursionError:
        raise yaml.YAMLError("nested too deeply") from None
    finally:
        loader.dispose()


class _Loader(yaml.SafeLoader):
    """Reports the position of invalid values, such as 2024-13-45 or `!!bool maybe`; PyYAML's own errors lack it."""

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        problem = "an invalid value"
        try:
            value = super().construct_object(node, deep)
            if not isinstance(value, int) or abs(value) < 2**64:
                return value
            problem = "a number beyond 64 bits"
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
            problem += f": {error}"
        raise yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark)


def _count_nodes(node: yaml.Node, known: dict[int, int]) -> int:
    """Count the nodes of a tree with aliases expanded; more than MAX_NODES if a node contains itself."""
    if id(node) not in known:
        known[id(node)] = MAX_NODES + 1  # counted if the node contains itself
        pairs = node.value if isinstance(node, yaml.MappingNode) else []
        inner = [each for pair in pairs for each in pair]
        inner += node.value if isinstance(node, yaml.SequenceNode) else []
        known[id(node)] = 1 + sum(_count_nodes(each, known) for each in inner)
    return known[id(node)]


def _record_sources(node: yaml.Node, prefix: Key, file: str, sources: dict[Key, str], problems: list[Problem]) -> None:
    if not isinstance(node, yaml.MappingNode):
        return
    for key_node, value_node in node.value:
        key = (*prefix, str(key_node.value))
        where = f"{file}:{key_node.start_mark.line + 1}, {'.'.join(key)}"
        if key in sources:
            hint = f"the first is at {sources[key].split(',')[0]}; remove one, as YAML would silently keep the last"
            problems.append(Problem(f"{'.'.join(key)} is given twice", where, hint))
        sources[key] = where
        _record_sources(value_node, key, file, sources, problems)


def _is_setting(text: str) -> bool:
    name, equals, _ = text.partition("=")
    return bool(equals) and all(part.strip() for part in name.split("."))


def _malformed(setting: str) -> Problem:
    name, where = setting.partition("=")[0], f"--set {setting}"
    if (narrowed := narrow(setting)) != setting:
        key, _, value = narrowed.partition("=" if "=" in narrowed else ":")
        hint = f"write ASCII characters: -s {key.strip()}={value.strip() or 'VALUE'}"
        return Problem(f"--set needs section.key=value, not {setting!r}", where, hint)
    if ":" in setting and "=" not in setting:
        key, _, value = setting.partition(":")
        hint = f"write = between key and value: -s {key.strip()}={value.strip() or 'VALUE'}"
        return Problem(f"--set needs section.key=value, not {setting!r}", where, hint)
    # Typer reads `-seed 1` as `-s eed`.
    hint = describe_unknown(name, where) or describe_unknown(f"s{name}", where) or "such as -s train.max_steps=100"
    return Problem(f"--set needs section.key=value, not {setting!r}", where, hint)


def _apply_override(
    values: dict[str, Any], override: str, where: str, sources: dict[Key, str], renamed: dict[str, str]
) -> None:
    name, _, text = override.partition("=")
    key = tuple(name.strip().split("."))
    if key in RENAMED_KEYS:
        renamed[where] = describe_key(key)
        key = (*key[:-1], RENAMED_KEYS[key])
    target = values
    for part in key[:-1]:
        inner = target.get(part)
        target[part] = target = dict(inner) if isinstance(inner, dict) else {}
    if key in LENGTH_KEYS:  # only one length can be set; --set overrides the recipe's
        for other in LENGTH_KEYS - {key}:
            if not sources.get(other, "").startswith("--"):  # two on the command line are an error
                target.pop(other[-1], None)
    target[key[-1]] = _parse_value(text)
    sources[key] = where


def _parse_value(text: str) -> Any:
    """Parse a value as YAML.

    Text such as `ROMEO:` or `|`, which YAML reads as a mapping or a block, stays text, and `#` begins no comment.
    """
    if _COMMENT.search(text) and text.lstrip()[:1] not in ("'", '"', "[", "{"):
        return text
    if text.strip() in ("", "|", ">", "#", "-", "!", "~"):  # incomplete as YAML
        return text
    try:
        value = _parse_yaml(text)[1]
    except yaml.YAMLError:
        return text
    return text if isinstance(value, dict) and not text.lstrip().startswith("{") else value
