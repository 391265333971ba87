"""A trainer on a tiny split with its log in memory, and objectives that go wrong, for tests of training."""

from pathlib import Path
from typing import Any

import torch
from transformers import GPT2LMHeadModel, PreTrainedModel

from llmkit.config.optim import Optim
from llmkit.config.train import Train
from llmkit.datasets.blocks import Blocks
from llmkit.tasks.clm.objective import CausalLM
from llmkit.tokens.store import Split
from llmkit.training.batches import plan_batches
from llmkit.training.contract import Hooks, Plan
from llmkit.training.folder import RunFolder, create_run
from llmkit.training.loop import TrainingLoop

BLOCK = 16


class Log(list[dict[str, Any]]):
    """Records of a run, in memory."""

    def of(self, kind: str, name: str) -> list[Any]:
        return [record[name] for record in self if record["kind"] == kind]


def make_trainer(
    run: Path, split: Split, model: PreTrainedModel, *, n_steps: int = 3, micro: int = 8, evaluate: Any = None,
    resume: bool = False, objective: Any = None, optim: Optim | None = None, samples: Any = None,
    precision: Any = "fp32", **train: Any,
) -> tuple[TrainingLoop, Log]:  # fmt: skip
    log = Log()
    section = Train(
        block_size=BLOCK, global_batch_size=8, micro_batch_size=micro, log_steps=1, precision=precision, **train
    )
    plan = Plan(
        n_steps, train.get("eval_steps", 2), train.get("save_steps", 2), plan_batches(section, 256, 1, 1, 1), precision
    )
    folder = RunFolder(run) if resume else create_run(run, overwrite=False)
    trainer = TrainingLoop(
        model, objective or CausalLM(pad_token_id=0), samples or Blocks(split, BLOCK, section.seed),
        run=folder, train=section, optim=optim or Optim(learning_rate=1e-2, max_grad_norm=0.5), plan=plan,
        hooks=Hooks(evaluate and (lambda model, plan: evaluate(model)), lambda model: None, log.append),
    )  # fmt: skip
    return trainer, log


def state_of(model: GPT2LMHeadModel) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


class PoisonedAt:
    """An objective whose loss is NaN in one micro-batch."""

    def __init__(self, batch: int) -> None:
        self.inner, self.left = CausalLM(pad_token_id=0), batch

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def sum_losses(self, model: Any, batch: Any) -> dict[str, torch.Tensor]:
        self.left -= 1
        sums = self.inner.sum_losses(model, batch)
        return {name: value * (float("nan") if self.left == 0 else 1.0) for name, value in sums.items()}
