"""The plain Transformer against torch's own encoder, the paper's positions, and its cache."""

import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from tiny import assert_same_weights, make_transformer
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from llmkit.models.transformer import TransformerForCausalLM, sinusoids


def draw_ids(*shape: int, seed: int = 0) -> Tensor:
    return torch.randint(1, 50, shape, generator=torch.Generator().manual_seed(seed))


def make_random(**more: object) -> TransformerForCausalLM:
    """All weights, biases and norms are random, so that each one matters."""
    model = make_transformer(**more).double().eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.normal_(std=0.4)
    return model


def as_torch_has_it(model: TransformerForCausalLM) -> nn.TransformerEncoder:
    layer = nn.TransformerEncoderLayer(32, 4, 128, dropout=0.0, activation="relu", batch_first=True, norm_first=False)
    encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False).double().eval()
    for ours, theirs in zip(model.model.layers, encoder.layers, strict=True):
        state = {}
        for kind in ("weight", "bias"):
            projections = [ours.self_attn.q_proj, ours.self_attn.k_proj, ours.self_attn.v_proj]
            state[f"self_attn.in_proj_{kind}"] = torch.cat([getattr(each, kind) for each in projections])
            state[f"self_attn.out_proj.{kind}"] = getattr(ours.self_attn.o_proj, kind)
            state[f"linear1.{kind}"] = getattr(ours.feed_forward[0], kind)
            state[f"linear2.{kind}"] = getattr(ours.feed_forward[2], kind)
            state[f"norm1.{kind}"] = getattr(ours.self_attn_norm, kind)
            state[f"norm2.{kind}"] = getattr(ours.feed_forward_norm, kind)
        theirs.load_state_dict(state)
    return encoder


def position(place: int) -> list[float]:
    """Vaswani et al. 2017, section 3.5, for a model 32 wide."""
    row = []
    for pair in range(16):
        angle = place / 10_000 ** (2 * pair / 32)
        row += [math.sin(angle), math.cos(angle)]
    return row


def test_outputs_equal_torchs_encoder_under_a_causal_mask() -> None:
    model, ids = make_random(), draw_ids(3, 13)
    embedded = model.model.embed_tokens.weight[ids] * math.sqrt(32)
    embedded = embedded + torch.tensor([position(place) for place in range(13)], dtype=torch.float64)
    mask = torch.full((13, 13), -torch.inf, dtype=torch.float64).triu(1)
    expected = as_torch_has_it(model)(embedded, mask=mask)
    found = model.model(input_ids=ids).last_hidden_state
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    logits = expected @ model.model.embed_tokens.weight.T + model.lm_head.bias
    torch.testing.assert_close(model(input_ids=ids).logits, logits, rtol=0, atol=1e-4)
    loss = F.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten())
    assert model(input_ids=ids, labels=ids).loss.item() == pytest.approx(loss.item(), rel=1e-5)


def test_positions_are_the_papers_sinusoids() -> None:
    found = sinusoids(torch.arange(500)[None], 32)[0]
    torch.testing.assert_close(found, torch.tensor([position(place) for place in range(500)]), rtol=0, atol=1e-4)


@pytest.mark.parametrize("cut", [1, 6, 12])
def test_text_in_two_parts_gives_the_logits_of_the_whole(cut: int) -> None:
    model, ids = make_random(), draw_ids(2, 13)
    first = model(input_ids=ids[:, :cut], use_cache=True)
    second = model(input_ids=ids[:, cut:], past_key_values=first.past_key_values)
    parts = torch.cat([first.logits, second.logits], 1)
    # Positions are in fp32, and the same wherever the text is cut.
    torch.testing.assert_close(parts, model(input_ids=ids, use_cache=False).logits, rtol=0, atol=1e-9)


def test_later_token_never_changes_an_earlier_output() -> None:
    model, ids = make_random(), draw_ids(2, 13)
    other = ids.clone()
    other[:, 7:] = draw_ids(2, 6, seed=9)
    one, changed = (model.model(input_ids=each).last_hidden_state for each in (ids, other))
    torch.testing.assert_close(one[:, :7], changed[:, :7], rtol=0, atol=1e-12)
    assert not torch.allclose(one[:, 7], changed[:, 7])


@pytest.mark.parametrize("use_cache", [True, False])
def test_padding_on_the_left_changes_no_real_token(use_cache: bool) -> None:
    model, rows = make_random(), [draw_ids(n, seed=n) for n in (4, 9, 1, 6)]
    ids = torch.stack([F.pad(row, (9 - len(row), 0), value=7) for row in rows])
    mask = torch.stack([F.pad(torch.ones_like(row), (9 - len(row), 0)) for row in rows])
    places = (mask.cumsum(-1) - 1).clamp(min=0)  # as transformers' generate makes them
    logits = model(input_ids=ids, attention_mask=mask, position_ids=places, use_cache=use_cache).logits
    for number, row in enumerate(rows):
        alone = model(input_ids=row[None]).logits[0]
        torch.testing.assert_close(logits[number, 9 - len(row) :], alone, rtol=0, atol=1e-9)


def test_greedy_texts_of_a_batch_with_a_cache_equal_those_without() -> None:
    model, rows = make_random(tie_word_embeddings=False), [draw_ids(n, seed=n) for n in (4, 9, 1, 6)]
    model.lm_head.bias.data.zero_()
    model.model.layers[-1].feed_forward_norm.bias.data.zero_()  # it favours the same few tokens everywhere
    model.model.layers[-1].feed_forward_norm.weight.data.fill_(1.0)
    model.model.embed_tokens.weight.data.mul_(2)
    ids = torch.stack([F.pad(row, (9 - len(row), 0), value=7) for row in rows])
    mask = torch.stack([F.pad(torch.ones_like(row), (9 - len(row), 0)) for row in rows])
    written = model.generate(input_ids=ids, attention_mask=mask, max_new_tokens=10, do_sample=False)
    for row, text in zip(rows, written[:, 9:].tolist(), strict=True):
        for token in text:
            assert model(input_ids=row[None]).logits[0, -1].argmax() == token
            row = torch.cat([row, torch.tensor([token])])
    assert len({tuple(text) for text in written[:, 9:].tolist()}) == 4


def test_saved_model_opens_with_its_weights_tied(tmp_path: Path) -> None:
    model, ids = make_transformer().eval(), draw_ids(2, 6)
    model.save_pretrained(tmp_path)
    opened = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    assert isinstance(opened, TransformerForCausalLM)
    assert opened.lm_head.weight is opened.model.embed_tokens.weight
    assert_same_weights(opened.state_dict(), model.state_dict())
    # The order of a product's sums may depend on where in memory its weights lie.
    torch.testing.assert_close(opened(input_ids=ids).logits, model(input_ids=ids).logits)


def test_classifier_uses_the_hidden_state_of_the_last_token(tmp_path: Path) -> None:
    model = make_transformer().eval()
    model.save_pretrained(tmp_path)
    classifier = AutoModelForSequenceClassification.from_pretrained(tmp_path, num_labels=3).eval()
    ids = torch.tensor([[5, 6, 7, 0, 0], [8, 9, 3, 4, 1]])
    scores = classifier(input_ids=ids, attention_mask=(ids != 0).long()).logits
    for row, text in enumerate([[5, 6, 7], [8, 9, 3, 4, 1]]):
        last = model.model(input_ids=torch.tensor([text])).last_hidden_state[0, -1]
        torch.testing.assert_close(scores[row], classifier.score.weight @ last, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["dropout", "attention_dropout"])
def test_dropout_is_applied_only_in_training(name: str) -> None:
    dry, wet, ids = make_transformer(), make_transformer(**{name: 0.5}), draw_ids(2, 6)
    assert torch.equal(wet.eval()(input_ids=ids).logits, dry.eval()(input_ids=ids).logits)
    wet.train()
    one, other = (wet(input_ids=ids).logits for _ in range(2))
    assert not torch.allclose(one, other)
