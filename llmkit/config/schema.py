"""The JSON Schema of recipes, which editors use to complete keys and mark errors; `llmkit schema` prints it.

The schema is one closed object with the sections of all tasks, and a condition for each section that only some tasks
read. With a union of recipes, editors could not report an unknown key by name. Checks that involve several keys are not
in the schema; the sections do them.
"""

from typing import Any

from llmkit.architectures import ARCHITECTURES
from llmkit.config.recipe import OWNERS, RECIPES
from llmkit.config.renamed import RENAMED_KEYS, RENAMED_VALUES, Key

Schema = dict[str, Any]


def make_schema() -> Schema:
    """Return the schema (draft 2020-12), with names from earlier versions marked as deprecated."""
    definitions: Schema = {}
    sections: Schema = {}
    for recipe in RECIPES.values():
        schema = recipe.model_json_schema()
        definitions |= schema["$defs"]
        sections |= {name: {"$ref": value["$ref"]} for name, value in schema["properties"].items() if name != "task"}
    definitions = {name: _tidy(definition) for name, definition in sorted(definitions.items())}
    definitions["Model"]["properties"]["family"]["enum"] = list(ARCHITECTURES)
    task = {"description": "Task; required if the command does not determine it.", "enum": list(RECIPES)}
    properties: Schema = {"task": task, **sections}
    _add_old_names((), properties)
    for name, reference in sections.items():
        section = definitions[reference["$ref"].rpartition("/")[2]]
        section["type"] = ["object", "null"]  # a section without keys is null in YAML
        _add_old_names((name,), section["properties"])
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "llmkit recipe",
        "description": "From raw text or labelled rows to a model; every key has a default.",
        "type": "object",
        "additionalProperties": False,
        "properties": properties,
        "allOf": [
            {"if": {"required": [name]}, "then": {"properties": _others(name, owners)}}
            for name, owners in OWNERS.items()
        ],
        "$defs": definitions,
    }


def _others(section: str, owners: tuple[str, ...]) -> Schema:
    """Return what a recipe with this section must fulfil: a task that reads it, and no section of other tasks."""
    foreign = {name: False for name, tasks in OWNERS.items() if name != section and not set(tasks) & set(owners)}
    return {"task": {"enum": list(owners)}, **foreign}


def _add_old_names(section: Key, properties: Schema) -> None:
    """Add values and keys of earlier versions, which loading.py accepts and logs with their new names."""
    for (*owner, key), renamed in RENAMED_VALUES.items():
        if tuple(owner) == section:
            properties[key]["enum"] += list(renamed)
    for (*owner, old), new in RENAMED_KEYS.items():
        if tuple(owner) == section:
            taken = {name: value for name, value in properties[new].items() if name != "default"}
            name = ".".join((*section, new))
            properties[old] = taken | {"deprecated": True, "description": f"Old name of {name}."}


def _tidy(schema: Any) -> Any:
    """Remove titles made from names, and defaults of complete sections, because keys have their own defaults."""
    if isinstance(schema, list):
        return [_tidy(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    kept = {name: value for name, value in schema.items() if name != "title" or not isinstance(value, str)}
    if "$ref" in kept:
        kept.pop("default", None)
    return {name: value if name == "default" else _tidy(value) for name, value in kept.items()}
