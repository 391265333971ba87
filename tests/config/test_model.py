"""The fields that each model family reads, and the sizes that it has."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from llmkit.architectures import ARCHITECTURES, families_of
from llmkit.config.loading import dump_recipe, load_recipe
from llmkit.config.model import NOT_READ_BY_ALL, Model
from llmkit.core.errors import UsageError


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    return path


def errors_of(tmp_path: Path, text: str, *overrides: str) -> list[tuple[str, str, str]]:
    with pytest.raises(UsageError) as caught:
        load_recipe(write(tmp_path, text), overrides)
    return [(p.what, p.where, p.hint) for p in caught.value.problems]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ("family: gru, n_head: 4", "n_head applies only to gpt2, llama, bert, modernbert, transformer, not to gru"),
        (
            "family: lstm, n_positions: 64",
            "n_positions applies only to gpt2, llama, bert, modernbert, transformer, not to lstm",
        ),
        ("family: gru, attention_dropout: 0.1", "attention_dropout applies only to"),
        ("family: transformer, embedding_size: 64", "embedding_size applies only to gru, lstm, not to transformer"),
        ("embedding_size: 64", "embedding_size applies only to gru, lstm, not to gpt2"),
        ("adaptive_cutoffs: [10]", "adaptive_cutoffs applies only to gru, lstm, transformer, not to gpt2"),
        (
            "family: gru, embedding_size: 64, n_embd: 128",
            "tie_embeddings needs embedding_size 64 to equal n_embd 128",
        ),
        ("family: gru, tie_embeddings: false, adaptive_cutoffs: [10, 10]", "must ascend"),
        ("family: gru, tie_embeddings: false, adaptive_cutoffs: [0, 10]", "greater than or equal to 1"),
        ("family: gru, size: base", "base"),
        ("family: transformer, n_embd: 130", "not a multiple of n_head 4"),
    ],
)
def test_field_that_the_family_cannot_use_is_refused(tmp_path: Path, fields: str, words: str) -> None:
    [(what, where, _)] = errors_of(tmp_path, f"model: {{{fields}}}\n")
    assert words in what
    assert "model" in where


@pytest.mark.parametrize(
    "fields",
    [
        "family: gru, embedding_size: 64, n_embd: 64",
        "family: gru, embedding_size: 64, tie_embeddings: false",
        "family: lstm, adaptive_cutoffs: [2, 9]",
        "family: transformer, adaptive_cutoffs: [2, 9], tie_embeddings: false, n_head: 2",
    ],
)
def test_field_that_the_family_can_use_is_taken(tmp_path: Path, fields: str) -> None:
    recipe = load_recipe(write(tmp_path, f"model: {{{fields}}}\n"))
    assert load_recipe(write(tmp_path, dump_recipe(recipe))) == recipe


@pytest.mark.parametrize(
    ("family", "size"), [(family, size) for family in ARCHITECTURES for size in ARCHITECTURES[family].sizes]
)
def test_every_size_fits_itself_and_its_own_fields_beat_it(family: str, size: str) -> None:
    model = Model(family=family, size=size)
    assert model.shape == ARCHITECTURES[family].sizes[size]
    assert Model(family=family, size=size, n_layer=7).shape == ARCHITECTURES[family].sizes[size] | {"n_layer": 7}


def test_size_that_the_family_has_not_names_those_it_has() -> None:
    with pytest.raises(ValidationError, match="no bert of size xl; sizes: tiny, mini, small, medium, base, large"):
        Model(family="bert", size="xl")


def test_heads_of_keys_follow_the_heads_unless_they_are_given() -> None:
    assert Model(family="llama", n_head=8, n_embd=128).shape["n_kv_head"] == 2
    assert Model(family="llama", n_head=5, n_embd=320).shape["n_kv_head"] == 5, "2 does not divide 5"
    with pytest.raises(ValidationError, match="n_head 8 is not a multiple of n_kv_head 3"):
        Model(family="llama", n_head=8, n_embd=128, n_kv_head=3)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"family": "transformer", "n_embd": 33, "n_head": 3}, "sinusoidal positions need an even width"),
        ({"family": "llama", "n_embd": 36, "n_head": 4}, "rotary positions need an even width"),
        ({"init": "he", "init_range": 0.2}, "init_range applies only to init normal and uniform"),
    ],
)
def test_width_and_range_that_the_architecture_cannot_use_are_refused(fields: dict[str, object], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        Model.model_validate(fields)
    Model.model_validate({"init": "uniform", "init_range": 0.2})


def test_fields_that_only_some_families_read_are_fields() -> None:
    assert set(NOT_READ_BY_ALL) <= set(Model.model_fields)


def test_first_family_of_a_task_is_the_one_that_recipes_take_without_one() -> None:
    assert (families_of("clm")[0], families_of("mlm")[0]) == ("gpt2", "bert")
