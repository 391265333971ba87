"""The only place where transformers' arguments are made."""

import torch
from transformers import TrainingArguments

from llmkit.config.optim import Optim
from llmkit.config.train import Train
from llmkit.runs.folder import RunFolder
from llmkit.training.contract import Plan

ENDLESS = 1 << 40


def build_arguments(run: RunFolder, train: Train, optim: Optim, plan: Plan) -> TrainingArguments:
    """Whatever transformers would do by itself is off."""
    arguments = TrainingArguments(
        output_dir=str(run.path),
        max_steps=ENDLESS,  # the trainer stops by its plan, whose length may still change
        per_device_train_batch_size=plan.batches.micro_batch_size,
        max_grad_norm=optim.max_grad_norm,
        seed=train.seed,
        use_cpu=not torch.cuda.is_available(),
        logging_strategy="no",
        eval_strategy="no",
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        ignore_data_skip=True,
        remove_unused_columns=False,
        logging_nan_inf_filter=False,
        ddp_timeout=train.ddp_timeout,
        log_level_replica="error",  # else other ranks would warn of what the first keeps to itself
        use_cache=True,  # Trainer writes it into the model's config, and a saved model should generate fast
    )
    arguments._n_gpu = min(arguments.n_gpu, 1)  # several GPUs in one process would be the old DataParallel
    return arguments
