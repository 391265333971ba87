"""A tokenizer carries the normalization of its model: for llmkit in its record, for transformers in its normalizer."""

import random
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer, BertTokenizer, PreTrainedTokenizerFast

from llmkit.config.prepare import Clean, TokenizerSection
from llmkit.core.errors import ModelError
from llmkit.tokens.loading import load_tokenizer
from llmkit.tokens.normalization import (
    KEY,
    N_NORMALIZERS,
    adopt_normalization,
    describe_for_card,
    normalization_of,
    normalize_texts,
    remove_normalization,
    set_normalization,
)
from llmkit.tokens.tokenizer import encode_texts, fingerprint_tokenizer
from llmkit.tokens.training_tokenizers import train_tokenizer

TEXT = "the café is open, say the cooks of the island of σοφος.\n" * 3
GIVEN = "The CAFE\u0301 Is Open ΣΟΦΟΣ"
KINDS = ["byte-bpe", "char", "wordpiece", "word"]
LOWER = {"unicode": "NFC", "lowercase": True}


def trained(kind: Any) -> PreTrainedTokenizerFast:
    return train_tokenizer([TEXT], TokenizerSection(kind=kind, vocab_size=400))


def ids(tokenizer: Any, text: str) -> list[int]:
    return encode_texts(tokenizer, [text])[0].tolist()


@pytest.mark.parametrize("kind", KINDS)
def test_plain_transformers_reads_the_ids_of_the_training_text(tmp_path: Path, kind: str) -> None:
    tokenizer = trained(kind)
    expected, before = ids(tokenizer, "the café is open σοφος"), ids(tokenizer, TEXT)
    set_normalization(tokenizer, LOWER)
    tokenizer.save_pretrained(tmp_path)
    plain = AutoTokenizer.from_pretrained(tmp_path)
    assert plain(GIVEN, add_special_tokens=False)["input_ids"] == expected
    assert ids(plain, TEXT) == before
    assert normalize_texts(load_tokenizer(str(tmp_path)), [GIVEN]) == ["the café is open σοφος"]


@pytest.mark.parametrize("kind", KINDS)
def test_fingerprint_is_that_of_the_data_it_was_trained_on(tmp_path: Path, kind: str) -> None:
    tokenizer = trained(kind)
    before = fingerprint_tokenizer(tokenizer)
    set_normalization(tokenizer, LOWER)
    tokenizer.save_pretrained(tmp_path)
    loaded = load_tokenizer(str(tmp_path))
    assert fingerprint_tokenizer(loaded) == before
    remove_normalization(loaded)
    assert (fingerprint_tokenizer(loaded), normalization_of(loaded)) == (before, None)
    assert ids(loaded, GIVEN) == ids(trained(kind), GIVEN)


def test_record_replaces_an_older_one(tmp_path: Path) -> None:
    tokenizer = trained("char")
    set_normalization(tokenizer, {"unicode": "NFKC"})
    set_normalization(tokenizer, LOWER)
    assert ids(tokenizer, "ＴＨＥ") != ids(tokenizer, "the") == ids(tokenizer, "THE")
    set_normalization(tokenizer, None)
    assert tokenizer.backend_tokenizer.normalizer is None


def test_tokenizer_without_a_record_changes_no_text() -> None:
    assert normalize_texts(trained("char"), [GIVEN, "\r\n\x00"]) == [GIVEN, "\r\n\x00"]


def test_tokenizer_that_would_drop_a_normalizer_has_the_record_alone(tmp_path: Path) -> None:
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the"]
    tokenizer = BertTokenizer({token: n for n, token in enumerate(vocabulary)}, do_lower_case=False)
    set_normalization(tokenizer, LOWER)
    tokenizer.save_pretrained(tmp_path)
    loaded = load_tokenizer(str(tmp_path))
    assert normalize_texts(loaded, ["THE"]) == ["the"]
    assert "The tokenizer does not do this: NFC, lower case" in describe_for_card(loaded)


@pytest.mark.parametrize("unicode", ["NFC", "width", "NFKC", "NFKC_keep_cjk", "none"])
@pytest.mark.parametrize("lowercase", [False, True])
def test_plain_transformers_reads_every_unicode_form_width_and_line_end(
    tmp_path: Path, unicode: str, lowercase: bool
) -> None:
    letters = "Ａｂ０９\u3000，！（）：…‥～ﬁ②\r\n\v\f\u2028王①ÉΑ ㌔；［Z"
    letters += "" if unicode == "width" else "e\u0301\u0338ﾞ️"  # a mark on a full-width letter does not compose
    tokenizer = train_tokenizer([letters + letters.lower()], TokenizerSection(kind="byte-bpe", vocab_size=300))
    set_normalization(tokenizer, {"unicode": unicode, "lowercase": lowercase})
    tokenizer.save_pretrained(tmp_path)
    plain, draw = AutoTokenizer.from_pretrained(tmp_path), random.Random(0)
    for _ in range(300):
        text = "".join(draw.choices(letters, k=12))
        assert plain(text)["input_ids"] == ids(tokenizer, normalize_texts(tokenizer, [text])[0]), repr(text)


@pytest.mark.parametrize("kind", KINDS)
def test_plain_transformers_reads_no_soft_hyphens_and_the_card_says_who_decodes_entities(
    tmp_path: Path, kind: str
) -> None:
    tokenizer = trained(kind)
    set_normalization(tokenizer, {"unicode": "NFC", "soft_hyphens": True, "html_entities": True})
    tokenizer.save_pretrained(tmp_path)
    plain = AutoTokenizer.from_pretrained(tmp_path)
    assert plain("the is\xadland", add_special_tokens=False)["input_ids"] == ids(trained(kind), "the island")
    assert normalize_texts(load_tokenizer(str(tmp_path)), ["caf&eacute; is\xadland"]) == ["café island"]
    card = describe_for_card(plain)
    assert "does this itself: NFC, no soft hyphens." in card
    assert "does not do this: HTML entities decoded." in card


def test_card_says_which_part_the_tokenizer_does() -> None:
    tokenizer = trained("char")
    set_normalization(tokenizer, LOWER | {"simplify_chinese": True})
    card = describe_for_card(tokenizer)
    assert "does this itself: NFC, lower case." in card
    assert "does not do this: simplified Chinese." in card
    set_normalization(tokenizer, {"unicode": "none"})
    assert describe_for_card(tokenizer) == ""


def test_data_for_a_model_is_cleaned_as_the_model_reads_and_it_is_reported(capsys: pytest.CaptureFixture[str]) -> None:
    tokenizer = trained("char")
    plain = fingerprint_tokenizer(tokenizer)
    set_normalization(tokenizer, LOWER)
    clean = adopt_normalization(tokenizer, Clean(whitespace=False))
    assert clean == Clean(whitespace=False, lowercase=True)
    assert "prepare.clean.lowercase=true" in capsys.readouterr().err
    assert (normalization_of(tokenizer), fingerprint_tokenizer(tokenizer)) == (None, plain)
    assert adopt_normalization(tokenizer, Clean()) == Clean()
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("count", [99, -1, "x", None, 10**30])
def test_untrusted_number_of_normalizers_removes_none(count: Any) -> None:
    tokenizer = trained("word")
    before = tokenizer.backend_tokenizer.to_str()
    tokenizer.init_kwargs[KEY] = {N_NORMALIZERS: count}
    fingerprint_tokenizer(tokenizer)
    remove_normalization(tokenizer)
    assert tokenizer.backend_tokenizer.to_str() == before


def test_record_with_unknown_settings_is_refused() -> None:
    tokenizer = trained("char")
    tokenizer.init_kwargs[KEY] = {"rot13": True}
    with pytest.raises(ModelError, match="rot13"):
        normalize_texts(tokenizer, ["a"])
