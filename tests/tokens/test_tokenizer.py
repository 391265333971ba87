"""Preparing a tokenizer for training, and encoding texts without special tokens."""

from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    AutoTokenizer,
    BertConfig,
    GPT2Config,
    GPT2LMHeadModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)

from llmkit.config.prepare import TokenizerSection
from llmkit.core.errors import ModelError
from llmkit.tokens import tokenizer as tokenizer_module
from llmkit.tokens.loading import load_tokenizer
from llmkit.tokens.tokenizer import encode_texts, end_of_text_id, ensure_special_tokens, fingerprint_tokenizer, id_dtype
from llmkit.tokens.training_tokenizers import train_tokenizer

KINDS = ["byte-bpe", "wordpiece", "char", "word"]
ENGLISH = "First Citizen:\nBefore we proceed any further, hear me speak.\n\nAll:\n  Speak,  speak.\n"
CHINESE = "却说曹操见了关公,大喜曰:「云长真义士也!」遂令人取酒来。\n\n    第三回 议温明董卓叱丁原 馈金珠李肃说吕布\n"
EMOJI = "naïve café 👨‍👩‍👧 ❤️ 🇨🇳\t\r\n 你好 hello世界 1234567\u3000 🤖\n"
TEXTS = [ENGLISH * 5, CHINESE * 5, EMOJI * 5]


def train(kind: str, texts: list[str] = TEXTS, vocab_size: int = 500, **settings: object) -> PreTrainedTokenizerFast:
    return train_tokenizer(iter(texts), TokenizerSection(kind=kind, vocab_size=vocab_size, **settings))


def ids_of(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    ids: list[int] = encode_texts(tokenizer, [text])[0].tolist()
    return ids


# Special tokens


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("lowercase", [False, True])
def test_text_that_spells_a_special_token_is_encoded_as_text(kind: str, lowercase: bool) -> None:
    spelled = " <|endoftext|> a<|pad|>b <eos> <EOS> <pad> <<eos>> [SEP] [PAD] [CLS] [MASK] "
    tokenizer = train(kind, [*TEXTS, spelled * 20], lowercase=lowercase)
    special = set(tokenizer.all_special_ids) - {tokenizer.unk_token_id}
    assert special.isdisjoint(ids_of(tokenizer, spelled))
    assert tokenizer.eos_token_id in tokenizer(tokenizer.eos_token, add_special_tokens=False).input_ids


def test_encoding_leaves_the_tokenizer_as_it_was_and_ignores_its_truncation_and_padding() -> None:
    tokenizer = train("byte-bpe")
    tokenizer([ENGLISH, "a"], truncation=True, max_length=3, padding=True)
    backend = tokenizer.backend_tokenizer
    before = (backend.truncation, backend.padding, backend.encode_special_tokens)
    ids, lengths = encode_texts(tokenizer, [ENGLISH, "a"])
    assert tokenizer.decode(ids[: lengths[0]].tolist()) == ENGLISH
    assert (backend.truncation, backend.padding, backend.encode_special_tokens) == before
    assert before[0] is not None and before[1] is not None


def plain_tokenizer(**special: str) -> PreTrainedTokenizerFast:
    backend = Tokenizer(models.WordLevel({"a": 0, "</s>": 1, "[SEP]": 2, "<unk>": 3}, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=backend, **special)


def test_tokenizer_without_pad_gets_a_new_one_that_is_not_eos() -> None:
    tokenizer = plain_tokenizer(eos_token="</s>")
    (output,) = ensure_special_tokens(tokenizer)
    assert (tokenizer.pad_token, tokenizer.pad_token_id, tokenizer.eos_token_id) == ("[PAD]", 4, 1)
    assert "[PAD]" in output and "4" in output and "new" in output
    assert ensure_special_tokens(tokenizer) == []


def test_tokenizer_that_pads_with_eos_gets_a_pad_of_its_own() -> None:
    tokenizer = plain_tokenizer(eos_token="</s>", pad_token="</s>")
    assert len(ensure_special_tokens(tokenizer)) == 1
    assert tokenizer.pad_token_id != tokenizer.eos_token_id


def test_tokenizer_without_eos_gets_its_separator_or_a_new_token() -> None:
    bert_like = plain_tokenizer(sep_token="[SEP]", pad_token="a")
    assert len(ensure_special_tokens(bert_like)) == 1
    assert end_of_text_id(bert_like) == 2 and len(bert_like) == 4
    bare = plain_tokenizer()
    with pytest.raises(ModelError, match="end-of-text"):
        end_of_text_id(bare)
    assert len(ensure_special_tokens(bare)) == 2
    assert bare.eos_token == "<|endoftext|>" and bare.eos_token_id != bare.pad_token_id


def test_added_special_tokens_survive_saving(tmp_path: Path) -> None:
    tokenizer = plain_tokenizer(sep_token="[SEP]")
    ensure_special_tokens(tokenizer)
    tokenizer.save_pretrained(tmp_path)
    loaded = load_tokenizer(str(tmp_path))
    assert (loaded.pad_token_id, loaded.eos_token_id, len(loaded)) == (4, 2, 5)
    assert fingerprint_tokenizer(loaded) == fingerprint_tokenizer(tokenizer)


# Ids


def test_flat_ids_and_lengths_are_those_of_the_texts_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokenizer_module, "CHARACTERS_AT_ONCE", 100)
    tokenizer = train("byte-bpe")
    texts = [ENGLISH, "", CHINESE, "a", EMOJI, ""]
    ids, lengths = encode_texts(tokenizer, texts)
    one_by_one = [ids_of(tokenizer, text) for text in texts]
    assert ids.tolist() == [token_id for each in one_by_one for token_id in each]
    assert lengths.tolist() == [len(each) for each in one_by_one]
    assert (ids.dtype, lengths.dtype) == (np.uint16, np.int64)


@pytest.mark.parametrize("texts", [[], [""]])
def test_no_text_gives_no_ids(texts: list[str]) -> None:
    ids, lengths = encode_texts(train("char"), texts)
    assert (ids.tolist(), lengths.tolist()) == ([], [0] * len(texts))


@pytest.mark.parametrize(("size", "dtype"), [(256, np.uint8), (257, np.uint16), (65536, np.uint16), (65537, np.uint32)])
def test_ids_take_the_smallest_type_that_holds_the_vocabulary(size: int, dtype: type[np.unsignedinteger]) -> None:
    backend = Tokenizer(models.WordLevel({f"w{i}": i for i in range(size)}, unk_token="w0"))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend)
    assert id_dtype(tokenizer) == dtype
    assert ids_of(tokenizer, f"w{size - 1}") == [size - 1]


def test_byte_bpe_has_no_unknown_tokens() -> None:
    tokenizer = train("byte-bpe", ["abc"])
    assert tokenizer.unk_token_id is None
    assert tokenizer.decode(encode_texts(tokenizer, ["龘🤖\x00"])[0].tolist()) == "龘🤖\x00"


# Saved and loaded


@pytest.mark.parametrize("kind", KINDS)
def test_saved_folder_opens_with_auto_tokenizer_and_gives_the_same_ids(kind: str, tmp_path: Path) -> None:
    tokenizer = train(kind)
    tokenizer.save_pretrained(tmp_path)
    # Beside a model's config, AutoTokenizer prefers that model's own class, which would build other pieces.
    config = BertConfig() if kind == "wordpiece" else GPT2Config(architectures=[GPT2LMHeadModel.__name__])
    config.save_pretrained(tmp_path)
    for loaded in (AutoTokenizer.from_pretrained(tmp_path), load_tokenizer(str(tmp_path))):
        for text in [*TEXTS, "龘 unseen  words\n"]:
            assert loaded(text).input_ids == tokenizer(text).input_ids
            assert ids_of(loaded, text) == ids_of(tokenizer, text)
            assert loaded.decode(ids_of(loaded, text)) == tokenizer.decode(ids_of(tokenizer, text))
        assert loaded.special_tokens_map == tokenizer.special_tokens_map
        assert loaded.model_input_names == tokenizer.model_input_names
        assert fingerprint_tokenizer(loaded) == fingerprint_tokenizer(tokenizer)


def test_fingerprint_ignores_truncation_and_padding_but_nothing_that_decides_ids() -> None:
    tokenizer = train("byte-bpe")
    original = fingerprint_tokenizer(tokenizer)
    tokenizer([ENGLISH], truncation=True, max_length=5, padding="max_length")
    assert fingerprint_tokenizer(tokenizer) == original == fingerprint_tokenizer(train("byte-bpe"))

    others = [train("byte-bpe", vocab_size=300), train("char"), train("byte-bpe"), train("byte-bpe"), train("byte-bpe")]
    others[2].add_tokens(["new"])
    others[3].backend_tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel()
    others[4].eos_token = others[4].pad_token
    assert len({original, *map(fingerprint_tokenizer, others)}) == 6


# What cannot be loaded
