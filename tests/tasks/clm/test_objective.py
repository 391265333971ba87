"""The next-token objective: what is a label, and that padding cannot matter."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tiny import make_gpt2

from llmkit.models.families import LARGE_VOCABULARY
from llmkit.models.kernels import output_layer
from llmkit.tasks.clm.objective import IGNORE, CausalLM

BLOCKS = [(np.array([0, 5, 6, 7]), np.array([5, 6, 7, 0])), (np.array([3, 0]), np.array([0, 4]))]


def test_end_of_text_is_a_label_even_where_it_is_also_the_padding() -> None:
    batch = CausalLM(pad_token_id=0).collate(BLOCKS)
    assert batch["labels"].tolist() == [[5, 6, 7, 0], [0, 4, -100, -100]]
    assert batch["input_ids"].tolist() == [[0, 5, 6, 7], [3, 0, 0, 0]]


def test_counts_are_those_of_labels_and_not_of_padding() -> None:
    objective = CausalLM(pad_token_id=0)
    assert objective.count(objective.collate(BLOCKS)) == {"loss": 6}


@pytest.mark.parametrize("pad", [0, 49])
def test_padded_batch_has_the_loss_and_gradient_of_its_blocks_alone(pad: int) -> None:
    def run(groups: list[list[tuple[np.ndarray, np.ndarray]]]) -> tuple[float, torch.Tensor]:
        model, objective = make_gpt2(), CausalLM(pad_token_id=pad)
        sums = [objective.sum_losses(model, objective.collate(group))["loss"] for group in groups]
        torch.stack(sums).sum().backward()
        return sum(value.item() for value in sums), model.transformer.h[0].attn.c_attn.weight.grad

    together, alone = run([BLOCKS]), run([[block] for block in BLOCKS])
    assert together[0] == pytest.approx(alone[0], rel=1e-6)
    torch.testing.assert_close(together[1], alone[1], rtol=1e-5, atol=1e-5 * alone[1].abs().max().item())


@pytest.mark.parametrize(("precision", "most"), [("fp32", 1e-6), ("bf16", 2e-3)])
def test_loss_of_a_large_vocabulary_is_made_in_parts_and_is_that_of_all_logits(
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
