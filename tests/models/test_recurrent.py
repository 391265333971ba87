"""GRU and LSTM language models and the GRU layer for CPUs against torch, and their use in transformers."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from tiny import PlainRecurrent, assert_same_weights, make_recurrent
from torch import Tensor, nn
from transformers import AutoModel, AutoModelForCausalLM, AutoModelForSequenceClassification

from llmkit.models.recurrent import RecurrentForCausalLM, RecurrentForSequenceClassification, run_gru

CELLS = pytest.mark.parametrize("cell", ["gru", "lstm"])


def draw_ids(*shape: int, seed: int = 0) -> Tensor:
    return torch.randint(1, 50, shape, generator=torch.Generator().manual_seed(seed))


def make_writer(cell: str) -> RecurrentForCausalLM:
    """In double precision and with large weights, so that texts differ and near ties do not matter."""
    model = make_recurrent(cell, tie_word_embeddings=False).double().eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.normal_(std=0.7)
    return model


@CELLS
def test_loss_and_gradients_equal_plain_torch(cell: str) -> None:
    model = make_recurrent(cell, scale=3.0)
    plain, ids = PlainRecurrent(model), draw_ids(3, 11)
    loss = model(input_ids=ids, labels=ids).loss
    expected = F.cross_entropy(plain(ids)[0][:, :-1].flatten(0, 1), ids[:, 1:].flatten())
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    loss.backward()
    expected.backward()
    for name, gradient in plain.gradients().items():
        torch.testing.assert_close(model.get_parameter(name).grad, gradient, rtol=1e-5, atol=1e-6, msg=name)


@CELLS
def test_logits_equal_plain_torch(cell: str) -> None:
    model = make_recurrent(cell, scale=3.0)
    ids = draw_ids(3, 11)
    torch.testing.assert_close(model(input_ids=ids).logits, PlainRecurrent(model)(ids)[0])


@CELLS
@pytest.mark.parametrize("cut", [1, 5, 8])
def test_text_in_two_parts_gives_the_logits_of_the_whole(cell: str, cut: int) -> None:
    model, ids = make_recurrent(cell, scale=3.0).eval(), draw_ids(2, 9)
    whole = model(input_ids=ids)
    first = model(input_ids=ids[:, :cut])
    second = model(input_ids=ids[:, cut:], past_key_values=first.past_key_values)
    parts = torch.cat([first.logits, second.logits], 1)
    torch.testing.assert_close(parts, whole.logits)
    torch.testing.assert_close(second.past_key_values.tensor, whole.past_key_values.tensor)
    assert second.past_key_values.get_seq_length() == 9


LENGTHS = (4, 9, 1, 6)


def pad(rows: list[Tensor], side: str) -> tuple[Tensor, Tensor]:
    """Rows side by side, with ids that mean something where there is no token."""
    ids = torch.full((len(rows), max(map(len, rows))), 7)
    mask = torch.zeros_like(ids)
    for number, row in enumerate(rows):
        place = slice(ids.shape[1] - len(row), None) if side == "left" else slice(len(row))
        ids[number, place], mask[number, place] = row, 1
    return ids, mask


@CELLS
@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("use_cache", [True, False])
def test_masked_padding_changes_no_real_token(cell: str, side: str, use_cache: bool) -> None:
    model, rows = make_recurrent(cell, scale=3.0).eval(), [draw_ids(n, seed=n) for n in LENGTHS]
    ids, mask = pad(rows, side)
    logits = model(input_ids=ids, attention_mask=mask, use_cache=use_cache).logits
    for number, row in enumerate(rows):
        alone = model(input_ids=row[None]).logits[0]
        torch.testing.assert_close(logits[number][mask[number] == 1], alone)


@CELLS
@pytest.mark.parametrize("side", ["left", "right"])
def test_state_after_padding_is_that_of_the_last_real_token(cell: str, side: str) -> None:
    model, rows = make_recurrent(cell, scale=3.0).eval(), [draw_ids(n, seed=n) for n in LENGTHS]
    ids, mask = pad(rows, side)
    state = model(input_ids=ids, attention_mask=mask).past_key_values.tensor
    for number, row in enumerate(rows):
        alone = model(input_ids=row[None]).past_key_values.tensor
        torch.testing.assert_close(state[:, :, number], alone[:, :, 0])


@CELLS
def test_gradient_goes_through_padding_as_without_it(cell: str) -> None:
    rows = [draw_ids(n, seed=n) for n in LENGTHS]
    padded, alone = make_recurrent(cell, scale=3.0), make_recurrent(cell, scale=3.0)
    ids, mask = pad(rows, "left")
    (padded(input_ids=ids, attention_mask=mask).logits * mask[:, :, None]).sum().backward()
    for row in rows:
        alone(input_ids=row[None]).logits.sum().backward()
    for name, weight in alone.named_parameters():
        torch.testing.assert_close(padded.get_parameter(name).grad, weight.grad, rtol=1e-4, atol=1e-4, msg=name)


def write_slowly(model: RecurrentForCausalLM, ids: Tensor, n_tokens: int) -> list[int]:
    for _ in range(n_tokens):
        ids = torch.cat([ids, model(input_ids=ids[None]).logits[0, -1].argmax()[None]])
    return ids[-n_tokens:].tolist()


def search_slowly(model: RecurrentForCausalLM, prompt: Tensor, n_tokens: int, n_beams: int) -> list[int]:
    beams = [(0.0, prompt.tolist())]
    for _ in range(n_tokens):
        grown = []
        for score, ids in beams:
            steps = model(input_ids=torch.tensor([ids])).logits[0, -1].log_softmax(-1)
            grown += [(score + step, [*ids, token]) for token, step in enumerate(steps.tolist())]
        beams = sorted(grown, reverse=True)[:n_beams]
    return beams[0][1][-n_tokens:]


@CELLS
def test_greedy_text_with_a_cache_equals_that_without(cell: str) -> None:
    model, rows = make_writer(cell), [draw_ids(n, seed=n) for n in LENGTHS]
    ids, mask = pad(rows, "left")
    written = model.generate(input_ids=ids, attention_mask=mask, max_new_tokens=12, do_sample=False)
    expected = [write_slowly(model, row, 12) for row in rows]
    assert written[:, ids.shape[1] :].tolist() == expected
    assert len({tuple(row) for row in expected}) == len(rows)


@CELLS
def test_beam_search_with_a_cache_equals_that_without(cell: str) -> None:
    model, prompts = make_writer(cell), draw_ids(4, 5, seed=3)
    written = model.generate(input_ids=prompts, max_new_tokens=8, num_beams=3, do_sample=False)[:, 5:].tolist()
    assert written == [search_slowly(model, prompt, 8, 3) for prompt in prompts]
    assert written != [write_slowly(model, prompt, 8) for prompt in prompts]  # else greedy would do


@CELLS
@pytest.mark.parametrize("beams", [1, 3])
def test_each_new_token_runs_the_model_on_one_token(cell: str, beams: int) -> None:
    model, read = make_writer(cell), []
    model.model.embed_tokens.register_forward_hook(lambda module, ids, out: read.append(ids[0].shape[1]))
    model.generate(input_ids=draw_ids(2, 7), max_new_tokens=10, num_beams=beams, do_sample=False)
    assert read == [7, *[1] * 9]


@CELLS
def test_saved_model_opens_with_its_weights_tied(cell: str, tmp_path: Path) -> None:
    model, ids = make_recurrent(cell).eval(), draw_ids(2, 6)
    model.save_pretrained(tmp_path)
    assert "lm_head.weight" not in load_file(tmp_path / "model.safetensors")
    opened = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    assert opened.lm_head.weight is opened.model.embed_tokens.weight
    assert_same_weights(opened.state_dict(), model.state_dict())
    # The order of a product's sums may depend on where in memory its weights lie.
    torch.testing.assert_close(opened(input_ids=ids).logits, model(input_ids=ids).logits)
    inner = AutoModel.from_pretrained(tmp_path).eval()
    expected = model.model(input_ids=ids).last_hidden_state
    torch.testing.assert_close(inner(input_ids=ids).last_hidden_state, expected)


@CELLS
def test_classifier_uses_the_state_of_the_last_token(cell: str, tmp_path: Path) -> None:
    model = make_recurrent(cell).eval()
    model.save_pretrained(tmp_path)
    classifier = AutoModelForSequenceClassification.from_pretrained(tmp_path, num_labels=3).eval()
    assert isinstance(classifier, RecurrentForSequenceClassification)
    ids = torch.tensor([[5, 6, 7, 0, 0], [8, 9, 3, 4, 1]])
    scores = classifier(input_ids=ids, attention_mask=(ids != 0).long()).logits
    for row, text in enumerate([[5, 6, 7], [8, 9, 3, 4, 1]]):
        last = model.model(input_ids=torch.tensor([text])).last_hidden_state[0, -1]
        torch.testing.assert_close(scores[row], classifier.score.weight @ last)


def test_untied_output_layer_is_saved_and_has_its_own_weights(tmp_path: Path) -> None:
    model = make_recurrent(tie_word_embeddings=False)
    model.save_pretrained(tmp_path)
    opened = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert torch.equal(opened.lm_head.weight, model.lm_head.weight)
    assert not torch.equal(opened.lm_head.weight, opened.model.embed_tokens.weight)


@CELLS
def test_adaptive_softmax_has_logits_that_are_its_loss(cell: str, tmp_path: Path) -> None:
    model = make_recurrent(cell, scale=3.0, tie_word_embeddings=False, adaptive_cutoffs=[10, 30]).eval()
    ids = draw_ids(3, 8)
    logits = model(input_ids=ids).logits
    torch.testing.assert_close(logits.exp().sum(-1), torch.ones(3, 8))
    expected = F.nll_loss(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten())
    assert model(input_ids=ids, labels=ids).loss.item() == pytest.approx(expected.item(), rel=1e-6)
    model.save_pretrained(tmp_path)
    opened = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    assert_same_weights(opened.state_dict(), model.state_dict())
    torch.testing.assert_close(opened(input_ids=ids).logits, logits)


@CELLS
def test_dropout_is_applied_only_in_training(cell: str) -> None:
    dry, wet, ids = make_recurrent(cell), make_recurrent(cell, dropout=0.5), draw_ids(2, 6)
    assert torch.equal(wet.eval()(input_ids=ids).logits, dry.eval()(input_ids=ids).logits)
    wet.train()
    one, other = (wet(input_ids=ids).logits for _ in range(2))
    assert not torch.allclose(one, other)


@CELLS
def test_dropout_is_not_applied_to_the_recurrent_state(cell: str) -> None:
    model = make_recurrent(cell, scale=3.0, dropout=1.0)
    model.model.embed_tokens.weight.data.zero_()  # so that dropout changes nothing that the first layer reads
    ids = draw_ids(2, 6)
    dropped = model.train().model(input_ids=ids).past_key_values.tensor[0]
    kept = model.eval().model(input_ids=ids).past_key_values.tensor[0]
    torch.testing.assert_close(dropped, kept)


@pytest.mark.parametrize(
    "more", [{}, {"num_items_in_batch": 7}, {"num_items_in_batch": torch.tensor(7)}], ids=["mean", "int", "tensor"]
)
def test_loss_is_the_mean_over_labels_or_the_sum_over_what_transformers_counted(more: dict[str, Any]) -> None:
    model, ids = make_recurrent(), draw_ids(2, 6)
    labels = ids.clone()
    labels[0, 3:] = -100
    losses = F.cross_entropy(
        model(input_ids=ids).logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), reduction="sum"
    )
    count = 7 if more else 2 + 5
    assert model(input_ids=ids, labels=labels, **more).loss.item() == pytest.approx(losses.item() / count, rel=1e-6)


def make(kind: torch.dtype, batch: int = 3, steps: int = 7, width: int = 4, hidden: int = 5) -> tuple[nn.GRU, Tensor]:
    torch.manual_seed(0)
    layer = nn.GRU(width, hidden, batch_first=True, dtype=kind)
    return layer, torch.randn(batch, steps, width, dtype=kind)


def gradients(layer: nn.GRU, inputs: Tensor, before: Tensor | None, *, ours: bool) -> list[Tensor]:
    """Outputs, last state, and the gradient of a loss of both with regard to all there is."""
    leaves = [inputs.clone().requires_grad_(), *([] if before is None else [before.clone().requires_grad_()])]
    state = leaves[1] if before is not None else None
    outputs, after = run_gru(layer, leaves[0], state) if ours else layer(leaves[0], state)
    loss = outputs.square().sum() + (after * torch.arange(1, after.shape[-1] + 1)).sum()
    found = torch.autograd.grad(loss, [*leaves, *layer.parameters()])
    return [outputs.detach(), after.detach(), *found]


@pytest.mark.parametrize("with_state", [False, True])
@pytest.mark.parametrize("steps", [1, 7])
def test_outputs_and_gradients_are_those_of_torch(steps: int, with_state: bool) -> None:
    layer, inputs = make(torch.float64, steps=steps)
    before = torch.randn(1, 3, 5, dtype=torch.float64) if with_state else None
    ours, its = (gradients(layer, inputs, before, ours=mine) for mine in (True, False))
    assert len(ours) == len(its) == 7 + with_state
    for found, expected in zip(ours, its, strict=True):
        assert torch.allclose(found, expected, rtol=1e-10, atol=1e-12)


def test_two_halves_of_a_sequence_end_in_the_state_of_the_whole() -> None:
    layer, inputs = make(torch.float64)
    whole, last = run_gru(layer, inputs, None)
    first, state = run_gru(layer, inputs[:, :3], None)
    second, end = run_gru(layer, inputs[:, 3:], state)
    assert torch.allclose(torch.cat([first, second], 1), whole)
    assert torch.allclose(end, last)


def test_gradient_agrees_with_finite_differences() -> None:
    layer, inputs = make(torch.float64, batch=2, steps=3, width=2, hidden=2)
    before = torch.randn(1, 2, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x, h: run_gru(layer, x, h), (inputs.requires_grad_(), before))


def test_outputs_stay_fp32_under_autocast_and_near_the_exact_ones() -> None:
    layer, inputs = make(torch.float32)
    exact, _ = run_gru(layer, inputs, None)
    with torch.autocast("cpu", torch.bfloat16):
        found, state = run_gru(layer, inputs, None)
    assert found.dtype == state.dtype == torch.float32
    assert torch.allclose(found, exact, atol=0.05)
    assert not torch.equal(found, exact), "the large products are in bf16"
