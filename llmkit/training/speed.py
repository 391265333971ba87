"""Choose precision and number of threads for this machine; compute its peak FLOP/s and a model's FLOPs per token.

MFU is model FLOPs over peak FLOPs. For GPUs in core/hardware.yaml the peak comes from the data sheet; otherwise it is
measured here with matrix products of typical shapes.
"""

import math
import platform
import time
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from typing import Any

import torch
from threadpoolctl import ThreadpoolController
from torch import nn
from transformers import PreTrainedModel

from llmkit.core.devices import synchronize
from llmkit.core.errors import UsageError
from llmkit.core.hardware import find_device
from llmkit.core.machine import VARIABLES, thread_count
from llmkit.models.families import encoder_heads, is_recurrent
from llmkit.models.kernels.output_layer import AdaptiveSoftmax

FIRST_WITH_TF32 = (8, 0)
"""CUDA compute capability of Ampere, the first GPUs with TF32."""
MIN_BF16_GAIN = 1.3
"""Minimum speedup of matrix products by bf16; below it, casts cost more than the products gain."""
TRIAL_SECONDS = 0.15
"""Seconds per precision; two precisions are compared before the first step."""
TRIAL_SHAPES = ((64, 128, 256), (256, 256, 512), (1024, 512, 2048))
"""Rows, inner size and columns of the timed products; a larger one is skipped if the time left is too short."""
PRODUCTS_PER_SHAPE = 4
MIN_THREADS_GAIN = 1.2
THREADS_TRIALS, THREADS_TRIAL_PAUSE = 3, 0.5
THREADS_TRIAL_SECONDS = 0.1
"""Seconds per number of threads; up to four numbers are tried."""


def choose_precision(wanted: str, device: torch.device) -> tuple[str, str]:
    """Return `bf16`, `tf32` or `fp32`, and the reason in words.

    Only CPUs with bf16 instructions and Apple GPUs are timed, for at most 0.3 s.

    Raises:
        UsageError: the device has no TF32.
    """
    if wanted == "tf32" and (device.type != "cuda" or torch.cuda.get_device_capability(device) < FIRST_WITH_TF32):
        hint = "set train.precision to auto"
        raise UsageError(f"the device, {device.type}, has no tf32", where="train.precision", hint=hint)
    if wanted == "bf16" and device.type == "cpu" and not has_bf16_instructions():
        return wanted, "set in the recipe, but this CPU has no bf16 instructions; train.precision=auto is faster"
    if wanted != "auto":
        return wanted, "set in the recipe"
    if device.type == "cuda":
        fit = torch.cuda.is_bf16_supported(including_emulation=False)
        return ("bf16", "the GPU has bf16") if fit else ("fp32", "the GPU has no bf16")
    if device.type == "cpu" and not has_bf16_instructions():
        return "fp32", "this CPU has no bf16 instructions"
    bf16, fp32 = (measure_matmul(dtype, device) for dtype in (torch.bfloat16, torch.float32))
    if bf16 >= MIN_BF16_GAIN * fp32:
        return "bf16", f"matrix products in bf16 are {bf16 / fp32:.1f} times as fast as in fp32 here"
    return "fp32", f"matrix products in bf16 reach {bf16 / fp32:.0%} of the speed of fp32 here"


def has_bf16_instructions() -> bool:
    """Whether torch multiplies bf16 matrices with bf16 instructions on this CPU.

    On x86 they are part of AVX-512 and AMX; a process limited to AVX2 (ATEN_CPU_CAPABILITY) does not use them.
    """
    is_x86 = platform.machine().lower() in ("x86_64", "amd64")
    if is_x86 and torch.backends.cpu.get_cpu_capability() in ("DEFAULT", "NO AVX", "AVX2"):
        return False
    return any(present and "bf16" in name for name, present in torch.cpu.get_capabilities().items())


def choose_threads(device: torch.device, n_threads: int) -> str | None:
    """Reduce torch's `n_threads` for training on a CPU if fewer are faster; returns the reason, or None if unchanged.

    A step has hundreds of short parallel regions, each of which waits for its slowest thread. If another process keeps
    a core busy, all threads together can be slower than one. The number is only reduced if three trials within two
    seconds agree, so that a short burst of load does not count. A number that the user has set is kept.
    """
    if device.type != "cpu" or n_threads == 1 or thread_count().source in VARIABLES:
        return None
    best, gain = n_threads, 1.0
    for attempt in range(THREADS_TRIALS):
        time.sleep(THREADS_TRIAL_PAUSE if attempt else 0.0)
        rates = {n: _measure_regions(n) for n in dict.fromkeys((n_threads, n_threads - 1, max(1, n_threads // 2), 1))}
        best = max(rates, key=lambda n: rates[n])
        gain = rates[best] / rates[n_threads]
        if gain < MIN_THREADS_GAIN:
            return None
    set_threads(best)
    threads = "1 thread is" if best == 1 else f"{best} threads are"
    return f"another process uses the CPU: {threads} {gain:.1f} times as fast as {n_threads}"


def _measure_regions(n_threads: int) -> float:
    """Return how many short parallel regions, like those in a step of a small model, run per second."""
    a, b = torch.ones(768, 128), torch.ones(128, 512)
    with _limit_threads(n_threads):
        torch.nn.functional.gelu(a @ b)
        n_done, started = 0, time.perf_counter()
        while (seconds := time.perf_counter() - started) < THREADS_TRIAL_SECONDS:
            torch.nn.functional.gelu(a @ b)
            n_done += 1
        return n_done / seconds


def autocast(precision: str, device: torch.device) -> AbstractContextManager[object]:
    """Return the context in which the forward pass runs."""
    return torch.autocast(device.type, torch.bfloat16) if precision == "bf16" else nullcontext()


def peak_flops(precision: str, device: torch.device) -> float:
    """Return the peak FLOP/s of matrix products in this precision."""
    if device.type == "cuda":
        known = find_device(torch.cuda.get_device_name(device))
        if known is not None and precision in known.flops:
            return known.flops[precision]
    return measure_matmul(torch.bfloat16 if precision == "bf16" else torch.float32, device)


def measure_matmul(dtype: torch.dtype, device: torch.device) -> float:
    """Return the best FLOP/s of matrix products of typical shapes, with torch's current number of threads.

    The products are timed once per process. Small products come first. A larger product is skipped if it would exceed
    `TRIAL_SECONDS`, so that a precision that the machine emulates does not take minutes. On a CPU, one thread is timed,
    and the result is multiplied by the number of threads: if another process is running, several threads would mostly
    wait for each other.
    """
    rate = _measure_rate(dtype, device)
    return rate * torch.get_num_threads() if device.type == "cpu" else rate


@cache
def _measure_rate(dtype: torch.dtype, device: torch.device) -> float:
    """Return the best FLOP/s of the device; on a CPU, of one thread, as the number of threads may change later."""
    with _limit_threads(1) if device.type == "cpu" else nullcontext():
        return _measure_matmul(dtype, device)


def set_threads(n_threads: int) -> None:
    """Call torch.set_num_threads only if the number changes: the call has a cost, see `_limit_threads`."""
    if n_threads != torch.get_num_threads():
        torch.set_num_threads(n_threads)


def _limit_threads(n_threads: int) -> AbstractContextManager[object]:
    """Use fewer threads within a block.

    torch.set_num_threads would make all later steps of a small model 4 to 8 % slower, even without changing the number
    (docs/log.md).
    """
    limited: AbstractContextManager[object] = _thread_pools().limit(limits=n_threads, user_api="openmp")
    return limited


_thread_pools = cache(ThreadpoolController)


def _measure_matmul(dtype: torch.dtype, device: torch.device) -> float:
    _time_product(TRIAL_SHAPES[0], dtype, device)  # a warmup, which starts threads and libraries
    deadline = time.perf_counter() + TRIAL_SECONDS
    rate = 0.0
    for shape in TRIAL_SHAPES:
        flops = 2.0 * math.prod(shape)
        best = math.inf
        for _ in range(PRODUCTS_PER_SHAPE):
            expected = min(best, flops / rate if rate else 0.0)
            if time.perf_counter() + expected > deadline:
                break
            best = min(best, _time_product(shape, dtype, device))
        rate = max(rate, flops / best)
    return rate


def _time_product(shape: tuple[int, int, int], dtype: torch.dtype, device: torch.device) -> float:
    rows, inner, columns = shape
    a, b = torch.ones(rows, inner, dtype=dtype, device=device), torch.ones(inner, columns, dtype=dtype, device=device)
    start = time.perf_counter()
    a @ b
    synchronize(device)
    return time.perf_counter() - start


def flops_per_token(model: PreTrainedModel, sequence_length: float, output_fraction: float = 1.0) -> float:
    """Return the FLOPs of forward and backward pass: 6 N + 12 L d T (Chowdhery et al., PaLM, 2022, appendix B).

    N counts all weights of matrix products, including a tied output layer but not embedding lookups. `output_fraction`
    is the fraction of tokens in the vocabulary head; heads that read one token per sequence are not counted.
    """
    config = model.config
    tables = {id(module.weight): module.weight for module in model.modules() if isinstance(module, nn.Embedding)}
    output: Any = model.get_output_embeddings()
    shares: dict[int, float] = {}
    if heads := encoder_heads(config):
        for name, weight in model.named_parameters():
            if name.startswith(heads.token_head):
                shares[id(weight)] = output_fraction
            elif name.startswith(heads.once_per_sequence):
                shares[id(weight)] = 0.0
    if isinstance(output, AdaptiveSoftmax):  # most words are in its first class
        output_fraction *= output.bounds[1] / output.bounds[-1]
    if output is not None:
        shares[id(output.weight)] = output_fraction
    n_matmul = sum(
        weight.numel() * shares.get(id(weight), 0.0 if id(weight) in tables else 1.0)
        for weight in model.parameters()
        if weight.ndim >= 2
    )
    attention = 0.0 if is_recurrent(config) else 12.0 * config.hidden_size * _attended_tokens(config, sequence_length)
    return float(6 * n_matmul + attention)


def _attended_tokens(config: Any, sequence_length: float) -> float:
    """Return the number of tokens that one token attends to, summed over layers; local layers count their window."""
    layer_types = getattr(config, "layer_types", None)
    if encoder_heads(config) is None or layer_types is None:
        return float(config.num_hidden_layers * sequence_length)
    near = min(sequence_length, 2 * config.sliding_window + 1)
    return float(sum(near if layer_type == "sliding_attention" else sequence_length for layer_type in layer_types))
