"""The loop of our own against transformers' `generate`, and against reading all again for each token."""

from typing import Any

import pytest
import torch
from tiny import make_transformer
from torch import Tensor, nn
from transformers import GenerationConfig, GPT2Config, GPT2LMHeadModel
from transformers.pytorch_utils import Conv1D

from llmkit.core.errors import ModelError
from llmkit.models.recurrent import RecurrentConfig, RecurrentForCausalLM
from llmkit.tasks.clm.decode import MIN_STEPS_TO_PACK, PackedLinears, can_decode, decode, read_prompts, sample_token

VOCABULARY = 50
LENGTHS = [5, 1, 9, 9]


def make(kind: str, **more: Any) -> Any:
    """Every weight random and large, so that texts differ and none can be forgotten."""
    torch.manual_seed(1)
    if kind == "transformer":
        model: Any = make_transformer(**more)
    elif kind == "gpt2":
        shape: dict[str, Any] = {"n_positions": 64, "n_embd": 32, "n_layer": 3, "n_head": 4} | more
        model = GPT2LMHeadModel(GPT2Config(vocab_size=VOCABULARY, **shape))
    else:
        model = RecurrentForCausalLM(
            RecurrentConfig(cell=kind, vocab_size=VOCABULARY, embedding_size=24, hidden_size=24)
        )
    model.generation_config = GenerationConfig()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.dim() == 1:
                weight.normal_(float(name.endswith("weight")), 0.1)
            else:
                weight.normal_(std=0.6)
    return model.eval()


def left_padded(lengths: list[int]) -> tuple[Tensor, Tensor]:
    torch.manual_seed(2)
    width = max(lengths)
    mask = torch.tensor([[0] * (width - n) + [1] * n for n in lengths])
    return torch.randint(1, VOCABULARY, mask.shape) * mask, mask


def settings(**more: Any) -> GenerationConfig:
    given: dict[str, Any] = {"num_beams": 1, "repetition_penalty": 1.0, "max_new_tokens": 20, "pad_token_id": 0}
    return GenerationConfig(**(given | {"do_sample": False} | more))


def write(model: Any, ids: Tensor, mask: Tensor, decoding: GenerationConfig) -> Tensor:
    """(rows, new tokens)."""
    steps: list[list[int]] = []
    decode(model, ids, mask, decoding, lambda chosen: bool(steps.append(chosen)), PackedLinears())
    return torch.tensor(steps).T


@pytest.mark.parametrize("more", [{}, {"repetition_penalty": 1.5}, {"suppress_tokens": [0, 3, 7]}])
@pytest.mark.parametrize("lengths", [LENGTHS, [6], [6, 6]])
@pytest.mark.parametrize("kind", ["gpt2", "transformer", "gru", "lstm"])
def test_greedy_tokens_are_those_of_generate(kind: str, lengths: list[int], more: dict[str, Any]) -> None:
    model, (ids, mask) = make(kind).double(), left_padded(lengths)
    decoding = settings(**more)
    expected = model.generate(input_ids=ids, attention_mask=mask, generation_config=decoding)[:, ids.shape[1] :]
    written = write(model, ids, mask, decoding)
    assert torch.equal(written, expected)
    assert len(written.unique()) > 3


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"activation_function": "relu"},
        {"scale_attn_by_inverse_layer_idx": True},
        {"scale_attn_weights": False},
        {"n_inner": 40},
        {"tie_word_embeddings": False},
        {"attn_implementation": "eager"},
    ],
)
@pytest.mark.parametrize("n_steps", [3, MIN_STEPS_TO_PACK])
@pytest.mark.parametrize("lengths", [LENGTHS, [6]])
def test_logits_of_each_step_are_those_of_reading_all_again(
    lengths: list[int], n_steps: int, more: dict[str, Any]
) -> None:
    model, (ids, mask) = make("gpt2", **more), left_padded(lengths)
    with torch.no_grad():
        for weight in model.parameters():  # attention less sharp, as it would magnify rounding
            weight.mul_(0.3 if weight.dim() > 1 else 1.0)
        logits, step = read_prompts(model, ids, mask, n_steps, PackedLinears())
        for number in range(n_steps + 1):
            positions = (mask.cumsum(1) - 1).clamp(min=0)
            again = model(input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=False).logits[:, -1]
            torch.testing.assert_close(logits, again, rtol=1e-5, atol=1e-5)
            if number < n_steps:
                chosen = torch.randint(1, VOCABULARY, (len(ids),))
                ids, mask = torch.cat([ids, chosen[:, None]], 1), torch.cat([mask, torch.ones_like(chosen)[:, None]], 1)
                logits = step(chosen)


def test_samples_have_the_distribution_that_generate_draws_from() -> None:
    """The distribution of the second token given the first, from 40,000 rows of one prompt, against plain code."""
    model, (ids, mask) = make("gpt2"), left_padded([4])
    with torch.no_grad():
        model.lm_head.weight.mul_(0.3)
    rows = 40_000
    limits: dict[str, Any] = {"temperature": 1.7, "top_k": 12, "top_p": 0.9, "min_p": 0.05, "suppress_tokens": [3]}
    decoding = settings(do_sample=True, max_new_tokens=2, **limits)
    written = write(model, ids.expand(rows, -1), mask.expand(rows, -1), decoding)
    first = int(written[:, 0].mode().values)
    seconds = written[written[:, 0] == first, 1]
    with torch.no_grad():
        scores = model(input_ids=torch.cat([ids[0], torch.tensor([first])])[None]).logits[0, -1]
    scores[3] = -torch.inf
    shares, order = (scores / 1.7).softmax(0).sort(descending=True)
    shares = shares[:12] / shares[:12].sum()
    kept = shares.cumsum(0) - shares < 0.9  # the token that goes beyond p is the last one
    kept &= shares >= 0.05 * shares[0]
    expected = torch.zeros(VOCABULARY).index_put((order[:12][kept],), shares[kept] / shares[kept].sum())
    counts = torch.bincount(seconds, minlength=VOCABULARY)
    assert 1 < int(kept.sum()) < 12
    assert (counts[expected == 0] == 0).all()
    tolerance = 5 * (expected * (1 - expected) / len(seconds)).sqrt()
    assert ((counts / len(seconds) - expected).abs() <= tolerance).all()


def test_id_of_probability_0_is_never_sampled_and_all_others_are(monkeypatch: pytest.MonkeyPatch) -> None:
    shares = torch.tensor([0.0, 0.25, 0.0, 0.5, 0.25, 0.0])
    assert sample_token(shares.expand(2000, -1)).unique().tolist() == [1, 3, 4]
    for number, expected in ((0.0, 1), (0.25, 3), (0.75, 4), (1 - 2**-53, 4)):
        monkeypatch.setattr(torch, "rand", lambda *size, at=number, **more: torch.full(size, at, **more))
        assert sample_token(shares[None]).tolist() == [expected]


def test_probabilities_that_are_not_finite_are_an_error() -> None:
    with pytest.raises(ModelError, match="not finite"):
        sample_token(torch.full((1, 4), torch.nan))


def test_same_seed_draws_the_same_tokens() -> None:
    model, (ids, mask) = make("gru"), left_padded(LENGTHS)

    def sample(seed: int) -> Tensor:
        torch.manual_seed(seed)
        return write(model, ids, mask, settings(do_sample=True, temperature=1.0, top_k=0))

    assert torch.equal(sample(1), sample(1))
    assert not torch.equal(sample(1), sample(2))


def test_nothing_is_read_once_all_rows_have_ended() -> None:
    model, (ids, mask) = make("gpt2"), left_padded(LENGTHS)
    read: list[int] = []
    model.transformer.wte.register_forward_hook(lambda *given: read.append(given[1][0].numel()))
    steps: list[list[int]] = []

    def take(chosen: list[int]) -> bool:
        steps.append(chosen)
        return len(steps) == 3

    decode(model, ids, mask, settings(), take, PackedLinears())
    assert len(steps) == 3
    assert read == [ids.numel(), 4, 4]


class Derived(GPT2LMHeadModel):
    pass


def test_other_models_and_beams_are_left_to_generate() -> None:
    gpt2 = make("gpt2")
    assert can_decode(gpt2, settings()) and can_decode(make("lstm"), settings())
    assert not can_decode(gpt2, settings(num_beams=2))
    assert not can_decode(Derived(gpt2.config), settings())
    assert not can_decode(make("gpt2", add_cross_attention=True), settings())
    assert not can_decode(make("gpt2", reorder_and_upcast_attn=True), settings())


@pytest.mark.parametrize("rows", [1, 2, 16])
def test_product_is_that_of_the_layer_and_what_is_added_to_a_layer_counts(rows: int) -> None:
    torch.manual_seed(0)
    packed, hidden = PackedLinears(), torch.randn(rows, 24)
    for layer in (Conv1D(40, 24), nn.Linear(24, 40), nn.Linear(24, 40, bias=False)):
        with torch.no_grad():
            nn.init.normal_(layer.weight)
            expected = layer(hidden)
            torch.testing.assert_close(packed.of(layer, rows)(hidden), expected, rtol=1e-5, atol=1e-5)
            more = torch.randn(5, 24)
            torch.testing.assert_close(packed.of(layer, 5)(more), layer(more), rtol=1e-5, atol=1e-5)
            assert packed.of(layer, 5) is packed.of(layer, 5)
            layer.register_forward_hook(lambda *given: given[2] + 1)
            assert torch.equal(packed.of(layer, rows)(hidden), expected + 1)
