"""Hints of recipe errors name the key that was meant, the form of its value, and nothing that is only similar."""

from pathlib import Path

import pytest

from llmkit.config.loading import load_recipe
from llmkit.core.errors import UsageError


def hint_of(*overrides: str, path: Path | None = None, task: str | None = None) -> tuple[str, str]:
    with pytest.raises(UsageError) as caught:
        load_recipe(path, overrides, task)
    return caught.value.problems[0].where, caught.value.problems[0].hint


@pytest.mark.parametrize(
    ("override", "hint"),
    [
        ("learning_rate=1", "write -s optim.learning_rate=1 ("),
        ("train.learning_rate=-1", "write -s optim.learning_rate=3e-4 ("),
        ("weight_decay=0", "write -s optim.weight_decay=0 ("),
        ("tokenizer.kind=bpe", "write -s prepare.tokenizer.kind=byte-bpe ("),
        ("gradient_accumulation_steps=4", "leave it out: it follows from train.global_batch_size"),
        ("output_dir=x", "write --out FOLDER"),
        ("train.learning_rat=1", "did you mean 'optim.learning_rate'?"),
        ("prepare.split.unit=document", "known: by, seed, test, validation"),
        ("train.xyz=1", "known: block_size, "),
        ("optim=adamw_torch", "write -s optim.name=adamw ("),
        ("prepare.tokenizer.kind=bpe", "did you mean 'byte-bpe'? known: byte-bpe, wordpiece, char, word"),
        ("optim.schedule=Cosine_With_Warmup", "did you mean 'cosine'? known: cosine, linear, "),
        ("train.precision=fp16", "did you mean 'bf16'? known: auto, bf16, tf32, fp32"),
        ("model.family=GPT-2", "did you mean 'gpt2'? known: gpt2, "),
        ("task=text-classification", "did you mean 'cls'? known: clm, mlm, cls"),
        ("lr", "write -s optim.learning_rate=3e-4 ("),
        ("eed", "write -s train.seed=1 ("),
    ],
)
def test_hint_names_what_was_meant_and_where_shows_the_argument(override: str, hint: str) -> None:
    where, found = hint_of(override)
    assert where == f"--set {override}"
    assert found.startswith(hint)


def test_in_a_file_the_hint_is_a_line_of_the_section(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text("train:\n  num_train_epochs: 3\n")
    where, hint = hint_of(path=path)
    assert where == f"{path}:2, train.num_train_epochs"
    assert hint == "write `epochs: 3` in section train (Passes over the train split)"


def test_malformed_setting_is_named_even_if_the_recipe_is_missing_and_others_are_still_read(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        load_recipe(tmp_path / "1", ["eed", "train.max_steps=2"])
    assert [each.where for each in caught.value.problems] == ["--set eed", str(tmp_path)]
    with pytest.raises(UsageError) as caught:
        load_recipe(None, ["eed", "train.max_steps=none"])
    assert [each.where for each in caught.value.problems] == ["--set eed", "--set train.max_steps=none"]


def test_setting_given_as_the_recipe_gets_the_hint_to_use_s() -> None:
    _, hint = hint_of(path=Path("train.max_steps=10"))
    assert hint == "settings follow -s: -s train.max_steps=10"


@pytest.mark.parametrize(
    ("override", "hint"),
    [
        ("train.epochs＝3", "write ASCII characters: -s train.epochs=3"),
        ("train.epochs:3", "write = between key and value: -s train.epochs=3"),
        ("train.epochs：3", "write ASCII characters: -s train.epochs=3"),
        ("ｔｒａｉｎ．ｅｐｏｃｈｓ＝３", "write ASCII characters: -s train.epochs=3"),
        ("train。epochs=3", "write ASCII characters: train.epochs"),
        ("optim.learning_rate=3e－4", "write ASCII characters: 3e-4"),
    ],
)
def test_full_width_characters_are_named_with_the_ascii_ones(override: str, hint: str) -> None:
    assert hint_of(override)[1] == hint


def test_full_width_marks_of_a_label_map_are_named() -> None:
    with pytest.raises(UsageError, match="= and , must be ASCII characters"):
        load_recipe(None, ["cls.label_map=0＝neg，1＝pos"])
