"""The schema of recipes accepts what llmkit accepts, and marks what llmkit refuses."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from llmkit.config.loading import dump_recipe, load_recipe
from llmkit.config.recipe import RECIPES, make_recipe
from llmkit.config.schema import make_schema
from llmkit.core.errors import UsageError

ROOT = Path(__file__).parents[2]
SHIPPED = ROOT / "recipes/recipe.schema.json"
PATHS = [*ROOT.glob("recipes/*.yaml"), *ROOT.glob("recipes/smoke/*.yaml")]
VALIDATOR = Draft202012Validator(make_schema())


class _Yaml12(yaml.SafeLoader):
    """Reads 1e-3 as a number, as YAML 1.2 and so editors do."""


_Yaml12.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?[0-9.]+e[-+]?[0-9]+$"), list("-+.0123456789")
)


def mistakes(text: str) -> list[str]:
    found: Any = yaml.load(text, _Yaml12)
    return [error.message for error in VALIDATOR.iter_errors(found)]


def test_shipped_schema_is_the_one_of_this_version() -> None:
    Draft202012Validator.check_schema(make_schema())
    assert json.loads(SHIPPED.read_text()) == make_schema(), "llmkit schema > recipes/recipe.schema.json"


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_every_recipe_is_valid_and_names_the_schema_in_its_first_line(path: Path) -> None:
    text = path.read_text()
    assert mistakes(text) == []
    named = text.splitlines()[0].removeprefix("# yaml-language-server: $schema=")
    assert (path.parent / named).resolve() == SHIPPED


@pytest.mark.parametrize("task", RECIPES)
def test_recipe_that_a_run_saves_is_valid(task: str) -> None:
    assert mistakes(dump_recipe(make_recipe({"task": task}))) == []


def find_numbers(value: Any) -> list[dict[str, Any]]:
    """The schemas of numbers in the schema of a key."""
    if isinstance(value, list):
        return [found for each in value for found in find_numbers(each)]
    if not isinstance(value, dict):
        return []
    here = [value] if value.get("type") in ("integer", "number") else []
    return here + [found for each in value.values() for found in find_numbers(each)]


def test_every_number_has_a_lowest_and_a_highest_value() -> None:
    low, high = {"minimum", "exclusiveMinimum"}, {"maximum", "exclusiveMaximum"}
    unbounded = [
        f"{section}.{key}"
        for section, definition in make_schema()["$defs"].items()
        for key, value in definition["properties"].items()
        for number in find_numbers(value)
        if not (low & number.keys() and high & number.keys())
    ]
    assert unbounded == ["Train.micro_batch_size"], "which may not exceed train.global_batch_size"


@pytest.mark.parametrize("number", [".nan", ".inf", "-.inf", "1e300", "-1e300", "1" + "0" * 400])
def test_no_number_of_a_recipe_may_be_beyond_its_bounds(number: str) -> None:
    taken = []
    for task in RECIPES:
        for section, fields in make_recipe({"task": task}).model_dump(mode="json").items():
            for key, value in fields.items() if isinstance(fields, dict) else ():
                if isinstance(value, int | float) and not isinstance(value, bool):
                    try:
                        load_recipe(None, [f"task={task}", f"{section}.{key}={number}"])
                    except UsageError:
                        continue
                    taken.append(f"{section}.{key}")
    assert not taken


def test_every_key_of_every_section_is_in_the_schema_with_a_description() -> None:
    definitions = make_schema()["$defs"]
    bare = [
        f"{section}.{key}"
        for section, definition in definitions.items()
        for key, value in definition["properties"].items()
        if not value.get("description") and not definitions.get(value.get("$ref", "").rpartition("/")[2])
    ]
    assert not bare


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("train: {max_step: 10}", "'max_step' was unexpected"),
        ("trian: {max_steps: 10}", "'trian' was unexpected"),
        ("prepare: {clean: {quality: {min_char: 1}}}", "'min_char' was unexpected"),
        ("train: {max_steps: many}", "'many' is not"),
        ("model: {family: gtp2}", "'gtp2' is not one of"),
        ("optim: {learning_rate: -1}", "-1 is not valid"),
        ("task: cls\nmlm: {whole_words: true}", "'cls' is not one of ['mlm']"),
        ("mlm: {whole_words: true}\ncls: {text: a}", "False schema does not allow"),
    ],
)
def test_mistake_is_marked(text: str, words: str) -> None:
    found = mistakes(text)
    assert found
    assert words in "\n".join(found)


@pytest.mark.parametrize(
    "text",
    [
        "objective: clm",
        "cls: {labels: multiple}",
        "train:",
        "optim: {learning_rate: 1e-3}",
    ],
)
def test_names_of_earlier_versions_and_empty_sections_are_valid(text: str, tmp_path: Path) -> None:
    assert mistakes(text) == []
    (tmp_path / "recipe.yaml").write_text(text)
    load_recipe(tmp_path / "recipe.yaml")
