"""Encoding by cached chunks gives the ids, offsets and words of `tokenizers` for any text."""

import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from llmkit.config.prepare import TokenizerSection
from llmkit.tokens import chunk_encoding
from llmkit.tokens.chunk_encoding import ALONE, LETTER, SEPARATOR, ChunkEncoder, can_encode_chunks
from llmkit.tokens.fast_encoding import EDGE_CASES, make_encoding_tokenizer
from llmkit.tokens.tokenizer import encode_texts, encode_with_offsets
from llmkit.tokens.training_tokenizers import train_tokenizer

TEXTS = [
    "It is a truth universally acknowledged, that a single man must be in want of a wife.\n\n  É, ÉTÉ naïve",
    "却说曹操大怒。“快走！” e\u0301te <unk> x<eos>y",
    "in possession of a good fortune, 1813 1,000 the the\r\n<pad> [UNK] straße \U0001d518",
]
TOKENIZERS = [
    "wordpiece",
    "wordpiece lower",
    "char",
    "word",
    "word lower",
    *(f"bert {clean} {chinese} {accents}" for clean in "01" for chinese in "01" for accents in "01-"),
]


def make_tokenizer(name: str) -> PreTrainedTokenizerFast:
    if not name.startswith("bert"):
        kind: Any = name.split()[0]
        section = TokenizerSection(kind=kind, vocab_size=250, lowercase="lower" in name, min_frequency=1)
        return train_tokenizer(TEXTS * 2, section)
    trained = train_tokenizer(TEXTS * 2, TokenizerSection(kind="wordpiece", vocab_size=250, lowercase=True))
    clean, chinese, accents = name.split()[1:]
    trained.backend_tokenizer.normalizer = normalizers.BertNormalizer(
        clean_text=clean == "1",
        handle_chinese_chars=chinese == "1",
        strip_accents=None if accents == "-" else accents == "1",
        lowercase=accents == "-",
    )
    return trained


_ENCODERS: dict[str, tuple[PreTrainedTokenizerFast, ChunkEncoder]] = {}


def open_encoder(name: str) -> tuple[PreTrainedTokenizerFast, ChunkEncoder]:
    """The encoder keeps its memory from one text to the next."""
    if name not in _ENCODERS:
        tokenizer = make_tokenizer(name)
        bare = make_encoding_tokenizer(tokenizer)
        assert can_encode_chunks(json.loads(bare.state))
        _ENCODERS[name] = tokenizer, ChunkEncoder(bare, json.loads(bare.state))
    return _ENCODERS[name]


def assert_same(tokenizer: PreTrainedTokenizerFast, encoder: ChunkEncoder, texts: Sequence[str]) -> None:
    ids, lengths = encoder.encode(texts)
    expected, expected_lengths = encode_texts(tokenizer, texts)
    assert ids.dtype == expected.dtype
    assert ids.tolist() == expected.tolist()
    assert lengths.tolist() == expected_lengths.tolist()
    for found, wanted in zip(encoder.encode_with_offsets(texts), encode_with_offsets(tokenizer, texts), strict=True):
        for part, other in zip(found, wanted, strict=True):  # ids, starts, words
            assert part.tolist() == other.tolist()


# Pieces that meet in all orders: words of known and unknown letters, all white space, controls, marks, other scripts.
PIECES = [
    *("the", "The", "É", "naïve", "truth", "universally", "acknowledgedly", "x" * 99, "y" * 101, "é" * 101, "ж" * 17),
    *" \t\n\r\v\f\x00\x01\x1c\x1f\x7f\x85\xa0\u1680\u180e\u2003\u200b\u200c\u200d\u2028\u2060\u3000\ufeff\ufffd\uffff",
    *(".", ",", "'", "“", "’", "…", "—", "。", "·", "$", "+", "`", "^", "\u0301", "\u0338", "\u05bf", "\u0e31"),
    *(
        "中",
        "曹操",
        "〇",
        "\uf900",
        "\U00020000",
        "한국",
        "\u1112\u1161\u11ab",
        "हिन्दी",
        "ไทย",
        "العربية",
        "ガ",
        "か\u3099",
    ),
    *("İ", "ı", "ß", "ẞ", "Σ", "ς", "ŉ", "ǰ", "ﬁ", "Å", "Ω", "\u037e", "\u1fef", "≮", "≠", "<", ">", "½", "ⅷ", "²"),
    *("<eos>", "<pad>", "<unk>", "<EOS>", "<e", "os>", "[UNK]", "[CLS]", "[", "]", "<|endoftext|>", "##a", "\r\n"),
    *("👩\u200d👩\u200d👧🏽", "🇫🇷", "\U0001d518", "\U000e0001", "\U0010fffd", "\ue000"),
]
odd_text = st.one_of(
    st.lists(st.sampled_from(PIECES), max_size=40).map("".join),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=60),
    st.text(st.characters(max_codepoint=0x24F), max_size=60),
)


@pytest.mark.parametrize("name", TOKENIZERS)
@given(texts=st.lists(odd_text, max_size=5), stretch=st.sampled_from([1, 7, 40, 100_000]))
@settings(max_examples=60, deadline=None)
def test_ids_offsets_and_words_are_those_of_tokenizers(name: str, texts: list[str], stretch: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chunk_encoding, "STRETCH", stretch)
        assert_same(*open_encoder(name), texts)


@pytest.mark.parametrize("name", TOKENIZERS)
def test_every_character_in_every_context_gives_the_same_ids(name: str) -> None:
    codes = [*range(0x3100), *range(0x9F00, 0xAC10), *range(0xF900, 0x10400), *range(0x1F600, 0x1F650)]
    characters = [chr(code) for code in codes if not 0xD800 <= code < 0xE000]
    assert_same(*open_encoder(name), [f"x{c}y{c}{c} {c}1{c}.{c}\u0301s  {c}中{c}\n{c} " for c in characters])


@pytest.mark.parametrize("name", TOKENIZERS)
def test_difficult_texts_give_the_same_ids(name: str) -> None:
    assert_same(*open_encoder(name), [*EDGE_CASES, *TEXTS, "", "word" * 100_000, "a b " * 70_000])


def test_chunks_of_more_letters_than_have_a_number_give_the_same() -> None:
    tokenizer, _ = open_encoder("wordpiece")
    bare = make_encoding_tokenizer(tokenizer)
    encoder = ChunkEncoder(bare, json.loads(bare.state))
    letters = [chr(code) for code in range(0xAC00, 0xAC00 + 600)]
    assert_same(tokenizer, encoder, [" ".join(map("".join, zip(letters, letters[1:], letters[9:], strict=False)))])
    assert_same(tokenizer, encoder, ["".join(letters), "the truth \uac00 \uaeff\uac01"])


def test_clearing_the_cache_changes_no_ids(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunk_encoding, "STRETCH", 50)
    for limit in ("MAX_CHUNKS", "MAX_CHARACTERS"):
        with monkeypatch.context() as patch:
            patch.setattr(chunk_encoding, limit, 60)
            for name in ("wordpiece", "char", "word"):
                tokenizer = make_tokenizer(name)
                bare = make_encoding_tokenizer(tokenizer)
                encoder = ChunkEncoder(bare, json.loads(bare.state))
                text = " ".join(f"w{n}é" for n in range(200))
                assert_same(tokenizer, encoder, [text, text, *TEXTS])
                assert len(encoder._counts) < 60 + 2 * 50  # what one stretch can add


def test_kinds_of_characters_come_from_the_tokenizer() -> None:
    _, bert = open_encoder("wordpiece lower")
    assert [bert._classify(c) for c in " \n\u3000a\x00\u0301.中≮"] == [SEPARATOR] * 3 + [LETTER] * 3 + [ALONE] * 3
    _, word = open_encoder("word")
    assert [word._classify(c) for c in " \t.中\n"] == [SEPARATOR, SEPARATOR, LETTER, LETTER, ALONE]


def change(tokenizer: Tokenizer, **parts: Any) -> Tokenizer:
    for name, part in parts.items():
        setattr(tokenizer, name, part)
    return tokenizer


def test_tokenizers_whose_chunks_depend_on_each_other_are_left_alone() -> None:
    vocab = {"[UNK]": 0, "a": 1, "b": 2}
    wordpiece = models.WordPiece(vocab, unk_token="[UNK]")
    bert = {"normalizer": normalizers.BertNormalizer(), "pre_tokenizer": pre_tokenizers.BertPreTokenizer()}
    assert can_encode_chunks(json.loads(change(Tokenizer(wordpiece), **bert).to_str()))
    with_added = change(Tokenizer(wordpiece), **bert)
    with_added.add_tokens([AddedToken("a b")])
    joined = change(Tokenizer(models.BPE(vocab, [], unk_token="[UNK]", fuse_unk=True)))
    for other in (
        with_added,  # found in the text as it is
        change(Tokenizer(wordpiece), **bert | {"normalizer": normalizers.NFC()}),  # composes over a boundary
        change(Tokenizer(wordpiece), **bert | {"normalizer": normalizers.Replace(Regex("a."), "b")}),
        change(Tokenizer(wordpiece), **bert | {"pre_tokenizer": pre_tokenizers.Whitespace()}),  # .. is one word
        joined,  # unknown characters side by side become one token
        change(Tokenizer(models.BPE({"a": 0, "b": 1, "ab": 2}, [("a", "b")]))),
        change(Tokenizer(models.Unigram([("a", 0.0)], 0))),
    ):
        assert not can_encode_chunks(json.loads(other.to_str()))
    with pytest.raises(ValueError, match="replaces"):
        encoder_that_replaces("e.x", bert)


def encoder_that_replaces(string: str, parts: dict[str, Any]) -> tuple[PreTrainedTokenizerFast, ChunkEncoder]:
    model = models.WordPiece({"[UNK]": 0, "a": 1, "b": 2, ".": 3, "z": 4}, unk_token="[UNK]")
    replaces = change(Tokenizer(model), **parts | {"normalizer": normalizers.Replace(string, "z")})
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=replaces, unk_token="[UNK]")
    bare = make_encoding_tokenizer(tokenizer)
    return tokenizer, ChunkEncoder(bare, json.loads(bare.state))


def test_a_string_that_hides_a_boundary_from_the_probe_gives_the_same() -> None:
    """Its dot counts as a letter then, so that no chunk ends there."""
    parts = {"pre_tokenizer": pre_tokenizers.BertPreTokenizer()}
    assert_same(*encoder_that_replaces("a.b", parts), ["a.b b.a", "a..b .a.b. aa.bb"])
