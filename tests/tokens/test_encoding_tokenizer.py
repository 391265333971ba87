"""A tokenizer without transformers, as workers load it."""

from pathlib import Path

import pytest
from tokens.test_tokenizer import KINDS, TEXTS, train

from llmkit.tokens.encoding_tokenizer import load_encoding_tokenizer, save_encoding_tokenizer
from llmkit.tokens.tokenizer import count_unknown, encode_texts, encode_with_offsets, end_of_text_id


@pytest.mark.parametrize("kind", KINDS)
def test_bare_tokenizer_gives_the_ids_and_offsets_of_the_one_it_was_made_from(kind: str, tmp_path: Path) -> None:
    tokenizer = train(kind)
    bare = load_encoding_tokenizer(save_encoding_tokenizer(tokenizer, tmp_path))
    for found, expected in zip(encode_texts(bare, TEXTS), encode_texts(tokenizer, TEXTS), strict=True):
        assert found.dtype == expected.dtype and found.tolist() == expected.tolist()
    for pair in zip(encode_with_offsets(bare, TEXTS), encode_with_offsets(tokenizer, TEXTS), strict=True):
        for found, expected in zip(*pair, strict=True):
            assert found.tolist() == expected.tolist()
    ids = encode_texts(bare, TEXTS)[0]
    assert count_unknown(ids, bare) == count_unknown(ids, tokenizer)
    assert end_of_text_id(bare) == end_of_text_id(tokenizer)
    first = save_encoding_tokenizer(tokenizer, tmp_path)
    assert save_encoding_tokenizer(train(kind), tmp_path) == first
    tokenizer.add_tokens(["new"])
    assert save_encoding_tokenizer(tokenizer, tmp_path) != first
