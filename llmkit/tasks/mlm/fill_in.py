"""Predict the masked tokens of prompts.

Each mask is predicted separately while the other masks stay masked. Ids, order and probabilities equal those of
transformers' pipeline("fill-mask"), with two differences: `[SEP]` and other special tokens in a prompt, except the
mask, are ordinary text; if a prompt is longer than the context, only a window around its masks is read.

A prompt is normalized like the model's training text, except its masks; candidates are inserted into the original
prompt.

The caller checks that the model is a masked language model.
"""

import json
import math
import re
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, cast

import torch
from tokenizers import Tokenizer
from transformers import PreTrainedModel, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from llmkit.config.generate import Generate
from llmkit.core import console
from llmkit.core.console import clean_line
from llmkit.core.errors import ModelError, UsageError
from llmkit.models.loading import embedding_rows, load_masked_lm, max_context_length
from llmkit.models.padding import PADDING_INVARIANT
from llmkit.tasks.base import GenerationRequest
from llmkit.tasks.evaluation import load_for_inference
from llmkit.tasks.prompts import check_ids, describe_prompts, name_prompts, read_prompts
from llmkit.tokens.time_limit import run_limited

# The model computes logits of all positions, not only of masks: 2048 positions with BERT's 30,000 tokens are 250 MB.
TOKENS_AT_ONCE = 2048

DEFAULT_CANDIDATES = 5
"""Candidates per mask if `generate.top_k` is not set."""
_DEFAULT = Generate()
PAD_ID = 0
"""Any id: padding is masked."""

_SLIP = re.compile(
    r"[\[［【〔〖「『<＜〈《(（{｛]\s*(?:mask|ｍａｓｋ|掩码|遮罩)\s*[\]］】〕〗」』>＞〉》)）}｝]", re.IGNORECASE
)
"""Common misspellings of a mask: brackets of a Chinese or Japanese keyboard, or the mask of another model."""


def _find_slip(prompt: str, mask: str) -> str | None:
    """Return the first part of the prompt that looks like a mask but is not the model's mask token."""
    return next((match[0] for match in _SLIP.finditer(prompt) if match[0] != mask), None)


_Best = tuple[list[list[int]], list[list[float]]]  # per mask: the most probable ids, and their probabilities


@dataclass(frozen=True, slots=True)
class MaskPrediction:
    """One candidate for one mask."""

    token: str
    """The token decoded alone. `##ing` continues a word, as does `ing` in vocabularies that also have ` ing`."""
    token_id: int
    probability: float
    """Softmax over the whole vocabulary, including special tokens."""
    text: str
    """The prompt with this mask filled in; other masks are kept."""


@dataclass(frozen=True, slots=True)
class FilledPrompt:
    """The candidates for each mask of a prompt."""

    prompt: str
    masks: list[list[MaskPrediction]]
    """Candidates per mask, in the order of the prompt, the most probable first."""
    n_prompt_tokens_dropped: int = 0
    """Number of tokens cut from both ends of a prompt that is longer than the context."""
    n_dropped_before: int = 0
    """Number of these tokens that were cut from the beginning."""


def fill_prompts(settings: Generate, request: GenerationRequest) -> list[dict[str, Any]]:
    """Return one record per prompt with prompt and masks.

    Raises:
        UsageError: as `fill_masks`.
        ModelError: the model cannot be loaded, or its tokenizer does not fit.
    """
    prompts = list(request.prompts)
    network, tokenizer = load_for_inference(load_masked_lm, request.path, request.model)
    mask = tokenizer.mask_token
    if unused := [name for name, value in settings if name != "top_k" and value != getattr(_DEFAULT, name)]:
        names = ", ".join(f"generate.{name}" for name in unused)
        console.info(f"not used: {names}; for each mask, the generate.top_k most probable tokens are shown")
    if isinstance(mask, str):
        for note in _describe_prompts(tokenizer, prompts, mask):
            console.info(note)
    filled = fill_masks(network, tokenizer, prompts, settings.top_k or DEFAULT_CANDIDATES)
    if cut := [number for number, prompt in enumerate(filled, 1) if prompt.n_prompt_tokens_dropped]:
        n_dropped, n_before = filled[cut[0] - 1].n_prompt_tokens_dropped, filled[cut[0] - 1].n_dropped_before
        first, n_after = name_prompts(cut[:1], len(prompts)), n_dropped - n_before
        what = f"{n_before:,} tokens at the beginning and {n_after:,} at the end of {first} were dropped"
        console.info(f"{name_prompts(cut, len(prompts))}: longer than the model's context; {what}")
    return [asdict(prompt) for prompt in filled]


def _describe_prompts(tokenizer: PreTrainedTokenizerBase, prompts: list[str], mask: str) -> list[str]:
    """Return the notes of `describe_prompts`, and notes on empty prompts and on misspelled masks."""
    read = read_prompts(tokenizer, prompts, mask)
    notes = describe_prompts(tokenizer, prompts, read, mask)
    if empty := [number for number, prompt in enumerate(prompts, 1) if not prompt.strip()]:
        notes.append(f"{name_prompts(empty, len(prompts))}: empty, so there is no mask to fill in")
    if alike := [n for n, prompt in enumerate(prompts, 1) if mask in prompt and _find_slip(prompt, mask)]:
        slip = _find_slip(prompts[alike[0] - 1], mask)
        notes.append(f"{name_prompts(alike, len(prompts))}: {slip} is read as text; the mask token is {mask}")
    return notes


def fill_masks(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prompts: list[str], n_best: int = 5
) -> list[FilledPrompt]:
    """Return the `n_best` candidates per mask of each prompt, at most the size of the vocabulary.

    An empty prompt has no candidates if there are several prompts. Does not modify model or tokenizer.

    Raises:
        UsageError: the tokenizer has no mask token, a prompt has no mask, or its masks do not fit one context.
        ModelError: the tokenizer has ids beyond the model's embedding.
    """
    reader = _Reader(tokenizer, max_context_length(model))
    read = read_prompts(tokenizer, prompts, tokenizer.mask_token)
    kept = [n for n, prompt in enumerate(prompts) if prompt.strip() or len(prompts) == 1]
    windows = [reader.read(prompts[n], read[n], f"prompt {n + 1}: {clean_line(prompts[n])[:60]}") for n in kept]
    for window in windows:
        check_ids(window.ids, embedding_rows(model), tokenizer)
    at_once = max(1, TOKENS_AT_ONCE // max((len(window.ids) for window in windows), default=1))
    if model.config.model_type not in PADDING_INVARIANT:
        at_once = 1
    best: list[_Best] = []
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        for i in range(0, len(windows), at_once):
            best += _predict(model, windows[i : i + at_once], n_best)
    finally:
        for module in training:
            module.training = True
    if any(not math.isfinite(value) for _, probabilities in best for each in probabilities for value in each):
        hint = "give another model, or an earlier checkpoint"
        raise ModelError("the model's probabilities are not finite", where="the model's logits", hint=hint)
    filled = [FilledPrompt(prompt, []) for prompt in prompts]
    for n, window, of_masks in zip(kept, windows, best, strict=True):
        masks = [
            [reader.fill(window.prompt, span, *candidate) for candidate in zip(ids, probabilities, strict=True)]
            for span, ids, probabilities in zip(window.spans, *of_masks, strict=True)
        ]
        filled[n] = FilledPrompt(window.prompt, masks, sum(window.n_dropped), window.n_dropped[0])
    return filled


@dataclass(frozen=True, slots=True)
class _Window:
    """The part of a prompt that the model reads."""

    prompt: str
    ids: list[int]
    """Token ids, including the template's ([CLS] ... [SEP])."""
    masks: list[int]
    """Indices of the masks in `ids`."""
    spans: list[tuple[int, int]]
    """Character ranges of the masks in `prompt`."""
    n_dropped: tuple[int, int] = (0, 0)
    """Number of tokens before and after the window."""


class _Reader:
    """Converts prompts to ids, and candidates to filled prompts."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, longest: int | None) -> None:
        self._tokenizer = tokenizer
        self._longest = longest
        state = json.loads(cast(PreTrainedTokenizerFast, tokenizer).backend_tokenizer.to_str())
        mask = next((token for token in state["added_tokens"] if token["content"] == tokenizer.mask_token), None)
        if mask is None:
            where, hint = tokenizer.name_or_path or "tokenizer", "give a masked model, such as a run of pretrain-mlm"
            raise UsageError("the tokenizer has no mask token", where=where, hint=hint)
        # In this copy the mask is not a special token, so it is still recognized (and strips white space) while special
        # tokens are encoded as text.
        mask["special"] = False
        self._backend = Tokenizer.from_str(json.dumps(state))
        self._backend.no_truncation()
        self._backend.no_padding()
        self._backend.encode_special_tokens = True  # means: encode them as ordinary text
        self._swallows_space = bool(mask["lstrip"])
        is_wordpiece = state["model"]["type"] == "WordPiece"
        self._inner_prefix: str | None = state["model"]["continuing_subword_prefix"] if is_wordpiece else None

    def read(self, prompt: str, read: str, where: str) -> _Window:
        """Return the window of a prompt; `read` is the normalized prompt, `where` is used in errors."""
        encoding = run_limited(partial(self._backend.encode, read), [read], self._tokenizer.name_or_path)
        ids = encoding.ids
        masks = [i for i, token_id in enumerate(ids) if token_id == self._tokenizer.mask_token_id]
        if not masks:
            mask = str(self._tokenizer.mask_token)
            slip = _find_slip(prompt, mask)
            hint = f"write {mask} instead of {slip}" if slip else f"put {mask} where a word is missing"
            raise UsageError(f"the prompt has no {mask}", where=where, hint=hint)
        # Some masks (RoBERTa's) include the white space around them; exclude it, so that it stays in the text.
        stripped = [(start, end, read[start:end]) for start, end in (encoding.offsets[i] for i in masks)]
        spans = [(end - len(text.lstrip()), start + len(text.rstrip())) for start, end, text in stripped]
        if read != prompt:  # normalization keeps the masks and their order
            found = re.finditer(re.escape(str(self._tokenizer.mask_token)), prompt)
            spans = [match.span() for match in found]
        if self._longest is None or len(ids) <= self._longest:
            return _Window(prompt, ids, masks, spans)

        of_prompt = [i for i, is_template in enumerate(encoding.special_tokens_mask) if not is_template]
        begin, end = of_prompt[0], of_prompt[-1] + 1
        room = self._longest - (len(ids) - (end - begin))
        reach = masks[-1] - masks[0] + 1
        if reach > room:
            what = f"the prompt's masks span {reach} tokens, but the context has {room} for them"
            raise UsageError(what, where=where, hint="move the masks closer together, or use one prompt per mask")
        at = min(max(masks[0] - (room - reach) // 2, begin), end - room)
        masks = [mask - at + begin for mask in masks]
        dropped = (at - begin, end - at - room)
        return _Window(prompt, ids[:begin] + ids[at : at + room] + ids[end:], masks, spans, dropped)

    def fill(self, prompt: str, span: tuple[int, int], token_id: int, probability: float) -> MaskPrediction:
        token = str(self._tokenizer.decode([token_id]))
        text = self._join(prompt[: span[0]], token_id) + prompt[span[1] :]
        return MaskPrediction(token, token_id, probability, text)

    def _join(self, before: str, token_id: int) -> str:
        """Join the text before a mask and the token; a space between them that would split a word is removed."""
        until_space = before.rstrip() or before
        if self._inner_prefix is not None:  # WordPiece: its tokens hold no spaces
            token = str(self._tokenizer.convert_ids_to_tokens(token_id) or "")
            inner = token.removeprefix(self._inner_prefix)
            return before + token if inner == token else until_space + inner
        # Decode the token after another one, because some decoders strip the space of the first token.
        pair = [self._tokenizer.mask_token_id, token_id]
        token = str(self._tokenizer.decode(pair, clean_up_tokenization_spaces=False))
        token = token.removeprefix(self._tokenizer.mask_token)
        if token.startswith(" "):
            return before + (token if before and not before[-1].isspace() else token[1:])
        return (until_space if self._swallows_space else before) + token


@torch.no_grad()
def _predict(model: PreTrainedModel, windows: list[_Window], n_best: int) -> list[_Best]:
    width = max(len(window.ids) for window in windows)
    ids = [window.ids + [PAD_ID] * (width - len(window.ids)) for window in windows]
    seen = [[1] * len(window.ids) + [0] * (width - len(window.ids)) for window in windows]
    device = model.device
    output = model(
        input_ids=torch.tensor(ids, device=device), attention_mask=torch.tensor(seen, device=device), return_dict=True
    )
    # BertForPreTraining has a second head, so its masked-token logits have another name.
    logits = output.prediction_logits if "prediction_logits" in output else output.logits
    at_masks = [logits[row, window.masks].cpu().double() for row, window in enumerate(windows)]
    best = [each.softmax(-1).topk(min(n_best, each.shape[-1])) for each in at_masks]
    return [(top.indices.tolist(), top.values.tolist()) for top in best]
