"""Compute the cost of training a model: FLOPs, and memory by part. The model may be on torch's meta device.

Memory follows torch's autocast: weights, gradients and moments in fp32 (16 bytes per weight under AdamW), and bf16
copies of the matrices during a micro-batch. Rajbhandari et al., ZeRO, 2020, figure 1, shows which parts each engine
shards.
"""

from dataclasses import dataclass
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
from llmkit.training.engines import RESHARDS
from llmkit.training.optimizer import checkpoint_bytes, count_parameters
from llmkit.training.speed import flops_per_token

FP32, BF16 = 4, 2
SCORED_LOGIT_BYTES = 14
"""Bytes per logit when scoring held-out text, with copies and log-softmax; 13 to 16 were measured (docs/log.md)."""


@dataclass(frozen=True, slots=True)
class ModelCost:
    """Cost of training a model, independent of the machine."""

    n_parameters: int
    n_trainable: int
    n_multiplied: int
    """Number of weights in matrix products, which autocast copies."""
    n_embedded: int
    """Number of weights of the embedding, the largest single part."""
    n_layers: int
    moment_bytes: int
    flops_per_token: float
    """FLOPs of forward and backward pass."""
    activation_bytes: int
    """Bytes per token."""
    logit_bytes: int
    """Bytes per token."""
    max_logit_bytes: int | None
    """Maximum bytes of all logits, if the loss is computed in chunks."""
    evaluation_bytes: int
    """Bytes of the logits of one evaluation batch."""
    block_size: int
    global_batch_size: int
    passes: float = 1.0
    """Computed FLOPs over model FLOPs: 4/3 with gradient checkpointing."""

    @property
    def tokens_per_step(self) -> int:
        return self.global_batch_size * self.block_size

    @property
    def bytes_per_token(self) -> int:
        """Return the memory of a micro-batch per token."""
        return self.activation_bytes + (self.logit_bytes if self.max_logit_bytes is None else 0)


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes on one device."""

    weights: int
    gradients: int
    optimizer: int
    working_copies: int
    """bf16 copies of matrices, and gathered layers."""
    activations: int
    logits: int
    evaluation: int
    """Bytes that evaluation needs in addition to training."""
    framework: int
    """Memory of the libraries before the model is built."""

    @property
    def state(self) -> int:
        """Return the bytes that stay in memory between micro-batches."""
        return self.weights + self.gradients + self.optimizer + self.working_copies

    @property
    def peak(self) -> int:
        """Return the sum of all parts, which are all in use after the first micro-batch of a step."""
        return self.state + self.activations + self.logits + self.evaluation + self.framework


def measure_model_cost(
    network: PreTrainedModel, recipe: Recipe, task: MeasuredTask, *, bf16: bool, on_cpu: bool
) -> ModelCost:
    """Return memory and FLOPs of the model and its training, for sequences of full length."""
    config: Any = network.config
    output_fraction = task.output_fraction
    train, optim = recipe.train, recipe.optim
    n_parameters = count_parameters(network.parameters())
    n_layers, width, rows = config.num_hidden_layers, config.hidden_size, embedding_rows(network)
    logit_bytes, max_logit_bytes = count_logit_bytes(rows, output_fraction), None
    if trains_with_chunked_loss(config, rows, on_cpu=on_cpu):
        logit_bytes, max_logit_bytes = count_loss_bytes(rows, bf16=bf16)
    has_dropout = any(isinstance(module, nn.Dropout) and module.p > 0 for module in network.modules())
    count_kept = partial(
        count_activation_bytes, family_of(config), width=width, bf16=bf16, dropout=has_dropout, on_cpu=on_cpu
    )
    recomputes = train.gradient_checkpointing
    return ModelCost(
        n_parameters=n_parameters,
        n_trainable=count_parameters(weight for weight in network.parameters() if weight.requires_grad),
        n_multiplied=_count_multiplied(network),
        n_embedded=count_parameters(network.get_input_embeddings().parameters()),
        n_layers=n_layers,
        moment_bytes=checkpoint_bytes(network, optim) - 4 * n_parameters,
        flops_per_token=flops_per_token(network, recipe.block_size, output_fraction),
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


def estimate_memory(
    cost: ModelCost, engine: str, n_gpus: int, micro_batch_size: int, *, bf16: bool, framework: int = 0
) -> Memory:
    """Return the bytes of each part on one of `n_gpus` devices."""
    n_shards = n_gpus if engine in RESHARDS else 1
    gathered, multiplied = 0, cost.n_multiplied
    shards_weights = n_shards > 1 and RESHARDS[engine]
    if shards_weights:  # the embedding, the current layer and the next one
        gathered = min(cost.n_parameters, cost.n_embedded + 2 * (cost.n_parameters - cost.n_embedded) // cost.n_layers)
        multiplied = min(multiplied, gathered)
    tokens = micro_batch_size * cost.block_size
    logits = tokens * cost.logit_bytes
    if cost.max_logit_bytes is not None:
        logits = min(logits, cost.max_logit_bytes)
    activations = tokens * cost.activation_bytes
    copies = FP32 * gathered + (BF16 * multiplied if bf16 else 0)
    gradients = FP32 * cost.n_trainable // n_shards
    return Memory(
        weights=FP32 * cost.n_parameters // (n_shards if shards_weights else 1),
        gradients=gradients,
        optimizer=cost.moment_bytes // n_shards,
        working_copies=copies,
        activations=activations,
        logits=logits,
        evaluation=max(0, cost.evaluation_bytes - (gradients + copies + activations + logits)),  # free in an evaluation
        framework=framework,
    )


def _count_multiplied(network: PreTrainedModel) -> int:
    """Return the number of weights in matrix products; an output layer counts even if it is tied to an embedding."""
    tables = {id(module.weight) for module in network.modules() if isinstance(module, nn.Embedding)}
    output: Any = network.get_output_embeddings()
    tables -= {id(output.weight)} if output is not None else set()
    return count_parameters(weight for weight in network.parameters() if weight.ndim >= 2 and id(weight) not in tables)
