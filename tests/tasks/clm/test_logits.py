"""Rules for tokens against transformers' own, one text at a time and in padded batches, with and without beams."""

from typing import Any

import pytest
import torch
from tasks.clm.test_decode import LENGTHS, left_padded, make, settings
from tasks.clm.test_decode import write as write_ids
from tasks.clm.test_generation import CONTEXT, PROMPTS, gpt2, letters, write
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from llmkit.config.generate import Generate
from llmkit.config.prepare import TokenizerSection
from llmkit.tasks.clm.generation import generate_texts
from llmkit.tasks.clm.logits import NoBadWords, NoRepeatNgrams, TokenRoles
from llmkit.tokens.normalization import set_normalization
from llmkit.tokens.tokenizer import encode_texts
from llmkit.tokens.training_tokenizers import train_tokenizer

__all__ = ["letters"]
END = 7
RULES: list[dict[str, Any]] = [
    {"no_repeat_ngram_size": 1, "max_new_tokens": 15},
    {"no_repeat_ngram_size": 2},
    {"no_repeat_ngram_size": 3, "repetition_penalty": 0.7},
    {"no_repeat_ngram_size": 1000},
    {"min_new_tokens": 15, "repetition_penalty": 0.8},
]


def followed_by(model: Any, prompt: torch.Tensor, decoding: GenerationConfig) -> list[int]:
    """What transformers writes after one prompt, up to its end of text."""
    new = model.generate(input_ids=prompt[None], generation_config=decoding)[0, len(prompt) :].tolist()
    return until_end(new) if decoding.eos_token_id else new


def until_end(ids: list[int]) -> list[int]:
    return ids[: ids.index(END)] if END in ids else ids


@pytest.mark.parametrize("more", RULES)
@pytest.mark.parametrize("kind", ["gpt2", "transformer", "gru"])
def test_each_row_of_a_batch_has_the_tokens_that_transformers_gives_it_alone(kind: str, more: dict[str, Any]) -> None:
    model, (ids, mask) = make(kind).double(), left_padded(LENGTHS)
    decoding = settings(**{"eos_token_id": [END], **more})
    written = write_ids(model, ids, mask, decoding).tolist()
    for row, new in enumerate(written):
        assert until_end(new) == followed_by(model, ids[row, mask[row] == 1], decoding)


@pytest.mark.parametrize("kind", ["gpt2", "gru"])
def test_bad_words_are_left_out_as_transformers_leaves_them_out(kind: str) -> None:
    model, (ids, mask) = make(kind).double(), left_padded(LENGTHS)
    free = write_ids(model, ids, mask, settings())
    words = [[int(free[0, 3])], free[2, 4:6].tolist(), free[3, 1:4].tolist()]
    decoding = settings(bad_words_ids=words)
    written = write_ids(model, ids, mask, decoding)
    assert not torch.equal(written, free)
    for row, new in enumerate(written.tolist()):
        assert new == followed_by(model, ids[row, mask[row] == 1], decoding)


def llama(tokenizer: PreTrainedTokenizerFast) -> Any:
    """A model that transformers decodes."""
    torch.manual_seed(0)
    shape: dict[str, Any] = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2}
    shape |= {"num_attention_heads": 2, "max_position_embeddings": CONTEXT, "initializer_range": 0.4}
    ends = {"bos_token_id": tokenizer.eos_token_id, "eos_token_id": tokenizer.eos_token_id}
    return LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), **shape, **ends)).double().eval()


@pytest.mark.parametrize("num_beams", [1, 3])
@pytest.mark.parametrize("family", [gpt2, llama])
@pytest.mark.parametrize(
    "rules",
    [{"no_repeat_ngram_size": 2}, {"min_new_tokens": 8}, {"bad_words": ["e", "th"]}, {"repetition_penalty": 1.6}],
)
def test_texts_are_those_of_transformers_generate_greedy_and_with_beams(
    letters: PreTrainedTokenizerFast, family: Any, num_beams: int, rules: dict[str, Any]
) -> None:
    model, prompts = family(letters), [prompt for prompt in PROMPTS if prompt][:2]
    samples = write(model, letters, *prompts, temperature=0, max_new_tokens=12, num_beams=num_beams, **rules)
    roles = TokenRoles.of(model, letters, rules.get("bad_words", []))
    own = {name: value for name, value in rules.items() if name != "bad_words"}
    decoding = GenerationConfig(
        do_sample=False, max_new_tokens=12, num_beams=num_beams, bad_words_ids=roles.bad_words or None,
        suppress_tokens=roles.never, eos_token_id=roles.ends, pad_token_id=letters.pad_token_id, **own,
    )  # fmt: skip
    for sample in samples:
        ids = torch.tensor([encode_texts(letters, [sample.prompt])[0].tolist()])
        new = model.generate(input_ids=ids, generation_config=decoding)[0, ids.shape[1] :].tolist()
        kept = [token for token in new if token not in (*roles.ends, letters.pad_token_id)]
        assert sample.text == letters.decode(kept)


@pytest.mark.parametrize("family", [gpt2, llama])
@pytest.mark.parametrize("rules", [{"no_repeat_ngram_size": 2}, {"bad_words": ["a", "to"]}, {"min_new_tokens": 5}])
def test_text_of_a_prompt_does_not_depend_on_the_prompts_beside_it(
    letters: PreTrainedTokenizerFast, family: Any, rules: dict[str, Any]
) -> None:
    model = family(letters)
    together = write(model, letters, *PROMPTS, temperature=0, max_new_tokens=10, **rules)
    assert together == [write(model, letters, p, temperature=0, max_new_tokens=10, **rules)[0] for p in PROMPTS]


def test_no_end_of_text_comes_before_min_new_tokens_even_beyond_the_context(letters: PreTrainedTokenizerFast) -> None:
    model = gpt2(letters)
    model.lm_head.register_forward_hook(lambda *given: given[2].index_fill(-1, torch.tensor(letters.eos_token_id), 9e3))
    assert write(model, letters, "to be", temperature=0)[0].n_tokens == 0
    assert write(model, letters, "to be", temperature=0, min_new_tokens=50)[0].n_tokens == 50


def test_bad_word_is_banned_at_the_start_of_a_text_and_after_a_space() -> None:
    tokenizer = train_tokenizer(["damn it, damn the damned cat\n" * 9], TokenizerSection(vocab_size=300))
    model = gpt2(tokenizer)
    banned = TokenRoles.of(model, tokenizer, ["damn"]).bad_words
    assert sorted(map(tokenizer.decode, banned)) == [" damn", "damn"]
    set_normalization(tokenizer, {"unicode": "NFC", "lowercase": True})
    assert TokenRoles.of(model, tokenizer, ["DAMN"]).bad_words == banned


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_text_ends_where_the_rules_leave_no_token(temperature: float) -> None:
    few = train_tokenizer(["abcdef"], TokenizerSection(kind="char"))
    settings = Generate(temperature=temperature, no_repeat_ngram_size=1, max_new_tokens=20, min_new_tokens=15)
    ((sample,),) = generate_texts(gpt2(few), few, ["ab"], settings)
    assert (sample.finish_reason, sample.n_tokens, sorted(sample.text)) == ("eos", 4, list("cdef"))


@pytest.mark.parametrize("size", [1, 2, 3])
def test_padding_is_no_token_of_an_ngram_or_of_a_bad_word(size: int) -> None:
    row = torch.tensor([0, 5, 3, 0, 5])  # 0 is a token of the text, and padding has its id too
    scores = torch.zeros(1, 8)
    alone = NoRepeatNgrams(size, torch.tensor([0]))(row[None, 1:], scores)
    for n_padded in (1, 4):
        ids = torch.cat([torch.zeros(n_padded - 1, dtype=torch.long), row])[None]
        assert torch.equal(NoRepeatNgrams(size, torch.tensor([n_padded]))(ids, scores), alone)
    short = torch.tensor([[0, 0, 5]])
    assert torch.equal(
        NoRepeatNgrams(size, torch.tensor([2]))(short, scores) == -torch.inf, five() if size == 1 else scores > 0
    )
    words = [[0, 5, 6], [5, 7]]
    banned = NoBadWords(words, torch.tensor([2]))(short, scores)[0] == -torch.inf
    assert banned.nonzero().flatten().tolist() == [7]


def five() -> torch.Tensor:
    """Where id 5 is."""
    return torch.arange(8)[None] == 5
