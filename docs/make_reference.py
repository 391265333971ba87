"""Write docs/reference.md: every key of a recipe and every command, as the code has them.

    python docs/make_reference.py

A test compares the page with what this script makes.
"""

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

from typer.main import get_command

from llmkit.cli.app import app
from llmkit.config.recipe import OWNERS, RECIPES
from llmkit.config.renamed import RENAMED_VALUES
from llmkit.config.schema import make_schema

PAGE = Path(__file__).with_name("reference.md")
HEAD = """# Reference

Made by `python docs/make_reference.py`; do not edit. A test keeps it current.

- [Recipe keys](#recipe-keys): every key with its type, default and meaning.
- [Commands](#commands): every command with its arguments and options.

## Recipe keys

A recipe is a YAML file with `task` and the sections below; every key has a default. `-s section.key=value` overrides a
key on the command line, `section__key=value` in Python. `--dry-run` prints the resolved recipe. `llmkit schema` prints
the same keys as a JSON schema for editors.

| key | type | default | meaning |
| --- | --- | --- | --- |
| `task` | `clm`, `mlm`, `cls`, `ner`, `qa` | `clm` | kind of model: [tasks.md](tasks.md) |
"""


def make_reference() -> str:
    """The whole page."""
    schema = make_schema()
    parts = [HEAD]
    for name, value in schema["properties"].items():
        if "$ref" in value:
            parts += describe_section(name, value, schema["$defs"])
    parts.append("## Commands\n")
    parts += [describe_command(name, command) for name, command in get_command(app).commands.items()]
    return "\n".join(parts)


def describe_section(name: str, reference: dict[str, Any], definitions: dict[str, Any]) -> list[str]:
    """A heading and a table for a section, then for the sections in it."""
    section = definitions[reference["$ref"].rpartition("/")[2]]
    tasks = f" Only with task {' or '.join(f'`{task}`' for task in OWNERS[name])}." if name in OWNERS else ""
    lines = [f"### {name}\n", f"{section['description']}{tasks}\n"]
    rows, inner = [], []
    for key, value in section["properties"].items():
        if "$ref" in value:
            inner += describe_section(f"{name}.{key}", value, definitions)
        elif not value.get("deprecated"):
            kind = describe_type(value, RENAMED_VALUES.get((name, key), {}))
            rows.append(f"| `{key}` | {kind} | {describe_default(name, key, value)} | {escape(value['description'])} |")
    if rows:
        lines += ["| key | type | default | meaning |", "| --- | --- | --- | --- |", *rows, ""]
    return [*lines, *inner]


def describe_type(value: dict[str, Any], old: Collection[Any] = ()) -> str:
    """`number ≥ 0`, or the words that a key may have, without `old` ones."""
    if "anyOf" in value:
        return " or ".join(dict.fromkeys(describe_type(each) for each in value["anyOf"]))
    if "const" in value or "enum" in value:
        words = [value["const"]] if "const" in value else value["enum"]
        return ", ".join(f"`{show(word)}`" for word in words if word not in old)
    kind = {"array": "list", "object": "mapping", "string": "text"}.get(value["type"], value["type"])
    if kind == "list":
        return f"list: {describe_type(value['items'])}"
    bounds = {
        "minimum": "≥ {}",
        "exclusiveMinimum": "> {}",
        "maximum": "≤ {}",
        "exclusiveMaximum": "< {}",
    }
    limits = [text.format(f"{value[name]:,}") for name, text in bounds.items() if name in value]
    return " ".join([kind, ", ".join(limits)]).strip()


def describe_default(section: str, key: str, value: dict[str, Any]) -> str:
    """The key's default, and those of tasks that have another."""
    default = value.get("default")
    found = [f"`{show(default)}`"]
    for task, recipe in RECIPES.items():
        own = getattr(getattr(recipe(task=task), section, None), key, default)
        if own != default:
            found.append(f"`{show(own)}` with task `{task}`")
    return "; ".join(found)


def show(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False).strip('"') if value != "" else '""'


def describe_command(name: str, command: Any) -> str:
    """Its help and a table of its arguments and options."""
    context = command.make_context(name, [], resilient_parsing=True)
    lines = [f"### llmkit {name}\n", f"{' '.join((command.help or '').split())}\n"]
    records = [parameter.get_help_record(context) for parameter in command.params if parameter.name != "help"]
    rows = [f"| `{escape(names)}` | {escape(meaning)} |" for names, meaning in filter(None, records)]
    return "\n".join([*lines, *(["| argument, option | meaning |", "| --- | --- |", *rows, ""] if rows else [])])


def escape(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    PAGE.write_text(make_reference(), encoding="utf-8")
