"""Nothing that makes training fast changes a loss: fifty steps beside transformers' own model, its own attention, all
logits and all positions, in a loop of plain torch."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from tiny import make_bert, make_documents, make_gpt2, make_modernbert, make_pairs, make_sentence_split, make_split
from torch import Tensor
from trainers import BLOCK, make_trainer
from transformers import PreTrainedModel

from llmkit.config.optim import Optim
from llmkit.datasets.blocks import Blocks
from llmkit.models.families import LARGE_VOCABULARY
from llmkit.models.kernels.optimized import optimized
from llmkit.tasks.clm.objective import CausalLM
from llmkit.tasks.mlm.objective import MaskedLM

N_STEPS, BATCH = 50, 8
CPU = torch.device("cpu")


def train_plainly(
    model: PreTrainedModel, samples: Any, loss_of: Callable[[PreTrainedModel, list[Any]], Tensor], precision: str
) -> list[float]:
    """The loss of each step; rate, decay and clipping as in `OPTIM`."""
    groups = [
        {
            "params": [weight for weight in model.parameters() if (weight.ndim > 1) is decays],
            "weight_decay": 0.1 * decays,
        }
        for decays in (True, False)
    ]
    optimizer = torch.optim.AdamW(groups, lr=1e-3, betas=(0.9, 0.99))
    losses = []
    for step in range(N_STEPS):
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            loss = loss_of(model, [samples[number] for number in range(BATCH * step, BATCH * (step + 1))])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses


OPTIM = Optim(learning_rate=1e-3, schedule="constant", warmup_steps=0, max_grad_norm=0.5, weight_decay=0.1)


def causal_loss(model: PreTrainedModel, blocks: list[Any]) -> Tensor:
    inputs, labels = (torch.stack([torch.from_numpy(block[part]) for block in blocks]) for part in (0, 1))
    logits = model(input_ids=inputs).logits
    return F.cross_entropy(logits.float().flatten(0, 1), labels.flatten())


def masked_loss(model: PreTrainedModel, examples: list[Any]) -> Tensor:
    batch = MaskedLM(0, "nsp").collate(examples)
    is_bert = model.config.model_type == "bert"
    labels = torch.full_like(batch["input_ids"], -100)
    labels.view(-1)[batch["masked_indices"]] = batch["masked_ids"]
    inputs = {name: batch[name] for name in ("input_ids", "token_type_ids", "attention_mask") if name in batch}
    more = {"next_sentence_label": batch["relations"]} if is_bert else {}
    loss: Tensor = model(**inputs, labels=labels, **more).loss
    return loss


@pytest.mark.parametrize(("precision", "most"), [("fp32", 1e-6), ("bf16", 1e-3)])
@pytest.mark.parametrize("kind", ["gpt2", "gpt2 with a large vocabulary", "bert", "modernbert"])
def test_losses_are_those_of_the_plain_model(tmp_path: Path, kind: str, precision: str, most: float) -> None:
    if kind in ("bert", "modernbert"):
        split = make_sentence_split(tmp_path / "train", make_documents(8, 1, 20))
        samples: Any = make_pairs(split, "nsp" if kind == "bert" else "none", block_size=48)
        objective, loss_of = MaskedLM(0, "nsp" if kind == "bert" else "none"), masked_loss
        make: Callable[[], PreTrainedModel] = make_bert if kind == "bert" else make_modernbert
    else:
        split = make_split(tmp_path / "train", n_documents=40, length=32)  # whole blocks
        samples, objective, loss_of = Blocks(split, BLOCK, 0), CausalLM(pad_token_id=0), causal_loss
        size = LARGE_VOCABULARY if "large" in kind else 50

        def make() -> PreTrainedModel:
            model = make_gpt2(vocab_size=size)
            for layer in model.transformer.h:  # so that activations leave the middle, where each GELU is as any other
                layer.mlp.c_fc.weight.data *= 10
            return model

    ours = make()
    optimized(ours, precision, CPU)
    trainer, log = make_trainer(
        tmp_path / "run", split, ours, n_steps=N_STEPS, objective=objective, optim=OPTIM, samples=samples,
        precision=precision, micro=4, eval_steps=N_STEPS, save_steps=N_STEPS,
    )  # fmt: skip
    trainer.fit()
    plain = train_plainly(make(), samples, loss_of, precision)
    assert log.of("train", "loss") == pytest.approx(plain, rel=most)
    assert plain[-1] < plain[0]
