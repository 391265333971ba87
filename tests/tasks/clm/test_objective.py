"""The next-token objective: its labels, and that padding has no effect."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tiny import PlainRecurrent, make_gpt2, make_recurrent, make_split
from torch import Tensor

from llmkit.datasets.blocks import StreamBlock, Streams
from llmkit.models.families import LARGE_VOCABULARY
from llmkit.models.kernels import output_layer
from llmkit.models.recurrent import RecurrentForCausalLM
from llmkit.tasks.clm.objective import IGNORE, CausalLM, RecurrentLM

BLOCKS = [(np.array([0, 5, 6, 7]), np.array([5, 6, 7, 0])), (np.array([3, 0]), np.array([0, 4]))]


def test_end_of_text_is_a_label_even_if_it_is_the_pad_token() -> None:
    batch = CausalLM(pad_token_id=0).collate(BLOCKS)
    assert batch["labels"].tolist() == [[5, 6, 7, 0], [0, 4, -100, -100]]
    assert batch["input_ids"].tolist() == [[0, 5, 6, 7], [3, 0, 0, 0]]


def test_padding_is_not_counted_as_labels() -> None:
    objective = CausalLM(pad_token_id=0)
    assert objective.count(objective.collate(BLOCKS)) == {"loss": 6}


@pytest.mark.parametrize("pad", [0, 49])
def test_padding_does_not_change_loss_and_gradient(pad: int) -> None:
    def run(groups: list[list[tuple[np.ndarray, np.ndarray]]]) -> tuple[float, torch.Tensor]:
        model, objective = make_gpt2(), CausalLM(pad_token_id=pad)
        sums = [objective.sum_losses(model, objective.collate(group))["loss"] for group in groups]
        torch.stack(sums).sum().backward()
        return sum(value.item() for value in sums), model.transformer.h[0].attn.c_attn.weight.grad

    together, alone = run([BLOCKS]), run([[block] for block in BLOCKS])
    assert together[0] == pytest.approx(alone[0], rel=1e-6)
    torch.testing.assert_close(together[1], alone[1], rtol=1e-5, atol=1e-5 * alone[1].abs().max().item())


@pytest.mark.parametrize(("precision", "most"), [("fp32", 1e-6), ("bf16", 2e-3)])
def test_chunked_loss_equals_the_loss_of_all_logits(
    monkeypatch: pytest.MonkeyPatch, precision: str, most: float
) -> None:
    monkeypatch.setattr(output_layer, "LOGITS_PER_CHUNK", 3 * LARGE_VOCABULARY)
    ours, plain = make_gpt2(vocab_size=LARGE_VOCABULARY), make_gpt2(vocab_size=LARGE_VOCABULARY)
    ours.lm_head.register_forward_hook(lambda *_: pytest.fail("all logits were made"))
    batch = CausalLM(pad_token_id=0).collate(BLOCKS)
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
        loss = CausalLM(pad_token_id=0).sum_losses(ours, batch)["loss"]
        logits = plain(input_ids=batch["input_ids"]).logits.flatten(0, 1).float()
    wanted = F.cross_entropy(logits, batch["labels"].flatten(), ignore_index=IGNORE, reduction="sum")
    loss.backward()
    wanted.backward()
    assert loss.item() == pytest.approx(wanted.item(), rel=most)
    for (name, weight), other in zip(ours.named_parameters(), plain.parameters(), strict=True):
        assert (weight.grad - other.grad).norm() <= 5 * most * other.grad.norm(), name


CELLS = pytest.mark.parametrize("cell", ["gru", "lstm"])
IDS = np.random.default_rng(0).integers(1, 50, 25)


def cut_block(begin: int, end: int, row: int = 0) -> StreamBlock:
    return StreamBlock(IDS[begin:end], IDS[begin + 1 : end + 1], row, fresh=begin == 0)


def add_gradient(model: RecurrentForCausalLM, objective: Any, blocks: list[StreamBlock]) -> float:
    loss = objective.sum_losses(model, objective.collate(blocks))["loss"]
    loss.backward()
    return loss.item()


def gradients_of(model: RecurrentForCausalLM) -> dict[str, Tensor]:
    return {name: weight.grad.clone() for name, weight in model.named_parameters()}


def sum_plainly(plain: PlainRecurrent, begin: int, end: int, state: Any = None) -> tuple[Tensor, Any]:
    logits, state = plain(torch.from_numpy(IDS[begin:end])[None], state)
    return F.cross_entropy(logits[0], torch.from_numpy(IDS[begin + 1 : end + 1]), reduction="sum"), state


@CELLS
def test_stream_in_two_blocks_has_the_loss_of_one_block(cell: str) -> None:
    model, objective = make_recurrent(cell, scale=3.0), RecurrentLM(0, 1)
    parts = [add_gradient(model, objective, [cut_block(*place)]) for place in ((0, 16), (16, 24))]
    whole, _ = sum_plainly(PlainRecurrent(model), 0, 24)
    assert sum(parts) == pytest.approx(whole.item(), rel=1e-6)
    forgetful = add_gradient(model, RecurrentLM(0, 1), [cut_block(16, 24)])
    assert abs(forgetful - parts[1]) > 0.01  # else it would not matter what is carried


@CELLS
def test_gradient_does_not_cross_the_beginning_of_a_block(cell: str) -> None:
    model, objective = make_recurrent(cell, scale=3.0), RecurrentLM(0, 1)
    plain = PlainRecurrent(model)
    for place in ((0, 16), (16, 24)):
        add_gradient(model, objective, [cut_block(*place)])
    first, state = sum_plainly(plain, 0, 16)
    state = tuple(part.detach() for part in state) if isinstance(state, tuple) else state.detach()
    (first + sum_plainly(plain, 16, 24, state)[0]).backward()
    for name, expected in plain.gradients().items():
        torch.testing.assert_close(model.get_parameter(name).grad, expected, rtol=1e-5, atol=1e-5, msg=name)
    assert not objective.state["carried"].requires_grad


@CELLS
@pytest.mark.parametrize("micro", [4, 2, 1, 3])
def test_recurrent_gradients_do_not_depend_on_the_micro_batch_size(tmp_path: Path, cell: str, micro: int) -> None:
    split = make_split(tmp_path / "train", n_documents=9, length=29)
    streams = Streams(split, 10, 8, seed=0)
    assert streams.samples_per_epoch == 4 * 8  # the last of its steps is short

    def take_steps(size: int) -> tuple[list[float], list[dict[str, Tensor]]]:
        model, objective = make_recurrent(cell, scale=3.0), RecurrentLM(0, 8)
        losses, gradients = [], []
        for step in range(6):
            rows = [streams[8 * step + row] for row in range(8)]
            losses.append(sum(add_gradient(model, objective, rows[i : i + size]) for i in range(0, 8, size)))
            gradients.append(gradients_of(model))
            model.zero_grad()
        return losses, gradients

    (whole, whole_gradients), (cut, cut_gradients) = take_steps(8), take_steps(micro)
    assert cut == pytest.approx(whole, rel=1e-6)
    for one, other in zip(whole_gradients, cut_gradients, strict=True):
        for name in one:
            torch.testing.assert_close(other[name], one[name], rtol=1e-5, atol=1e-5, msg=name)


@CELLS
def test_micro_batch_of_ended_streams_has_no_loss(cell: str) -> None:
    model, objective = make_recurrent(cell), RecurrentLM(0, 2)
    for row in (0, 1):
        add_gradient(model, objective, [cut_block(0, 16, row)])
    model.zero_grad()
    ended = StreamBlock(IDS[:0], IDS[:0], 1, fresh=False)
    assert objective.count(objective.collate([ended])) == {"loss": 0}
    assert add_gradient(model, objective, [ended]) == 0.0


@CELLS
def test_only_fresh_rows_reset_their_state(cell: str) -> None:
    model, objective = make_recurrent(cell, scale=3.0), RecurrentLM(0, 2)
    add_gradient(model, objective, [cut_block(0, 8, row) for row in (0, 1)])
    blocks = [cut_block(8, 16, 0), cut_block(8, 16, 1)._replace(fresh=True)]
    both = add_gradient(model, objective, blocks)
    plain = PlainRecurrent(model)
    remembered, _ = sum_plainly(plain, 8, 16, sum_plainly(plain, 0, 8)[1])
    forgotten, _ = sum_plainly(plain, 8, 16)
    assert both == pytest.approx((remembered + forgotten).item(), rel=1e-6)
    assert abs((remembered - forgotten).item()) > 0.01


@CELLS
def test_state_follows_the_row_and_not_the_batch_position(cell: str) -> None:
    model, objective = make_recurrent(cell, scale=3.0), RecurrentLM(0, 3)
    begun = [StreamBlock(IDS[n : n + 8], IDS[n + 1 : n + 9], row, True) for row, n in ((2, 0), (0, 5), (1, 10))]
    add_gradient(model, objective, begun)
    found = add_gradient(model, objective, [StreamBlock(IDS[8:12], IDS[9:13], 2, False)])
    expected, _ = sum_plainly(PlainRecurrent(model), 8, 12, sum_plainly(PlainRecurrent(model), 0, 8)[1])
    assert found == pytest.approx(expected.item(), rel=1e-6)


@CELLS
def test_nan_in_an_old_state_does_not_reach_a_fresh_row(cell: str) -> None:
    model, objective = make_recurrent(cell), RecurrentLM(0, 1)
    first = add_gradient(model, objective, [cut_block(0, 16)])
    objective.state["carried"].fill_(float("nan"))
    model.zero_grad()
    assert add_gradient(model, objective, [cut_block(0, 16)]) == first
    assert all(torch.isfinite(gradient).all() for gradient in gradients_of(model).values())
    assert torch.isfinite(objective.state["carried"]).all()


def test_loss_summed_by_the_model_equals_that_of_its_logits() -> None:
    blocks = [(IDS[:16], IDS[1:17]), (IDS[:3], IDS[1:4])]
    ours, theirs = make_recurrent(scale=3.0), make_recurrent(scale=3.0)
    one = add_gradient(ours, CausalLM(0, loss_by_model=True), blocks)  # type: ignore[arg-type]
    other = add_gradient(theirs, CausalLM(0), blocks)  # type: ignore[arg-type]
    assert one == pytest.approx(other, rel=1e-6)
    expected = gradients_of(theirs)
    for name, gradient in gradients_of(ours).items():
        torch.testing.assert_close(gradient, expected[name], rtol=1e-5, atol=1e-5, msg=name)
