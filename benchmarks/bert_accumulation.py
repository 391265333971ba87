"""Gradient accumulation for BERT: the same eight pairs as 8x1, 4x2 and 2x4 (micro-batch x accumulation steps).

    python benchmarks/bert_accumulation.py

Trains a small random BERT in fp32 on synthetic text with llmkit and with plain Trainer, and prints the loss and
gradient norm of three steps. transformers 5.23's BertForPreTraining ignores `num_items_in_batch`, so Trainer's loss and
gradient grow with accumulation. Trainer averages the means of micro-batches; llmkit averages over all tokens.
"""

import json
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import BertForPreTraining, Trainer, TrainerCallback, TrainingArguments

from llmkit.config.loading import load_recipe
from llmkit.config.recipe import Recipe
from llmkit.datasets.pairs import Example, make_pairs
from llmkit.models.masked import build_masked
from llmkit.preparing.prepare import prepare
from llmkit.runs.train import pretrain
from llmkit.tasks.mlm.objective import MaskedLM
from llmkit.tokens.loading import load_tokenizer
from llmkit.tokens.prepared import Prepared, load_prepared

STEPS = 3
CUTS = [(8, 1), (4, 2), (2, 4)]
SETTINGS = (
    "prepare.tokenizer.kind=wordpiece", "prepare.tokenizer.vocab_size=300", "prepare.split.test=0",
    "train.block_size=64", "train.global_batch_size=8", f"train.max_steps={STEPS}", "train.log_steps=1",
    "train.precision=fp32", "optim.learning_rate=1e-3", "optim.schedule=constant", "optim.warmup_steps=0",
    "optim.weight_decay=0", "optim.max_grad_norm=1",
)  # fmt: skip


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        lines = (f"{n} green bottles were hanging on the wall. One of them fell! Whose fault?\n" for n in range(300))
        (root / "a.txt").write_text("".join(lines))
        (root / "b.txt").write_text("It was late. The river rose, and no boat came down it. We waited.\n" * 200)
        prepare([str(root / "a.txt"), str(root / "b.txt")], root / "data", load_recipe(None, SETTINGS, "mlm").prepare)
        print(f"{'micro x accumulation':<22}{'llmkit: loss, gradient norm':<58}plain Trainer: loss, gradient norm")
        for micro, accumulation in CUTS:
            recipe = load_recipe(None, [*SETTINGS, f"train.micro_batch_size={micro}"], "mlm")
            ours = run_ours(recipe, root / "data", root / f"run-{micro}")
            theirs = run_trainer(recipe, load_prepared(root / "data"), micro, accumulation, root / "trainer")
            shown = ["   ".join(f"{loss:.6f} {norm:.6f}" for loss, norm in records) for records in (ours, theirs)]
            print(f"{f'{micro}x{accumulation}':<22}{shown[0]:<58}{shown[1]}")


def run_ours(recipe: Recipe, data: Path, out: Path) -> list[tuple[float, float]]:
    pretrain(recipe, data=data, out=out)
    records = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [(record["loss"], record["grad_norm"]) for record in records if record["kind"] == "train"]


def run_trainer(
    recipe: Recipe, prepared: Prepared, micro: int, accumulation: int, out: Path
) -> list[tuple[float, float]]:
    """Train the same model on the same examples in the same order with an unmodified Trainer."""
    tokenizer = load_tokenizer(str(prepared.tokenizer_path))
    pairs = make_pairs(prepared.split("train"), tokenizer, recipe.mlm, 64, recipe.train.seed)
    examples = [pairs[number] for number in range(8 * STEPS)]
    objective = MaskedLM(tokenizer.pad_token_id, "nsp")
    logged: list[tuple[float, float]] = []

    class Log(TrainerCallback):
        def on_log(self, arguments: Any, state: Any, control: Any, logs: Any = None, **more: Any) -> None:
            if "grad_norm" in logs:
                logged.append((logs["loss"], logs["grad_norm"]))

    def collate(batch: list[Example]) -> dict[str, Tensor]:
        ours = objective.collate(batch)
        labels = torch.full_like(ours["input_ids"], -100)
        labels.view(-1)[ours["masked_indices"]] = ours["masked_ids"]
        inputs = {name: ours[name] for name in ("input_ids", "token_type_ids", "attention_mask") if name in ours}
        return inputs | {"labels": labels, "next_sentence_label": ours["relations"]}

    model = build_masked(recipe.model, tokenizer, 64, recipe.train.seed, sentence_objective="nsp")
    assert isinstance(model, BertForPreTraining)

    class InOrder(Trainer):
        def _get_train_sampler(self, *_: Any) -> Any:
            return torch.utils.data.SequentialSampler(examples)

    arguments = TrainingArguments(
        str(out), per_device_train_batch_size=micro, gradient_accumulation_steps=accumulation, max_steps=STEPS,
        learning_rate=1e-3, lr_scheduler_type="constant", adam_beta2=0.99, max_grad_norm=1.0, logging_steps=1,
        report_to=[], save_strategy="no", use_cpu=True, disable_tqdm=True, remove_unused_columns=False,
    )  # fmt: skip
    InOrder(model, arguments, train_dataset=examples, data_collator=collate, callbacks=[Log()]).train()
    return logged


if __name__ == "__main__":
    main()
