"""A fast encoder is used only where it gives the ids of tokenizers, and its absence or failure changes no id."""

import sys
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerBase

from llmkit.config.prepare import TokenizerSection
from llmkit.text.documents import Document
from llmkit.tokens import fast_encoding
from llmkit.tokens.bare_tokenizer import make_bare
from llmkit.tokens.chunk_encoding import ALONE, ChunkEncoder
from llmkit.tokens.fast_encoding import (
    HARD_TEXTS,
    STRETCH,
    Encoder,
    EncoderCheck,
    _surround,
    check_text,
    choose_encoder,
    join_checks,
    make_encoder,
    sample_texts,
)
from llmkit.tokens.tokenizer import backend_of, encode_texts, encode_with_offsets
from llmkit.tokens.training_tokenizers import train_tokenizer

TEXTS = ["It's <|endoftext|> 12345\n\n  the  end", "", "却说曹操大怒。“快走！” 中 e\u0301", "the the the 🤖\u3000\x85"]


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerBase:
    return train_tokenizer(iter(TEXTS * 3), TokenizerSection(kind="byte-bpe", vocab_size=300))


def documents(*texts: str) -> list[Document]:
    return [Document(text, "x", index) for index, text in enumerate(texts)]


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


@pytest.mark.parametrize("given", [TEXTS, HARD_TEXTS, [], [""], ["a" * 3 * STRETCH], ["1\u180e 2", "sound"]])
def test_ids_of_fastokens_are_those_of_tokenizers(
    tokenizer: PreTrainedTokenizerBase, given: Sequence[str], capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("fastokens")
    encoder = choose_encoder(tokenizer, documents(*given))
    assert capsys.readouterr().err == ""  # fastokens was taken
    ids, lengths = encoder.encode(given)
    expected, expected_lengths = encode_texts(tokenizer, given)
    assert ids.dtype == expected.dtype
    assert ids.tolist() == expected.tolist()
    assert lengths.tolist() == expected_lengths.tolist()


@pytest.mark.parametrize("spoiled", [TEXTS[0], HARD_TEXTS[3], "<|endoftext|>", "late"])
def test_one_wrong_id_gives_the_work_to_tokenizers(
    tokenizer: PreTrainedTokenizerBase,
    spoiled: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    install(monkeypatch, stand_in(tokenizer, spoiled))
    encoder = choose_encoder(tokenizer, documents(*TEXTS, "late"))
    assert (
        capsys.readouterr().err == f"tokenizing with tokenizers: fastokens 9.9 gives other ids for {spoiled[:40]!r}\n"
    )
    assert same_ids(encoder, tokenizer, [spoiled])


def test_only_texts_with_a_character_that_differs_are_left_to_tokenizers(
    tokenizer: PreTrainedTokenizerBase, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    install(monkeypatch, stand_in(tokenizer, _surround("龘")))
    encoder = choose_encoder(tokenizer, documents(*TEXTS, "龘"))
    assert capsys.readouterr().err == ""
    assert same_ids(encoder, tokenizer, [_surround("龘")])
    monkeypatch.setattr(fast_encoding, "MAX_MISMATCHED", 0)
    choose_encoder(tokenizer, documents(*TEXTS, "龘"))
    assert "gives other ids for '龘'" in capsys.readouterr().err


def test_a_text_that_breaks_fastokens_later_is_encoded_by_tokenizers(
    tokenizer: PreTrainedTokenizerBase, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    install(monkeypatch, stand_in(tokenizer, "late", breaks=True))
    encoder = choose_encoder(tokenizer, documents(*TEXTS))
    assert capsys.readouterr().err == ""
    assert same_ids(encoder, tokenizer, ["a", "late", "b"])


def test_a_tokenizer_that_fastokens_refuses_stays_with_tokenizers(
    tokenizer: PreTrainedTokenizerBase, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(state: str) -> None:
        raise ValueError("unknown variant `Odd`\nmore")

    install(monkeypatch, SimpleNamespace(Tokenizer=SimpleNamespace(from_json_str=refuse)))
    assert same_ids(choose_encoder(tokenizer, []), tokenizer, TEXTS)
    said = "tokenizing with tokenizers: the fast encoder cannot take this tokenizer: unknown variant `Odd`\n"
    assert capsys.readouterr().err == said


def test_without_fastokens_one_line_says_how_to_get_it(
    tokenizer: PreTrainedTokenizerBase, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "fastokens", None)
    assert same_ids(choose_encoder(tokenizer, []), tokenizer, TEXTS)
    assert "pip install fastokens" in capsys.readouterr().err


def test_checks_of_pieces_make_that_of_the_text(
    tokenizer: PreTrainedTokenizerBase, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    install(monkeypatch, stand_in(tokenizer, _surround("龘")))
    pieces = [check_text(make_bare(tokenizer), documents(text), 3) for text in ("龘", "plain", "中")]
    assert [piece.mismatched for piece in pieces] == ["龘", "", ""]
    joined = join_checks([*pieces, EncoderCheck("\u180e", None, "fastokens 9.9")])
    assert joined == EncoderCheck("\u180e龘", None, "fastokens 9.9")
    assert same_ids(make_encoder(make_bare(tokenizer), joined), tokenizer, [_surround("龘")])
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(fast_encoding, "MAX_MISMATCHED", 1)
    assert join_checks([joined]).mismatched is None
    assert "gives other ids for" in capsys.readouterr().err
    assert join_checks([pieces[1], EncoderCheck(None, "no"), EncoderCheck(None, "never")]) == EncoderCheck(None, "no")
    assert capsys.readouterr().err == "tokenizing with tokenizers: no\n"


def test_a_check_of_another_fastokens_or_none_here_gives_the_work_to_tokenizers(
    tokenizer: PreTrainedTokenizerBase, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch, stand_in(tokenizer, "spoiled"))
    assert not same_ids(
        make_encoder(make_bare(tokenizer), EncoderCheck("", None, "fastokens 9.9")), tokenizer, ["spoiled"]
    )
    assert same_ids(make_encoder(make_bare(tokenizer), EncoderCheck("", None, "fastokens 9.8")), tokenizer, ["spoiled"])
    monkeypatch.setitem(sys.modules, "fastokens", None)
    assert same_ids(make_encoder(make_bare(tokenizer), EncoderCheck("", None, "fastokens 9.9")), tokenizer, ["spoiled"])


def test_pieces_are_sampled_for_their_share(
    tokenizer: PreTrainedTokenizerBase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fast_encoding, "SAMPLE_CHARACTERS", 10 * STRETCH)
    text = documents(*(f"{n:05d}" * (STRETCH // 5) for n in range(100)))
    n_stretches = [
        len(sample_texts(text, make_bare(tokenizer), n)[0]) - len(sample_texts([], make_bare(tokenizer))[0])
        for n in (1, 2, 50)
    ]
    assert 5 <= n_stretches[0] <= 10 and 2 <= n_stretches[1] <= 5 and n_stretches[2] == 1


@pytest.mark.parametrize("kind", ["wordpiece", "char", "word"])
def test_other_kinds_do_not_need_fastokens(
    kind: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tokenizer = train_tokenizer(iter(TEXTS), TokenizerSection(kind=kind, vocab_size=300))
    install(monkeypatch, None)
    assert same_ids(choose_encoder(tokenizer, documents(*TEXTS)), tokenizer, TEXTS)
    assert capsys.readouterr().err == ""


def test_the_sample_has_all_of_a_small_text_and_bounded_stretches_of_a_long_one(
    tokenizer: PreTrainedTokenizerBase, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = documents("one", "", "two" * STRETCH)
    assert "".join(sample_texts(small, make_bare(tokenizer))[0]).endswith("one" + "two" * STRETCH)
    monkeypatch.setattr(fast_encoding, "SAMPLE_CHARACTERS", 10 * STRETCH)
    long = documents(*(f"{n:05d}" * (STRETCH // 5) for n in range(100)))
    sample, _ = sample_texts(long, make_bare(tokenizer))
    kept = [int(text[:5]) for text in sample if len(text) == STRETCH][1:]  # first the longest
    assert 5 <= len(kept) <= 10
    assert len(set(np.diff(kept))) == 1  # evenly spread
    assert kept[-1] >= 80


def test_the_sample_has_each_character_and_the_surroundings_of_special_tokens(
    tokenizer: PreTrainedTokenizerBase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fast_encoding, "SAMPLE_CHARACTERS", 0)  # no stretches: what is there was looked for
    text = "b" * STRETCH + "龘 <|endoftext|>rare" + "b" * STRETCH
    sample, characters = sample_texts(documents(text, "c" * 3 * STRETCH), make_bare(tokenizer))
    assert characters == [*map(chr, range(128)), "龘"]
    assert any("龘 <|endoftext|>rare" in piece and len(piece) < 200 for piece in sample)


def test_no_id_comes_from_a_special_token_in_the_text(tokenizer: PreTrainedTokenizerBase) -> None:
    pytest.importorskip("fastokens")
    ids, _ = choose_encoder(tokenizer, documents("a<|endoftext|>b")).encode(["a<|endoftext|>b<|pad|>"])
    assert not {tokenizer.eos_token_id, tokenizer.pad_token_id} & set(ids.tolist())
    assert backend_of(tokenizer).decode(ids.tolist()) == "a<|endoftext|>b<|pad|>"


@pytest.mark.parametrize("kind", ["wordpiece", "char", "word"])
def test_kinds_beside_byte_bpe_are_encoded_by_chunks(kind: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = train_tokenizer(TEXTS, TokenizerSection(kind=kind, vocab_size=300))
    encoder = choose_encoder(tokenizer, documents(*TEXTS), with_offsets=True)
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
    encoder = choose_encoder(tokenizer, documents(*TEXTS, "x"), with_offsets=with_offsets)
    assert "tokenizing with tokenizers: chunk encoding gives other ids for" in capsys.readouterr().err
    assert same_ids(encoder, tokenizer, ["x", "axb xx"])
    pairs = zip(encoder.encode_with_offsets(["axb"]), encode_with_offsets(tokenizer, ["axb"]), strict=True)
    assert all(np.array_equal(*parts) for pair in pairs for parts in zip(*pair, strict=True))


def test_a_wrong_offset_alone_is_found(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    class Wrong(ChunkEncoder):
        def encode_with_offsets(self, texts: Sequence[str]) -> list[Any]:
            return [(ids, starts + 1, words) for ids, starts, words in super().encode_with_offsets(texts)]

    tokenizer = train_tokenizer(TEXTS, TokenizerSection(kind="wordpiece", vocab_size=300))
    monkeypatch.setattr(fast_encoding, "ChunkEncoder", Wrong)
    choose_encoder(tokenizer, documents(*TEXTS))
    assert capsys.readouterr().err == ""
    choose_encoder(tokenizer, documents(*TEXTS), with_offsets=True)
    assert "gives other ids" in capsys.readouterr().err
