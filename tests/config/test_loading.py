"""Recipes are closed and typed, and all errors are reported at once with their lines."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from pydantic import BaseModel

from llmkit.config.loading import dump_recipe, load_recipe
from llmkit.config.recipe import Recipe
from llmkit.core.errors import UsageError

RECIPES = sorted(each for each in Path(__file__).parents[2].glob("recipes/**/*.yaml") if each.parent.name != "cluster")


def list_fields(section: type[BaseModel] = Recipe, prefix: str = "") -> Iterator[str]:
    for name, field in section.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            yield from list_fields(inner, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    return path


def errors_of(tmp_path: Path, text: str, *overrides: str) -> list[tuple[str, str, str]]:
    with pytest.raises(UsageError) as caught:
        load_recipe(write(tmp_path, text), overrides)
    return [(p.what, p.where, p.hint) for p in caught.value.problems]


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_of_ours_is_valid(path: Path) -> None:
    load_recipe(path)


def test_unknown_key_names_file_line_and_the_nearest_known_key(tmp_path: Path) -> None:
    [(what, where, hint)] = errors_of(tmp_path, "train:\n  seed: 1\n  blocksize: 64\n")
    assert what == "unknown key 'train.blocksize'"
    assert where.endswith("recipe.yaml:3, train.blocksize")
    assert hint == "did you mean 'block_size'?"


def test_all_mistakes_are_shown_at_once(tmp_path: Path) -> None:
    found = errors_of(tmp_path, "train:\n  block_size: one\nmodell: {}\noptim:\n  learning_rate: -1\n  name: admw\n")
    assert [where.rsplit(":", 1)[1].split(",")[0] for _, where, _ in found] == ["2", "3", "5", "6"]
    assert ("optim.name is 'admw'", "did you mean 'adamw'? known: adamw, muon, adam, sgd") in [
        (what, hint) for what, _, hint in found
    ]


def test_override_beats_the_recipe_and_its_mistakes_are_named(tmp_path: Path) -> None:
    path = write(tmp_path, "train: {max_steps: 5}\n")
    assert load_recipe(path, ["train.max_steps=7", "optim.learning_rate=3e-4"]).train.max_steps == 7
    assert load_recipe(path, ["optim.learning_rate=3e-4"]).optim.learning_rate == 3e-4
    [(what, where, _)] = errors_of(tmp_path, "", "train.stepz=7")
    assert (what, where) == ("unknown key 'train.stepz'", "--set train.stepz=7")


def test_length_on_the_command_line_takes_the_place_of_the_recipes(tmp_path: Path) -> None:
    train = load_recipe(write(tmp_path, "train: {max_minutes: 5}\n"), ["train.max_steps=7"]).train
    assert (train.max_steps, train.max_minutes) == (7, None)


def test_mistake_on_the_command_line_is_placed_there(tmp_path: Path) -> None:
    [(_, where, _)] = errors_of(tmp_path, "generate: {seed: 1}\n", "generate.temperature=0", "generate.num_samples=2")
    assert where == "--set generate.num_samples=2"
    [(_, where, hint)] = errors_of(tmp_path, "", "prepare.tokeniser.kind=char")
    assert (where, hint) == ("--set prepare.tokeniser.kind=char", "did you mean 'tokenizer'?")


def test_override_that_yaml_would_read_as_a_mapping_or_a_comment_stays_text() -> None:
    for text in ("ROMEO:", "#1 String", "C #", "a #b"):
        assert load_recipe(None, [f"train.sample_prompt={text}"]).train.sample_prompt == text
    assert load_recipe(None, ["train={max_steps: 3}"]).train.max_steps == 3


@pytest.mark.parametrize("override", ["train.max_steps", "=5", "train.=5"])
def test_malformed_override_is_a_usage_error(tmp_path: Path, override: str) -> None:
    assert "section.key=value" in errors_of(tmp_path, "", override)[0][0]


def test_key_given_twice_is_an_error_and_not_silently_the_last(tmp_path: Path) -> None:
    [(what, where, hint)] = errors_of(tmp_path, "train:\n  seed: 1\n  seed: 2\n")
    assert what == "train.seed is given twice"
    assert ":3" in where
    assert ":2" in hint


@pytest.mark.parametrize(
    "override",
    ["train.seed=5000000000", "model.n_embd=130", "train.max_minutes=.inf", "train.epochs=.nan", "model.n_head=3"],
)
def test_values_that_would_crash_later_are_refused_now(tmp_path: Path, override: str) -> None:
    assert errors_of(tmp_path, "", override)


@pytest.mark.parametrize(
    "text", ["model: !!python/object:os.system {}", "? [a, b]\n: 1", "a: [", "- a\n- b\n", "train: 5\n", "\tx: 1"]
)
def test_files_that_are_not_recipes_are_a_usage_error(tmp_path: Path, text: str) -> None:
    assert errors_of(tmp_path, text)


def test_missing_recipe_suggests_the_nearest_name(tmp_path: Path) -> None:
    (tmp_path / "gpt2-tiny.yaml").touch()
    with pytest.raises(UsageError, match=r"did you mean 'gpt2-tiny.yaml'"):
        load_recipe(tmp_path / "gpt2-tny.yaml")


def test_dumped_recipe_loads_as_the_same_recipe(tmp_path: Path) -> None:
    recipe = load_recipe(None, ["train.max_minutes=0.5", "prepare.tokenizer.kind=char", "generate.stop=['。']"])
    assert load_recipe(write(tmp_path, dump_recipe(recipe))) == recipe
    assert set(yaml.safe_load(dump_recipe(recipe))) >= {"prepare", "model", "optim", "train"}


def test_settings_of_the_train_file_are_dropped_for_a_new_file(tmp_path: Path) -> None:
    read = "{encoding: cp1250, delimiter: ';', header: false, field: body}"
    path = write(tmp_path, f"task: cls\nprepare: {{read: {read}}}\ncls: {{text: body, header: false}}\n")
    kept, forgotten = (load_recipe(path, forget_columns=forget) for forget in (False, True))
    assert (kept.prepare.read.encoding, kept.prepare.read.delimiter, kept.prepare.read.header) == ("cp1250", ";", False)
    found = forgotten.prepare.read
    assert (found.encoding, found.delimiter, found.header, found.field) == ("auto", "auto", "auto", "body")
    named = load_recipe(path, ["prepare.read.encoding=cp1251"], forget_columns=True)
    assert named.prepare.read.encoding == "cp1251"


def test_names_that_everybody_uses_exist() -> None:
    names = set(list_fields())
    promised = {"model.family", "model.size", "prepare.tokenizer.kind", "prepare.tokenizer.vocab_size"}
    promised |= {f"train.{key}" for key in ("block_size", "max_steps", "epochs", "max_minutes", "global_batch_size")}
    promised |= {f"train.{key}" for key in ("log_steps", "eval_steps", "save_steps", "seed", "micro_batch_size")}
    assert promised | {"optim.name", "optim.learning_rate", "optim.warmup_steps"} <= names


def test_every_field_is_read_somewhere() -> None:
    source = "\n".join(
        path.read_text() for path in (Path(__file__).parents[2] / "llmkit").rglob("*.py") if "config" not in path.parts
    )
    unread = [name for name in list_fields() if f".{name.split('.')[-1]}" not in source]
    # The sections read some of their own fields.
    assert set(unread) <= {"model.n_layer", "model.n_head", "model.n_kv_head", "model.n_embd"}


def test_two_lengths_on_the_command_line_are_an_error_and_one_overrides_the_recipe(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="both set the length"):
        load_recipe(None, ["train.max_steps=3", "train.max_minutes=1"])
    (tmp_path / "r.yaml").write_text("train: {max_minutes: 1}\n")
    assert load_recipe(tmp_path / "r.yaml", ["train.max_steps=3"]).train.max_minutes is None


@pytest.mark.parametrize("text", ["int: []\n", "train: {int: 3}\n", "str: 1\n"])
def test_unknown_key_that_is_named_like_a_type_is_named(tmp_path: Path, text: str) -> None:
    with pytest.raises(UsageError, match=r"unknown key '(train.int|int|str)'"):
        load_recipe(write(tmp_path, text))


@pytest.mark.parametrize(
    ("content", "hint"),
    [
        (b"train:\n\tmax_steps: 5\n", "indent with spaces"),
        (b"train:\n  max_steps:5\n", "write a space after the colon"),
        (b"train:\n  max_steps:5\n  seed: 2\n", "write a space after the colon"),
        ("train:\n  max_steps：5\n".encode(), "write `: ` instead of the full-width colon"),
        ("train：\n  max_steps: 5\n".encode(), "write `: ` instead of the full-width colon"),
        (b"train:\n  max_steps = 5\n", "write `key: value`"),
        (b"train:\n  - max_steps: 5\n", "remove the dashes"),
        ("train: {max_steps: 5}\n".encode("utf-16"), "save it as UTF-8"),
        ("train: {max_steps: 5}\n".encode("utf-16-le"), "save it as UTF-8"),
        ("train: {} # 步\n".encode("gbk"), "save it as UTF-8"),
        (b"train: [\n", "check indentation, colons and quotes"),
    ],
)
def test_yaml_mistake_gets_a_hint_with_the_right_spelling(tmp_path: Path, content: bytes, hint: str) -> None:
    (tmp_path / "r.yaml").write_bytes(content)
    with pytest.raises(UsageError) as caught:
        load_recipe(tmp_path / "r.yaml")
    [problem] = caught.value.problems
    assert problem.hint.startswith(hint)


@pytest.mark.parametrize("content", [b"", b"# x\n", b'{"train": {"max_steps": 5}}', b"train:\r\n  max_steps: 5\r\n"])
def test_empty_json_and_windows_recipes_are_read(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "r.yaml").write_bytes(content)
    assert load_recipe(tmp_path / "r.yaml").train.max_steps in (None, 5)


def test_recipe_that_may_never_end_is_refused_and_a_stream_of_the_shell_is_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.yaml")
    for path in (tmp_path / "pipe.yaml", Path("/dev/zero")):
        with pytest.raises(UsageError, match="is a pipe, a socket or a device"):
            load_recipe(path)
    reader, writer = os.pipe()
    os.write(writer, b"train: {max_steps: 7}")
    os.close(writer)
    assert load_recipe(Path(f"/dev/fd/{reader}")).train.max_steps == 7
