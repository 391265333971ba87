"""Memory and compute that training a model takes on any machine; the model may be on torch's meta device."""

from functools import partial
from typing import Any

from torch import nn
from transformers import PreTrainedModel

from llmkit.config.recipe import Recipe
from llmkit.models.families import family_of, trains_with_chunked_loss
from llmkit.models.kernels.output_layer import count_loss_bytes
from llmkit.models.loading import embedding_rows
from llmkit.tasks.base import MeasuredTask
from llmkit.training.batches import count_activation_bytes, count_logit_bytes
from llmkit.training.forecast import FP32, ModelCost
from llmkit.training.optimizer import checkpoint_bytes, count_weights
from llmkit.training.speed import flops_per_token

SCORED_LOGIT_BYTES = 14
"""Per logit of scored held-out text, including copies and log-softmax; 13 to 16 were measured (docs/log.md)."""


def measure_model_cost(
    network: PreTrainedModel, recipe: Recipe, task: MeasuredTask, *, bf16: bool, on_cpu: bool
) -> ModelCost:
    """Memory and FLOPs of the model and its training; all sequences are assumed to be full."""
    config: Any = network.config
    output_share = task.output_share
    train, optim = recipe.train, recipe.optim
    n_weights = count_weights(network.parameters())
    n_layers, width, rows = config.num_hidden_layers, config.hidden_size, embedding_rows(network)
    logit_bytes, max_logit_bytes = count_logit_bytes(rows, output_share), None
    if trains_with_chunked_loss(config, rows, on_cpu=on_cpu):
        logit_bytes, max_logit_bytes = count_loss_bytes(rows, bf16=bf16)
    count_kept = partial(
        count_activation_bytes, family_of(config), width=width, bf16=bf16, dropout=_has_dropout(network), on_cpu=on_cpu
    )
    recomputes = train.gradient_checkpointing
    return ModelCost(
        n_weights=n_weights,
        n_trained=count_weights(weight for weight in network.parameters() if weight.requires_grad),
        n_multiplied=_count_multiplied(network),
        n_embedded=count_weights(network.get_input_embeddings().parameters()),
        n_layers=n_layers,
        moment_bytes=checkpoint_bytes(network, optim) - 4 * n_weights,
        flops_per_token=flops_per_token(network, recipe.block_size, output_share),
        # Gradient checkpointing keeps the fp32 inputs of all layers, and the activations of one.
        activation_bytes=FP32 * n_layers * width + count_kept(n_layers=1)
        if recomputes
        else count_kept(n_layers=n_layers),
        passes=4 / 3 if recomputes else 1.0,
        logit_bytes=logit_bytes,
        max_logit_bytes=max_logit_bytes,
        evaluation_bytes=round(SCORED_LOGIT_BYTES * task.count_scored_logits(network)),
        block_size=recipe.block_size,
        global_batch_size=train.global_batch_size,
    )


def _count_multiplied(network: PreTrainedModel) -> int:
    """Weights of matrix products; an output layer counts even if it is tied to an embedding."""
    tables = {id(module.weight) for module in network.modules() if isinstance(module, nn.Embedding)}
    output: Any = network.get_output_embeddings()
    tables -= {id(output.weight)} if output is not None else set()
    return count_weights(weight for weight in network.parameters() if weight.ndim >= 2 and id(weight) not in tables)


def _has_dropout(network: PreTrainedModel) -> bool:
    return any(isinstance(module, nn.Dropout) and module.p > 0 for module in network.modules())
