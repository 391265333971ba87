"""A fast encoder is used only if it gives the ids of `tokenizers`; without it the ids are the same."""

import sys
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from odd_text import CORPUS
from tokenizers import Tokenizer
from tokens.test_tokenizer import KINDS, train
from transformers import PreTrainedTokenizerBase

from llmkit.config.prepare import TokenizerSection
from llmkit.core import console
from llmkit.tokens import fast_encoding
from llmkit.tokens.chunk_encoding import ALONE, ChunkEncoder
from llmkit.tokens.fast_encoding import (
    EDGE_CASES,
    Encoder,
    EncoderCheck,
    _surround,
    check_encoder,
    find_differences,
    load_encoding_tokenizer,
    make_encoder,
    make_encoding_tokenizer,
    plain_encoder,
    save_encoding_tokenizer,
)
from llmkit.tokens.tokenizer import backend_of, encode_texts, encode_with_offsets, end_of_text_id
from llmkit.tokens.training_tokenizers import train_tokenizer


@pytest.mark.parametrize("kind", KINDS)
def test_bare_tokenizer_gives_the_ids_and_offsets_of_the_one_it_was_made_from(kind: str, tmp_path: Path) -> None:
    tokenizer = train(kind)
    bare = load_encoding_tokenizer(save_encoding_tokenizer(tokenizer, tmp_path))
    for found, expected in zip(encode_texts(bare, TEXTS), encode_texts(tokenizer, TEXTS), strict=True):
        assert found.dtype == expected.dtype and found.tolist() == expected.tolist()
    for pair in zip(encode_with_offsets(bare, TEXTS), encode_with_offsets(tokenizer, TEXTS), strict=True):
        for found, expected in zip(*pair, strict=True):
            assert found.tolist() == expected.tolist()
    assert bare.unk_token_id == tokenizer.unk_token_id
    assert end_of_text_id(bare) == end_of_text_id(tokenizer)
    first = save_encoding_tokenizer(tokenizer, tmp_path)
    assert save_encoding_tokenizer(train(kind), tmp_path) == first
    tokenizer.add_tokens(["new"])
    assert save_encoding_tokenizer(tokenizer, tmp_path) != first


TEXTS = ["It's <|endoftext|> 12345\n\n  the  end", "", "却说曹操大怒。“快走！” 中 e\u0301", "the the the 🤖\u3000\x85"]


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerBase:
    return train_tokenizer(iter(TEXTS * 3), TokenizerSection(kind="byte-bpe", vocab_size=300))


def choose_encoder(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], *, with_offsets: bool = False) -> Encoder:
    """As `prepare` does it, with all of a text as its sample."""
    bare = make_encoding_tokenizer(tokenizer)
    check = check_encoder(bare, texts, set("".join(texts)), with_offsets=with_offsets)
    if check.reason:
        console.info(f"tokenizing with the tokenizers library: {check.reason}")
    return make_encoder(bare, check)


def stand_in(tokenizer: PreTrainedTokenizerBase, spoil: str | None = None, breaks: bool = False) -> Any:
    """A module like fastokens that asks tokenizers, except that one text gets a wrong id or an error."""

    class Fake:
        @staticmethod
        def from_json_str(state: str) -> "Fake":
            return Fake()

        def encode_batch_flat(self, texts: Sequence[str], **options: bool) -> tuple[bytes, bytes]:
            assert options == {"add_special_tokens": False, "split_special_tokens": True}
            if breaks and spoil in texts:
                raise RuntimeError("match limit exceeded")
            ids, lengths = encode_texts(tokenizer, texts)
            ends = np.cumsum([0, *lengths])
            if spoil in texts:
                ids[ends[list(texts).index(spoil)]] ^= 1
            return ids.astype("<u4").tobytes(), ends.astype("<u8").tobytes()

    return SimpleNamespace(Tokenizer=Fake)


def install(monkeypatch: pytest.MonkeyPatch, module: Any) -> None:
    monkeypatch.setitem(sys.modules, "fastokens", module)
    monkeypatch.setattr(fast_encoding, "version", lambda name: "9.9")


def same_ids(encoder: Encoder, tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> bool:
    return all(map(np.array_equal, encoder.encode(texts), encode_texts(tokenizer, texts)))


@pytest.mark.parametrize("given", [TEXTS, EDGE_CASES, [], [""], ["a" * 60_000], ["1\u180e 2", "sound"]])
def test_ids_of_fastokens_are_those_of_tokenizers(
    tokenizer: PreTrainedTokenizerBase, given: Sequence[str], capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("fastokens")
    encoder = choose_encoder(tokenizer, given)
    assert capsys.readouterr().err == ""  # fastokens was taken
    ids, lengths = encoder.encode(given)
    expected, expected_lengths = encode_texts(tokenizer, given)
    assert ids.dtype == expected.dtype
    assert ids.tolist() == expected.tolist()
    assert lengths.tolist() == expected_lengths.tolist()


@pytest.mark.parametrize("spoiled", [TEXTS[0], EDGE_CASES[3], "<|endoftext|>", "late"])
def test_one_wrong_id_means_tokenizers_encodes_all_texts(
    tokenizer: PreTrainedTokenizerBase,
    spoiled: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    install(monkeypatch, stand_in(tokenizer, spoiled))
    encoder = choose_encoder(tokenizer, [*TEXTS, "late"])
    assert (
        capsys.readouterr().err
        == f"tokenizing with the tokenizers library: fastokens 9.9 returns different ids for {spoiled[:40]!r}\n"
    )
    assert same_ids(encoder, tokenizer, [spoiled])


def test_only_texts_with_a_character_that_differs_are_left_to_tokenizers(
    tokenizer: PreTrainedTokenizerBase, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    install(monkeypatch, stand_in(tokenizer, _surround("龘")))
    encoder = choose_encoder(tokenizer, [*TEXTS, "龘"])
    assert capsys.readouterr().err == ""
    assert same_ids(encoder, tokenizer, [_surround("龘")])
    monkeypatch.setattr(fast_encoding, "MAX_MISMATCHED", 0)
    choose_encoder(tokenizer, [*TEXTS, "龘"])
    assert "returns different ids for '龘'" in capsys.readouterr().err


def test_a_text_that_breaks_fastokens_later_is_encoded_by_tokenizers(
    tokenizer: PreTrainedTokenizerBase, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    install(monkeypatch, stand_in(tokenizer, "late", breaks=True))
    encoder = choose_encoder(tokenizer, TEXTS)
    assert capsys.readouterr().err == ""
    assert same_ids(encoder, tokenizer, ["a", "late", "b"])


def test_a_tokenizer_that_fastokens_refuses_stays_with_tokenizers(
    tokenizer: PreTrainedTokenizerBase, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(state: str) -> None:
        raise ValueError("unknown variant `Odd`\nmore")

    install(monkeypatch, SimpleNamespace(Tokenizer=SimpleNamespace(from_json_str=refuse)))
    assert same_ids(choose_encoder(tokenizer, []), tokenizer, TEXTS)
    reason = "the fast encoder does not support this tokenizer: unknown variant `Odd`"
    assert capsys.readouterr().err == f"tokenizing with the tokenizers library: {reason}\n"


def test_without_fastokens_one_line_says_how_to_get_it(
    tokenizer: PreTrainedTokenizerBase, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "fastokens", None)
    assert same_ids(choose_encoder(tokenizer, []), tokenizer, TEXTS)
    assert "pip install fastokens" in capsys.readouterr().err


def test_another_or_no_fastokens_than_in_the_check_means_tokenizers_encodes(
    tokenizer: PreTrainedTokenizerBase, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch, stand_in(tokenizer, "spoiled"))
    assert not same_ids(
        make_encoder(make_encoding_tokenizer(tokenizer), EncoderCheck("", "fastokens 9.9")), tokenizer, ["spoiled"]
    )
    assert same_ids(
        make_encoder(make_encoding_tokenizer(tokenizer), EncoderCheck("", "fastokens 9.8")), tokenizer, ["spoiled"]
    )
    monkeypatch.setitem(sys.modules, "fastokens", None)
    assert same_ids(
        make_encoder(make_encoding_tokenizer(tokenizer), EncoderCheck("", "fastokens 9.9")), tokenizer, ["spoiled"]
    )


@pytest.mark.parametrize("kind", ["wordpiece", "char", "word"])
def test_other_kinds_do_not_need_fastokens(
    kind: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tokenizer = train_tokenizer(iter(TEXTS), TokenizerSection(kind=kind, vocab_size=300))
    install(monkeypatch, None)
    assert same_ids(choose_encoder(tokenizer, TEXTS), tokenizer, TEXTS)
    assert capsys.readouterr().err == ""


def test_characters_outside_the_sample_and_special_tokens_are_compared_in_every_context(
    tokenizer: PreTrainedTokenizerBase, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch, stand_in(tokenizer, _surround("龘")))
    assert check_encoder(make_encoding_tokenizer(tokenizer), ["sound"], "é龘") == EncoderCheck("龘", "fastokens 9.9")
    assert check_encoder(make_encoding_tokenizer(tokenizer), ["sound"], "é") == EncoderCheck("", "fastokens 9.9")
    install(monkeypatch, stand_in(tokenizer, _surround("<|endoftext|>")))
    check = check_encoder(make_encoding_tokenizer(tokenizer), ["sound"], "é")
    assert check == EncoderCheck()
    assert "returns different ids for 'x<|endoftext|>y" in check.reason


def test_no_id_comes_from_a_special_token_in_the_text(tokenizer: PreTrainedTokenizerBase) -> None:
    pytest.importorskip("fastokens")
    ids, _ = choose_encoder(tokenizer, ["a<|endoftext|>b"]).encode(["a<|endoftext|>b<|pad|>"])
    assert not {tokenizer.eos_token_id, tokenizer.pad_token_id} & set(ids.tolist())
    assert backend_of(tokenizer).decode(ids.tolist()) == "a<|endoftext|>b<|pad|>"


@pytest.mark.parametrize("kind", ["wordpiece", "char", "word"])
def test_kinds_beside_byte_bpe_are_encoded_by_chunks(kind: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = train_tokenizer(TEXTS, TokenizerSection(kind=kind, vocab_size=300))
    encoder = choose_encoder(tokenizer, TEXTS, with_offsets=True)
    expected = encode_texts(tokenizer, TEXTS)[0].tolist()
    for name in ("encode_batch", "encode_batch_fast"):  # all chunks are known by now
        monkeypatch.setattr(Tokenizer, name, None)
    assert encoder.encode(TEXTS)[0].tolist() == expected
    assert np.concatenate([row[0] for row in encoder.encode_with_offsets(TEXTS)]).tolist() == expected


@pytest.mark.parametrize("kind", ["wordpiece", "char", "word"])
@pytest.mark.parametrize("with_offsets", [False, True])
def test_a_wrong_chunk_encoder_is_found_and_replaced(
    kind: Any, with_offsets: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tokenizer = train_tokenizer(TEXTS * 2, TokenizerSection(kind=kind, vocab_size=300))

    class Wrong(ChunkEncoder):
        """Takes every x for a chunk of its own, and for the wrong one if it is one."""

        def _classify(self, char: str) -> int:
            return ALONE if char == "x" else super()._classify(char)

        def _number_characters(self, codes: Any) -> Any:
            return super()._number_characters(np.where(codes == ord("x"), ord("y"), codes))

    monkeypatch.setattr(fast_encoding, "ChunkEncoder", Wrong)
    monkeypatch.setattr(fast_encoding, "MAX_MISMATCHED", 0)
    encoder = choose_encoder(tokenizer, [*TEXTS, "x"], with_offsets=with_offsets)
    assert "tokenizing with the tokenizers library: chunk encoding returns different ids for" in capsys.readouterr().err
    assert same_ids(encoder, tokenizer, ["x", "axb xx"])
    pairs = zip(encoder.encode_with_offsets(["axb"]), encode_with_offsets(tokenizer, ["axb"]), strict=True)
    assert all(np.array_equal(*parts) for pair in pairs for parts in zip(*pair, strict=True))


def test_a_wrong_offset_alone_is_found(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    class Wrong(ChunkEncoder):
        def encode_with_offsets(self, texts: Sequence[str]) -> list[Any]:
            return [(ids, starts + 1, words) for ids, starts, words in super().encode_with_offsets(texts)]

    tokenizer = train_tokenizer(TEXTS, TokenizerSection(kind="wordpiece", vocab_size=300))
    monkeypatch.setattr(fast_encoding, "ChunkEncoder", Wrong)
    choose_encoder(tokenizer, TEXTS)
    assert capsys.readouterr().err == ""
    choose_encoder(tokenizer, TEXTS, with_offsets=True)
    assert "returns different ids" in capsys.readouterr().err


ENCODERS = {
    "byte-bpe": {"kind": "byte-bpe"},
    "wordpiece": {"kind": "wordpiece"},
    "wordpiece, lower case": {"kind": "wordpiece", "lowercase": True},
    "word": {"kind": "word"},
    "word, lower case": {"kind": "word", "lowercase": True},
    "char": {"kind": "char"},
}


@lru_cache(maxsize=1)
def corpus_encoders(name: str) -> tuple[Encoder, Encoder]:
    """The fast encoder and that of tokenizers, for a tokenizer trained on the corpus itself."""
    section = TokenizerSection.model_validate({"vocab_size": 1500, "min_frequency": 1, **ENCODERS[name]})
    bare = make_encoding_tokenizer(train_tokenizer(iter(filter(None, CORPUS.values())), section))
    fast = fast_encoding._open_fast(bare)
    assert fast is not None
    return fast, plain_encoder(bare)


@pytest.mark.parametrize("kind", CORPUS)
@pytest.mark.parametrize("name", ENCODERS)
def test_odd_text_has_the_same_ids_from_the_fast_encoder(name: str, kind: str) -> None:
    """What the check of a run would find in its sample; here in advance, for every encoder and kind of text."""
    if name == "byte-bpe":
        pytest.importorskip("fastokens")
    fast, slow = corpus_encoders(name)
    text = CORPUS[kind]
    if name == "byte-bpe":
        text = text.replace("\u180e", "")  # white space to tokenizers alone, so left to it: see MAX_MISMATCHED
    halves = [text[: len(text) // 2], text[len(text) // 2 :]]
    for texts in ([text], halves, [text, "", text], text.split("\n"), [text * 3]):
        assert find_differences(fast, slow, texts, with_offsets=False) == []
        assert find_differences(fast, slow, texts, with_offsets=True) == []


@pytest.mark.parametrize("name", ENCODERS)
def test_odd_text_does_not_make_the_check_refuse_the_fast_encoder(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if name == "byte-bpe":
        pytest.importorskip("fastokens")
    section = TokenizerSection.model_validate({"vocab_size": 1500, "min_frequency": 1, **ENCODERS[name]})
    tokenizer = train_tokenizer(iter(filter(None, CORPUS.values())), section)
    texts = list(CORPUS.values())
    encoder = choose_encoder(tokenizer, texts)
    assert capsys.readouterr().err == ""
    assert same_ids(encoder, tokenizer, texts)
