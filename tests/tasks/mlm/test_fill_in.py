"""Masked tokens are filled in as by the pipeline of transformers, for each prompt of a batch."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import SUM_ORDER, save_bert
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertForPreTraining,
    FNetConfig,
    FNetForMaskedLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaForMaskedLM,
    pipeline,
)

from llmkit.config.prepare import TokenizerSection
from llmkit.core.errors import ModelError, UsageError
from llmkit.tasks.mlm import fill_in
from llmkit.tasks.mlm.fill_in import FilledPrompt, MaskPrediction, fill_masks
from llmkit.tokens.loading import load_tokenizer
from llmkit.tokens.normalization import set_normalization
from llmkit.tokens.training_tokenizers import train_tokenizer

ENGLISH = "The king walks, the queen walked; walking is what kings do. To be, or not to be: that is the question.\n"
CHINESE = "却说曹操见了关公,大喜曰:「云长真义士也!」遂令人取酒来。\n"
POSITIONS = 24
PROMPTS = [
    "The king is MASK.",
    "MASK king walks, the MASK walked",
    "却说MASK操见了MASKMASK,大喜曰:「云长真义士也!」",
    "  the\n MASK, walkMASK\t不 MASK ",
    "MASK",
]


@pytest.fixture(scope="module")
def wordpiece() -> PreTrainedTokenizerFast:
    return train_tokenizer([ENGLISH * 3, CHINESE * 3], TokenizerSection(kind="wordpiece", vocab_size=200))


@pytest.fixture(scope="module")
def roberta() -> PreTrainedTokenizerFast:
    """Byte-level BPE whose mask swallows the space before it."""
    trained = train_tokenizer([ENGLISH * 3, CHINESE * 3], TokenizerSection(vocab_size=400))
    mask = AddedToken("<mask>", lstrip=True, normalized=False, special=True)
    trained.add_special_tokens({"cls_token": "<s>", "sep_token": "</s>", "mask_token": mask})
    ends = ("</s>", trained.sep_token_id), ("<s>", trained.cls_token_id)
    trained.backend_tokenizer.post_processor = processors.RobertaProcessing(*ends, add_prefix_space=False)
    return trained


@pytest.fixture(scope="module")
def sentencepiece() -> PreTrainedTokenizerFast:
    """XLM-RoBERTa's kind: a space is the first character of a token, and decoding drops that of the first token."""
    pieces = ["\u2581the", "\u2581king", "\u2581is", "\u2581", *sorted(set((ENGLISH + CHINESE).strip()) - {" "})]
    unigram = Tokenizer(models.Unigram([("<unk>", 0.0), *((piece, -len(piece) / 9) for piece in pieces)], 0, False))
    unigram.pre_tokenizer = pre_tokenizers.Metaspace()
    unigram.decoder = decoders.Metaspace()
    unigram.add_special_tokens(["<s>", "</s>"])
    ends = [(token, unigram.token_to_id(token)) for token in ("<s>", "</s>")]
    unigram.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=ends)
    mask = AddedToken("<mask>", lstrip=True, normalized=False, special=True)
    roles: dict[str, Any] = {"cls_token": "<s>", "sep_token": "</s>", "pad_token": "<pad>", "mask_token": mask}
    return PreTrainedTokenizerFast(tokenizer_object=unigram, unk_token="<unk>", **roles)


def bert(tokenizer: PreTrainedTokenizerFast, kind: type = BertForMaskedLM, **changes: Any) -> Any:
    """Weights far larger than a new model's, so that probabilities differ."""
    shape: dict[str, Any] = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2}
    shape |= {"num_attention_heads": 2, "max_position_embeddings": POSITIONS, "initializer_range": 0.4}
    shape |= {"vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id}
    config = RobertaConfig if kind is RobertaForMaskedLM else BertConfig
    torch.manual_seed(0)
    return kind(config(**shape | changes)).eval()


def sure_of(token: str, tokenizer: PreTrainedTokenizerFast) -> BertForMaskedLM:
    """A model that expects this token everywhere."""
    model: BertForMaskedLM = bert(tokenizer)
    with torch.no_grad():
        model.cls.predictions.bias[tokenizer.get_vocab()[token]] = 1000.0
    return model


def fill_first(tokenizer: PreTrainedTokenizerFast, prompt: str, token: str) -> str:
    """The text when this token fills the prompt's first mask."""
    prompt = prompt.replace("MASK", tokenizer.mask_token)
    (filled,) = fill_masks(sure_of(token, tokenizer), tokenizer, [prompt], 1)
    return filled.masks[0][0].text


def scores(filled: FilledPrompt) -> list[list[tuple[int, float]]]:
    return [[(fill.token_id, pytest.approx(fill.probability, **SUM_ORDER)) for fill in mask] for mask in filled.masks]


def by_pipeline(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, prompt: str, n_best: int) -> Any:
    found: Any = pipeline("fill-mask", model=model, tokenizer=tokenizer, device="cpu")(prompt, top_k=n_best)
    return [found] if isinstance(found[0], dict) else found


# The candidates


@pytest.mark.parametrize("prompt", PROMPTS)
@pytest.mark.parametrize("kind", ["wordpiece", "roberta", "sentencepiece"])
def test_candidates_are_those_of_the_pipeline(request: pytest.FixtureRequest, kind: str, prompt: str) -> None:
    tokenizer = request.getfixturevalue(kind)
    model = bert(tokenizer, max_position_embeddings=80)
    prompt = prompt.replace("MASK", tokenizer.mask_token)
    (filled,) = fill_masks(model, tokenizer, [prompt], 7)
    theirs = by_pipeline(model, tokenizer, prompt, 7)
    assert filled.prompt == prompt and filled.n_prompt_tokens_dropped == 0
    assert len(filled.masks) == prompt.count(tokenizer.mask_token)
    assert scores(filled) == [[(fill["token"], fill["score"]) for fill in mask] for mask in theirs]
    assert [[f.token for f in mask] for mask in filled.masks] == [[f["token_str"] for f in mask] for mask in theirs]


def test_special_tokens_are_candidates_as_in_the_pipeline(wordpiece: PreTrainedTokenizerFast) -> None:
    model = sure_of("[PAD]", wordpiece)
    (filled,) = fill_masks(model, wordpiece, ["a [MASK] b"])
    theirs = by_pipeline(model, wordpiece, "a [MASK] b", 5)
    assert filled.masks[0][0].token == theirs[0][0]["token_str"] == "[PAD]"


def test_all_tokens_are_given_when_more_are_asked_for(wordpiece: PreTrainedTokenizerFast) -> None:
    (filled,) = fill_masks(bert(wordpiece), wordpiece, ["the [MASK]"], 10_000)
    assert sorted(fill.token_id for fill in filled.masks[0]) == list(range(len(wordpiece)))
    assert sum(fill.probability for fill in filled.masks[0]) == pytest.approx(1)


def test_model_with_more_ids_than_the_tokenizer_gives_them_as_the_pipeline_does(
    wordpiece: PreTrainedTokenizerFast,
) -> None:
    model = bert(wordpiece, vocab_size=len(wordpiece) + 9)
    (filled,) = fill_masks(model, wordpiece, ["the [MASK]"], 10_000)
    (theirs,) = by_pipeline(model, wordpiece, "the [MASK]", len(wordpiece) + 9)
    assert scores(filled) == [[(fill["token"], fill["score"]) for fill in theirs]]
    assert {fill.text for fill in filled.masks[0] if fill.token_id >= len(wordpiece)} == {"the "}


def test_model_with_a_second_head_fills_as_the_one_without(wordpiece: PreTrainedTokenizerFast) -> None:
    two_heads, one_head = bert(wordpiece, BertForPreTraining), bert(wordpiece)
    one_head.load_state_dict(two_heads.state_dict(), strict=False)
    prompts = ["the [MASK] walks", "[MASK]"]
    assert fill_masks(two_heads, wordpiece, prompts) == fill_masks(one_head, wordpiece, prompts)


def test_prompt_that_spells_a_special_token_is_read_as_text(wordpiece: PreTrainedTokenizerFast) -> None:
    model = bert(wordpiece)
    read = []
    model.register_forward_pre_hook(lambda *given: read.append(given[2]["input_ids"]), with_kwargs=True)
    fill_masks(model, wordpiece, ["[CLS] the [MASK] [SEP][PAD]"])
    special = [i for i in read[0][0].tolist() if i in wordpiece.all_special_ids and i != wordpiece.unk_token_id]
    assert wordpiece.convert_ids_to_tokens(special) == ["[CLS]", "[MASK]", "[SEP]"]


def test_record_holds_all_that_is_shown(wordpiece: PreTrainedTokenizerFast) -> None:
    (filled,) = fill_masks(sure_of("king", wordpiece), wordpiece, ["The [MASK]."], 1)
    fill = {"token": "king", "token_id": wordpiece.convert_tokens_to_ids("king"), "probability": 1.0}
    shown = {"prompt": "The [MASK].", "masks": [[{**fill, "text": "The king."}]]}
    assert asdict(filled) == shown | {"n_prompt_tokens_dropped": 0, "n_dropped_before": 0}


# How a filled prompt reads


@pytest.mark.parametrize(
    ("prompt", "token", "text"),
    [
        ("The  MASK ,\nsee", "king", "The  king ,\nsee"),
        ("walk MASK away", "##ing", "walking away"),
        ("walk \n MASK", "##ing", "walking"),
        ("walkMASK", "##ing", "walking"),
        (" MASK away", "##ing", " ing away"),
        ("却说MASK操", "曹", "却说曹操"),
        ("却说 MASK操", "曹", "却说 曹操"),
        ("Café 👨‍👩‍👧 MASK, MASK!", "king", "Café 👨‍👩‍👧 king, [MASK]!"),
        ("the MASK", "[UNK]", "the [UNK]"),
    ],
)
def test_filled_wordpiece_prompt_reads_naturally(
    wordpiece: PreTrainedTokenizerFast, prompt: str, token: str, text: str
) -> None:
    assert fill_first(wordpiece, prompt, token) == text


@pytest.mark.parametrize("kind", ["roberta", "sentencepiece"])
@pytest.mark.parametrize(
    ("prompt", "is_word", "text"),
    [
        ("see MASK.", True, "see the."),
        ("see\n  MASK.", True, "see\n  the."),
        ("seeMASK.", True, "see the."),
        ("MASK see", True, "the see"),
        ("  MASK see", True, "  the see"),
        ("walk MASK, MASK", False, "walks, <mask>"),
        ("walkMASK, MASK", False, "walks, <mask>"),
        ("  MASK see", False, "  s see"),
    ],
)
def test_filled_prompt_reads_naturally_where_tokens_hold_their_space(
    request: pytest.FixtureRequest, kind: str, prompt: str, is_word: bool, text: str
) -> None:
    space = {"roberta": "\u0120", "sentencepiece": "\u2581"}[kind]
    assert fill_first(request.getfixturevalue(kind), prompt, f"{space}the" if is_word else "s") == text


def test_space_before_a_mask_stays_where_the_model_sees_it() -> None:
    tokenizer = train_tokenizer([ENGLISH * 3], TokenizerSection(vocab_size=400))
    tokenizer.add_special_tokens({"mask_token": "<mask>"})
    assert fill_first(tokenizer, "walk MASK.", "s") == "walk s."
    assert fill_first(tokenizer, "walk MASK.", "\u0120the") == "walk the."


def test_space_after_a_mask_stays_even_where_the_mask_swallows_it() -> None:
    tokenizer = train_tokenizer([ENGLISH * 3], TokenizerSection(vocab_size=400))
    tokenizer.add_special_tokens({"mask_token": AddedToken("<mask>", rstrip=True, normalized=False, special=True)})
    assert fill_first(tokenizer, "walkMASK \n away", "s") == "walks \n away"


# The context


@pytest.mark.parametrize(
    ("before", "between", "after", "first"),
    [(30, 4, 30, 22), (3, 4, 60, 0), (60, 4, 3, 47), (30, 20, 30, 30), (11, 0, 11, 1), (30, 3, 30, 22)],
)
def test_long_prompt_is_read_through_a_window_centred_on_its_masks(
    wordpiece: PreTrainedTokenizerFast, before: int, between: int, after: int, first: int
) -> None:
    letters = [CHINESE[i % 9] for i in range(before + between + after)]
    pieces = [*letters[:before], "[MASK]", *letters[before : before + between], "[MASK]", *letters[before + between :]]
    room = POSITIONS - 2
    model = bert(wordpiece)
    whole, window = fill_masks(model, wordpiece, ["".join(pieces), "".join(pieces[first : first + room])])
    assert (whole.n_prompt_tokens_dropped, window.n_prompt_tokens_dropped) == (len(pieces) - room, 0)
    assert whole.n_dropped_before == first
    assert scores(whole) == scores(window)
    assert whole.masks[0][0].text.endswith("".join(pieces[before + 1 :]))


def test_prompt_that_just_fits_loses_nothing(wordpiece: PreTrainedTokenizerFast) -> None:
    fits, too_long = ("[MASK]" + CHINESE[0] * n for n in (POSITIONS - 3, POSITIONS - 2))
    filled = fill_masks(bert(wordpiece), wordpiece, [fits, too_long])
    assert [each.n_prompt_tokens_dropped for each in filled] == [0, 1]
    assert scores(filled[0]) == scores(filled[1])


def test_masks_too_far_apart_for_one_window_are_refused(wordpiece: PreTrainedTokenizerFast) -> None:
    model = bert(wordpiece)
    fill_masks(model, wordpiece, ["x [MASK]" + CHINESE[0] * 20 + "[MASK]"])
    with pytest.raises(UsageError, match="masks span 23 tokens, but the context has 22") as caught:
        fill_masks(model, wordpiece, ["[MASK]", "x [MASK]" + CHINESE[0] * 21 + "[MASK]"])
    assert caught.value.problems[0].where.startswith("prompt 2: x [MASK]")


def test_positions_that_roberta_does_not_use_hold_no_token(roberta: PreTrainedTokenizerFast) -> None:
    model = bert(roberta, RobertaForMaskedLM, pad_token_id=1, max_position_embeddings=POSITIONS)
    (filled,) = fill_masks(model, roberta, ["is" * 40 + "<mask>"])
    n_tokens = len(roberta("is" * 40 + "<mask>").input_ids)
    assert filled.n_prompt_tokens_dropped == n_tokens - (POSITIONS - 2)


# Prompts together, and what is left behind


@pytest.mark.parametrize("tokens_at_once", [1, 30, 10_000])
def test_candidates_do_not_depend_on_the_prompts_beside(
    wordpiece: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch, tokens_at_once: int
) -> None:
    monkeypatch.setattr(fill_in, "TOKENS_AT_ONCE", tokens_at_once)
    model = bert(wordpiece)
    prompts = [prompt.replace("MASK", "[MASK]") for prompt in PROMPTS]
    together = fill_masks(model, wordpiece, prompts)
    alone = [fill_masks(model, wordpiece, [prompt])[0] for prompt in prompts]
    assert [filled.prompt for filled in together] == prompts
    assert list(map(scores, together)) == list(map(scores, alone))


def test_long_prompts_go_through_the_model_a_few_at_a_time(
    wordpiece: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fill_in, "TOKENS_AT_ONCE", 2 * POSITIONS)
    model = bert(wordpiece)
    shapes = []
    model.register_forward_pre_hook(lambda *given: shapes.append(given[2]["input_ids"].shape), with_kwargs=True)
    fill_masks(model, wordpiece, ["[MASK]" + CHINESE * 3] * 5)
    assert shapes == [(2, POSITIONS), (2, POSITIONS), (1, POSITIONS)]


def test_no_prompts_give_nothing(wordpiece: PreTrainedTokenizerFast) -> None:
    assert fill_masks(bert(wordpiece), wordpiece, []) == []


def test_filling_in_leaves_model_and_tokenizer_as_they_were(wordpiece: PreTrainedTokenizerFast) -> None:
    model = bert(wordpiece, hidden_dropout_prob=0.5).train()
    model.bert.embeddings.eval()
    modes = [module.training for module in model.modules()]
    random_state = torch.random.get_rng_state()
    first, second = (fill_masks(model, wordpiece, ["the [MASK] walks"]) for _ in range(2))
    assert first == second  # dropout was off
    assert [module.training for module in model.modules()] == modes
    assert torch.equal(torch.random.get_rng_state(), random_state)
    assert not wordpiece.backend_tokenizer.encode_special_tokens


@pytest.mark.parametrize("length", [3, 20])
def test_truncation_and_padding_set_on_the_tokenizer_stay_there_and_count_for_nothing(
    wordpiece: PreTrainedTokenizerFast, length: int
) -> None:
    model = bert(wordpiece)
    wordpiece("the king")
    plain = fill_masks(model, wordpiece, ["the [MASK] walks"])
    wordpiece("the king", truncation=True, padding="max_length", max_length=length)
    backend = wordpiece.backend_tokenizer.to_str()
    assert fill_masks(model, wordpiece, ["the [MASK] walks"]) == plain
    assert wordpiece.backend_tokenizer.to_str() == backend


def test_mode_comes_back_after_an_error(wordpiece: PreTrainedTokenizerFast) -> None:
    model = bert(wordpiece).train()
    model.cls.register_forward_pre_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        fill_masks(model, wordpiece, ["[MASK]"])
    assert model.training and model.bert.training


# What cannot be filled in


@pytest.mark.parametrize("prompt", ["the king", "the MASK", "the mask (a mask)"])
def test_prompt_without_a_mask_is_refused(wordpiece: PreTrainedTokenizerFast, prompt: str) -> None:
    with pytest.raises(UsageError, match=r"the prompt has no \[MASK\]") as caught:
        fill_masks(bert(wordpiece), wordpiece, ["[MASK]", prompt])
    (problem,) = caught.value.problems
    assert (problem.where, problem.hint) == (f"prompt 2: {prompt}", "put [MASK] where a word is missing")


@pytest.mark.parametrize("slip", ["【MASK】", "［MASK］", "［ＭＡＳＫ］", "[mask]", "<mask>", "[ MASK ]", "《MASK》"])
def test_mask_in_other_brackets_is_named_in_the_hint(wordpiece: PreTrainedTokenizerFast, slip: str) -> None:
    with pytest.raises(UsageError) as caught:
        fill_masks(bert(wordpiece), wordpiece, [f"却说{slip}操"])
    assert caught.value.problems[0].hint == f"write [MASK] instead of {slip}"


def test_empty_line_of_several_prompts_has_no_masks_and_alone_it_is_refused(wordpiece: PreTrainedTokenizerFast) -> None:
    filled = fill_masks(bert(wordpiece), wordpiece, ["", "the [MASK]", " "])
    assert [len(each.masks) for each in filled] == [0, 1, 0]
    assert [each.prompt for each in filled] == ["", "the [MASK]", " "]
    with pytest.raises(UsageError, match="has no"):
        fill_masks(bert(wordpiece), wordpiece, [""])


def test_prompt_is_normalized_around_its_masks_and_filled_as_it_was_given() -> None:
    tokenizer = train_tokenizer([ENGLISH.lower() * 3], TokenizerSection(kind="wordpiece", vocab_size=120))
    model = bert(tokenizer)
    (plain,) = fill_masks(model, tokenizer, ["the [MASK] walks, [MASK]!"])
    set_normalization(tokenizer, {"unicode": "NFC", "lowercase": True})
    (given,) = fill_masks(model, tokenizer, ["THE [MASK] Walks, [MASK]!"])
    assert scores(given) == scores(plain)
    assert given.masks[0][0].text.startswith("THE") and given.masks[0][0].text.endswith("Walks, [MASK]!")


@pytest.mark.parametrize("named", [None, "[MASK]"])
def test_tokenizer_without_a_mask_token_is_refused(wordpiece: PreTrainedTokenizerFast, named: str | None) -> None:
    letters = train_tokenizer([ENGLISH], TokenizerSection(kind="char"))
    letters.mask_token = named  # a name alone is no token: it has no id
    with pytest.raises(UsageError, match="the tokenizer has no mask token"):
        fill_masks(bert(wordpiece), letters, ["the [MASK]"])


def test_tokenizer_larger_than_the_model_is_refused_when_the_prompt_needs_it(
    wordpiece: PreTrainedTokenizerFast,
) -> None:
    known = wordpiece.convert_tokens_to_ids("却")
    model = bert(wordpiece, vocab_size=known + 1)
    (filled,) = fill_masks(model, wordpiece, ["却[MASK]"])
    assert isinstance(filled.masks[0][0], MaskPrediction)
    beyond = wordpiece.convert_ids_to_tokens(known + 1)
    with pytest.raises(ModelError, match=f"{len(wordpiece)} tokens, but the model's embedding has {known + 1} rows"):
        fill_masks(model, wordpiece, [f"{beyond}[MASK]"])


def test_candidates_do_not_depend_on_the_other_prompts_of_an_architecture_that_padding_changes(tmp_path: Path) -> None:
    save_bert(tmp_path / "bert")
    tokenizer = load_tokenizer(str(tmp_path / "bert"))
    torch.manual_seed(0)
    config = FNetConfig(
        vocab_size=len(tokenizer), hidden_size=16, num_hidden_layers=2, intermediate_size=32, initializer_range=0.4,
        max_position_embeddings=64,
    )  # fmt: skip
    model = FNetForMaskedLM(config).eval()
    prompts = ["win [MASK]", "lunch at home [MASK] later please now and then"]
    alone = [fill_masks(model, tokenizer, [each])[0] for each in prompts]
    assert fill_masks(model, tokenizer, prompts) == alone
