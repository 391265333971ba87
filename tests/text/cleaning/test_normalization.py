"""The cleaning settings that are saved with a model give the same text as cleaning."""

import importlib.util
from typing import Any

import pytest

from llmkit.config.prepare import Clean
from llmkit.core.errors import EnvironmentFault, ModelError
from llmkit.text.cleaning import characters
from llmkit.text.cleaning.cleaners import clean_documents
from llmkit.text.cleaning.normalization import (
    name_normalization,
    normalize_documents,
    normalize_text,
    read_normalization,
    record_normalization,
)
from llmkit.text.documents import Document, StepCounts

TEXTS = ["Cafe\u0301 ＡＢ「漢字」, ﬁne!\r\nNEXT\x00 LINE", "ΟΔΟΣ İstanbul", "  two  \n\n\n\n\n　spaces  ", "", "Ａ。"]
TEXTS += ["Tom &amp; Jerry &amp;lt; &shy; &#8217;", "Unter\xadnehmen baut Unter\xad\nnehmen um"]
SETTINGS: list[dict[str, Any]] = [
    {},
    {"unicode": "NFKC"},
    {"unicode": "none", "lowercase": True},
    {"lowercase": True, "strip_punctuation": True},
    {"html_entities": True, "soft_hyphens": True},
]


def read(clean: Clean) -> Clean:
    return read_normalization(record_normalization(clean), "here")


@pytest.mark.parametrize("settings", SETTINGS)
def test_text_is_what_cleaning_makes_of_it_without_the_steps_for_files(settings: dict[str, Any]) -> None:
    clean = Clean(mojibake=False, gutenberg=False, whitespace=False, **settings)
    for text in filter(str.strip, TEXTS):
        expected = "".join(part.text for part in clean_documents([Document(text, "x")], clean, False, {}))
        assert normalize_text(text, read(Clean(**settings))) == expected


def test_entities_and_soft_hyphens_travel_with_the_model() -> None:
    normalization = read(Clean(html_entities=True, soft_hyphens=True))
    assert normalize_text("Caf&eacute; &amp;amp; Unter\xadnehmen", normalization) == "Café &amp; Unternehmen"
    assert name_normalization(normalization) == ["NFC", "HTML entities decoded", "no soft hyphens"]
    assert normalize_text("a&amp;\xad", read(Clean())) == "a&amp;\xad"


def test_white_space_stays_as_it_is_written() -> None:
    assert normalize_text(TEXTS[2], read(Clean())) == TEXTS[2]


def test_documents_in_parts_are_normalized_as_one_text() -> None:
    normalization = read(Clean(strip_punctuation=True, lowercase=True))
    parts = [Document("One, ", "x", 0, 0, last=False), Document("; TWO", "x", 0, 1)]
    counts: dict[str, StepCounts] = {}
    together = "".join(part.text for part in normalize_documents(parts, normalization, counts))
    assert together == normalize_text("One, ; TWO", normalization) == "one two"
    assert counts["lowercase"].changed == 1


def test_record_names_only_settings_that_are_saved_with_the_model() -> None:
    record = record_normalization(Clean(lowercase=True, mojibake=False))
    assert record == {"unicode": "NFC", "lowercase": True, "strip_punctuation": False, "simplify_chinese": False}
    assert name_normalization(read(Clean(lowercase=True))) == ["NFC", "lower case"]


@pytest.mark.parametrize("record", [{"lowercase": True, "leetspeak": True}, {"unicode": "NFX"}, {"mojibake": True}])
def test_record_of_a_newer_llmkit_is_refused_with_what_is_new(record: dict[str, Any]) -> None:
    with pytest.raises(ModelError, match=r"leetspeak|unicode|mojibake"):
        read_normalization(record, "here")


@pytest.mark.skipif(importlib.util.find_spec("opencc") is None, reason="needs OpenCC")
def test_traditional_characters_become_simplified() -> None:
    assert normalize_text("漢語 Ok", read(Clean(simplify_chinese=True))) == "汉语 Ok"


def test_without_opencc_only_chinese_text_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "opencc", None)
    characters._load_converter.cache_clear()
    normalization = read(Clean(simplify_chinese=True))
    assert normalize_text("plain café", normalization) == "plain café"
    with pytest.raises(EnvironmentFault, match="simplified Chinese") as caught:
        normalize_text("漢", normalization)
    assert "llmkit[chinese]" in caught.value.problems[0].hint
