"""What a model asks of any machine, read off the model itself: real, or a shadow on torch's meta device."""

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
from llmkit.training.optimizer import count_weights, forecast_bytes
from llmkit.training.speed import flops_per_token

SCORED_LOGIT_BYTES = 14
"""While held-out text is scored, copies and log-softmax included; 13 to 16 were seen (docs/log.md)."""


def measure_model_cost(
    network: PreTrainedModel, recipe: Recipe, task: MeasuredTask, *, bf16: bool, on_cpu: bool
) -> ModelCost:
    """All sequences are taken as full."""
    config: Any = network.config
    output_share = task.output_share
    train, optim = recipe.train, recipe.optim
    n_weights = count_weights(network.parameters())
    n_layers, width, rows = config.num_hidden_layers, config.hidden_size, embedding_rows(network)
    logit_bytes, most = count_logit_bytes(rows, output_share), None
    if trains_with_chunked_loss(config, rows, on_cpu=on_cpu):
        logit_bytes, most = count_loss_bytes(rows, bf16=bf16)
    kept = partial(
        count_activation_bytes, family_of(config), width=width, bf16=bf16, dropout=_has_dropout(network), on_cpu=on_cpu
    )
    again = train.gradient_checkpointing
    return ModelCost(
        n_weights=n_weights,
        n_trained=count_weights(weight for weight in network.parameters() if weight.requires_grad),
        n_multiplied=_count_multiplied(network),
        n_embedded=count_weights(network.get_input_embeddings().parameters()),
        n_layers=n_layers,
        moment_bytes=forecast_bytes(network, optim) - 4 * n_weights,
        flops_per_token=flops_per_token(network, recipe.block_size, output_share),
        # Computed again, all that is kept is what goes into each layer, in fp32, and the layer at work.
        activation_bytes=FP32 * n_layers * width + kept(n_layers=1) if again else kept(n_layers=n_layers),
        passes=4 / 3 if again else 1.0,
        logit_bytes=logit_bytes,
        max_logit_bytes=most,
        evaluation_bytes=round(SCORED_LOGIT_BYTES * task.count_scored_logits(network)),
        block_size=recipe.block_size,
        global_batch_size=train.global_batch_size,
    )


def _count_multiplied(network: PreTrainedModel) -> int:
    """Weights of matrix products, the output layer included even where it is an embedding as well."""
    tables = {id(module.weight) for module in network.modules() if isinstance(module, nn.Embedding)}
    output: Any = network.get_output_embeddings()
    tables -= {id(output.weight)} if output is not None else set()
    return count_weights(weight for weight in network.parameters() if weight.ndim >= 2 and id(weight) not in tables)


def _has_dropout(network: PreTrainedModel) -> bool:
    return any(isinstance(module, nn.Dropout) and module.p > 0 for module in network.modules())
