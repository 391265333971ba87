"""The train split is never empty, and quality rules are off by default."""

import pytest
from pydantic import ValidationError

from llmkit.config.loading import load_recipe
from llmkit.config.prepare import Clean, Prepare, Quality, Split
from llmkit.core.errors import UsageError


@pytest.mark.parametrize(("validation", "test"), [(0.5, 0.5), (0.99, 0.02), (0.6, 0.4)])
def test_shares_that_leave_no_train_split_are_refused(validation: float, test: float) -> None:
    with pytest.raises(ValidationError, match="leave nothing for training"):
        Split(validation=validation, test=test)
    assert Split(validation=validation, test=0).test == 0


@pytest.mark.parametrize(
    "values",
    [
        {"split": {"validation": 1}},
        {"tokenizer": {"vocab_size": 15}},
        {"read": {"max_doc_chars": 999}},
        {"dedup": {"near_threshold": 0}},
        {"clean": {"quality": {"max_digit_share": 1.1}}},
        {"clean": {"unicode": "nfc"}},
        {"sentences": "maybe"},
    ],
)
def test_value_out_of_its_range_is_refused_wherever_it_stands(values: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Prepare.model_validate(values)


def test_no_rule_of_quality_drops_anything_unless_it_is_set() -> None:
    shares = {name: value for name, value in Quality().model_dump().items() if name != "min_chars"}
    assert set(shares.values()) == {1.0}
    assert Prepare().clean.quality == Quality(min_chars=0)


def test_columns_without_a_name_can_be_named_by_their_number() -> None:
    assert load_recipe(None, ["prepare.read.field=2"]).prepare.read.field == "2"
    assert load_recipe(None, ["prepare.read.text_column=2"]).prepare.read.field == "2"


@pytest.mark.parametrize(("value", "delimiter"), [(";", ";"), ("|", "|"), ("tab", "\t"), ("\\t", "\t"), ("none",) * 2])
def test_a_delimiter_is_one_character_tab_or_none(value: str, delimiter: str) -> None:
    assert load_recipe(None, [f"prepare.read.delimiter={value}"]).prepare.read.delimiter == delimiter
    with pytest.raises(UsageError, match="a delimiter is one character"):
        load_recipe(None, ["prepare.read.delimiter=::"])


@pytest.mark.parametrize(
    ("value", "languages"),
    [("en", ["en"]), ("zh,en", ["zh", "en"]), ("zh, en,", ["zh", "en"]), (["zh"], ["zh"]), ("", []), (False, ["no"])],
)
def test_languages_are_a_list_or_codes_with_commas(value: object, languages: list[str]) -> None:
    assert Clean.model_validate({"languages": value}).languages == languages
