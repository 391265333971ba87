"""What this machine can do: which precision gains, how fast it multiplies, how much work a token is.

MFU is model FLOPs over what the machine's matrix products reach: the data sheet's for GPUs that runs/hardware.yaml
knows, otherwise measured here by one product of a usual shape.
"""

import time
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from llmkit.errors import UsageError
from llmkit.models.families import is_recurrent
from llmkit.models.output_layer import AdaptiveSoftmax
from llmkit.runs.hardware import find_device

ONCE_A_SEQUENCE = ("bert.pooler", "cls.seq_relationship")

FIRST_WITH_TF32 = (8, 0)
"""CUDA's compute capability of Ampere."""
GAIN_WORTH_BF16 = 1.3
"""Below this, casting weights and activations eats what the products gain."""


def choose_precision(wanted: str, device: torch.device) -> tuple[str, str]:
    """`bf16`, `tf32` or `fp32`, and why, in words for the log.

    Raises:
        UsageError: the device has no TF32.
    """
    if wanted == "tf32" and (device.type != "cuda" or torch.cuda.get_device_capability(device) < FIRST_WITH_TF32):
        hint = "set train.precision to auto"
        raise UsageError(f"{device.type} here has no tf32", where="train.precision", hint=hint)
    if wanted != "auto":
        return wanted, "as the recipe says"
    if device.type == "cuda":
        fit = torch.cuda.is_bf16_supported(including_emulation=False)
        return ("bf16", "the GPU has it") if fit else ("fp32", "the GPU has no bf16")
    gain = measure_matmul(torch.bfloat16, device) / measure_matmul(torch.float32, device)
    return "bf16" if gain >= GAIN_WORTH_BF16 else "fp32", f"bf16 products run at {gain:.1f} times fp32's rate here"


def autocast(precision: str, device: torch.device) -> AbstractContextManager[object]:
    """The context in which the forward pass runs."""
    return torch.autocast(device.type, torch.bfloat16) if precision == "bf16" else nullcontext()


def peak_flops(precision: str, device: torch.device) -> float:
    """FLOP/s that matrix products reach in this precision."""
    if device.type == "cuda":
        known = find_device(torch.cuda.get_device_name(device))
        if known is not None and precision in known.flops:
            return known.flops[precision]
    return measure_matmul(torch.bfloat16 if precision == "bf16" else torch.float32, device)


@cache
def measure_matmul(dtype: torch.dtype, device: torch.device) -> float:
    """FLOP/s of a (1024, 512) x (512, 2048) product, the best of four; measured once a process."""
    a = torch.ones(1024, 512, dtype=dtype, device=device)
    b = torch.ones(512, 2048, dtype=dtype, device=device)
    best = float("inf")
    for _ in range(4):
        start = time.perf_counter()
        a @ b
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        best = min(best, time.perf_counter() - start)
    return 2 * 1024 * 512 * 2048 / best


def flops_a_token(model: PreTrainedModel, sequence_length: float, output_share: float = 1.0) -> float:
    """Forward and backward: 6 N + 12 L d T (Chowdhery et al., PaLM, 2022, appendix B).

    N counts every weight that is multiplied, the output layer included even where it is tied; looking an embedding up
    costs nothing. `output_share` of the tokens go through the head over the vocabulary; what reads one token of each
    sequence, a pooler or a head for pairs, is left out.
    """
    config = model.config
    tables = {id(module.weight): module.weight for module in model.modules() if isinstance(module, nn.Embedding)}
    output: Any = model.get_output_embeddings()
    shares = {id(weight): output_share for name, weight in model.named_parameters() if ".predictions." in name}
    shares |= {id(weight): 0.0 for name, weight in model.named_parameters() if name.startswith(ONCE_A_SEQUENCE)}
    if isinstance(output, AdaptiveSoftmax):  # most words are in its first class
        output_share *= output.bounds[1] / output.bounds[-1]
    if output is not None:
        shares[id(output.weight)] = output_share
    n_matmul = sum(
        weight.numel() * shares.get(id(weight), 0.0 if id(weight) in tables else 1.0)
        for weight in model.parameters()
        if weight.ndim >= 2
    )
    attention = 0.0 if is_recurrent(config) else 12.0 * config.num_hidden_layers * config.hidden_size * sequence_length
    return float(6 * n_matmul + attention)
