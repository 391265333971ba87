"""Restrict the next token: roles of tokens, and rules that depend on the previous tokens.

Both decode.py and transformers' `generate` use the rules of this module. For a single text, they give the same result
as transformers' own rules. In a batch, padding is on the left. transformers' rules treat padding as part of the text;
the rules here ignore it, so a text does not depend on the other texts of its batch. If the rules exclude every token,
the text ends.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import (
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    MinNewTokensLengthLogitsProcessor,
    NoBadWordsLogitsProcessor,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    RepetitionPenaltyLogitsProcessor,
)

from llmkit.core.errors import ModelError
from llmkit.models.loading import embedding_rows
from llmkit.tokens.normalization import normalize_texts
from llmkit.tokens.tokenizer import encode_texts, line_end_id

NO_TOKEN = -1
"""Placeholder for padding in comparisons of ids."""


@dataclass(frozen=True, slots=True)
class TokenRoles:
    """The token ids of a model and its tokenizer, grouped by their role in generation."""

    size: int
    """Number of rows of the model's embedding."""
    bos: list[int]
    """[bos id] if the tokenizer starts every text with it, else empty."""
    ends: list[int]
    """Ids that end a text."""
    never: list[int]
    """Ids that are not text (padding, unknown, beyond the tokenizer); never generated."""
    bad_words: list[list[int]]
    """Sequences of ids that are never generated."""

    @classmethod
    def of(cls, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, bad_words: Sequence[str]) -> "TokenRoles":
        size = embedding_rows(model)
        saved = getattr(model.generation_config, "eos_token_id", None)
        saved = saved if isinstance(saved, list) else [saved]
        if wrong := [each for each in saved if each is not None and type(each) is not int]:
            where = f"{model.name_or_path}/generation_config.json, eos_token_id"
            raise ModelError(f"{wrong[0]!r} is not the id of a token", where=where, hint="remove the key from the file")
        ends = {*saved, tokenizer.eos_token_id} - {None}
        ends.discard(line_end_id(tokenizer))  # word-level texts continue after a line end
        bos = tokenizer.bos_token_id
        roles = (bos, tokenizer.pad_token_id, tokenizer.unk_token_id, tokenizer.cls_token_id, tokenizer.mask_token_id)
        never = {role for role in roles if role is not None} | set(range(len(tokenizer), size))
        template = tokenizer("")["input_ids"][:1]
        return cls(
            size=size,
            bos=template if template == [bos] else [],
            ends=sorted(end for end in ends if 0 <= end < size),
            never=sorted(i for i in never - ends if i < size),
            bad_words=_encode_words(tokenizer, bad_words),
        )


def _encode_words(tokenizer: PreTrainedTokenizerBase, words: Sequence[str]) -> list[list[int]]:
    """Return the tokens of each word, both at the start of a text and after a space, without duplicates."""
    read = [word for word in normalize_texts(tokenizer, words) if word.strip()]
    encoded = {tuple(encode_texts(tokenizer, [text])[0].tolist()) for word in read for text in (word, f" {word}")}
    return [list(ids) for ids in sorted(encoded - {()})]


def make_processors(decoding: GenerationConfig, mask: Tensor) -> LogitsProcessorList:
    """Return the processors for the ids of a batch, which has `num_beams` rows per prompt.

    `mask` (prompts, width) is 0 for padding, which is on the left.
    """
    n_beams = decoding.num_beams or 1
    padding = (mask == 0).sum(1).repeat_interleave(n_beams)
    ends = [] if decoding.eos_token_id is None else decoding.eos_token_id
    ends = ends if isinstance(ends, list) else [ends]
    rules: list[LogitsProcessor] = []
    if decoding.repetition_penalty not in (None, 1.0):
        rules.append(RepetitionPenaltyLogitsProcessor(decoding.repetition_penalty, prompt_ignore_length=padding))
    if decoding.no_repeat_ngram_size:
        rules.append(NoRepeatNgrams(decoding.no_repeat_ngram_size, padding))
    if bad_words := [ids for ids in decoding.bad_words_ids or [] if ids not in [[end] for end in ends]]:
        rules.append(NoBadWords(bad_words, padding))
    if decoding.min_new_tokens and ends:
        rules.append(MinNewTokensLengthLogitsProcessor(mask.shape[1], decoding.min_new_tokens, ends, str(mask.device)))
    if len(rules) and ends and n_beams == 1:
        rules.append(EndDeadEnds(decoding.suppress_tokens or [], ends[0]))
    return LogitsProcessorList(rules)


def without_rules(decoding: GenerationConfig) -> GenerationConfig:
    """Return a copy without the settings that `make_processors` implements; `generate` would apply them twice."""
    off = {"repetition_penalty": 1.0, "no_repeat_ngram_size": None, "bad_words_ids": None, "min_new_tokens": None}
    return GenerationConfig(**(decoding.to_dict() | off))


class NoRepeatNgrams(LogitsProcessor):
    """Prevent n-grams of `size` tokens from occurring twice, even if the first occurrence is in the prompt.

    `padding` (rows,) is the number of leading ids to ignore.
    """

    def __init__(self, size: int, padding: Tensor) -> None:
        self._size, self._padding = size, padding

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        n_tokens, size = input_ids.shape[1], self._size
        if n_tokens < size:
            return scores
        tails = input_ids[:, n_tokens - size + 1 :]
        ngrams = input_ids.unfold(1, size, 1)  # (rows, n_tokens - size + 1, size)
        begins = torch.arange(ngrams.shape[1], device=input_ids.device)
        repeats = (ngrams[..., :-1] == tails[:, None]).all(-1) & (begins >= self._padding[:, None])
        rows, places = repeats.nonzero(as_tuple=True)
        banned = torch.zeros_like(scores, dtype=torch.bool)
        banned[rows, ngrams[rows, places, -1]] = True
        return scores.masked_fill(banned, -torch.inf)


class NoBadWords(LogitsProcessor):
    """Prevent the id sequences `words`: the last id of a sequence never follows the ids before it.

    `padding` is as in NoRepeatNgrams.
    """

    def __init__(self, words: list[list[int]], padding: Tensor) -> None:
        self._rule, self._padding = NoBadWordsLogitsProcessor(words), padding

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        places = torch.arange(input_ids.shape[1], device=input_ids.device)
        return self._rule(input_ids.masked_fill(places < self._padding[:, None], NO_TOKEN), scores)


class EndDeadEnds(LogitsProcessor):
    """Allow the token `end` in rows where every other token is excluded.

    The ids `never` count as excluded, because a later step excludes them.
    """

    def __init__(self, never: list[int], end: int) -> None:
        self._never, self._end = never, end

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        left = scores.clone()
        left[:, self._never] = -torch.inf
        is_dead = left.amax(-1) == -torch.inf
        scores = scores.clone()
        scores[:, self._end] = scores[:, self._end].masked_fill(is_dead, 0.0)
        return scores
