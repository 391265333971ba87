"""Encoder layers without padding: the tokens of a batch are packed into one sequence between embeddings and head.

Attention stays within each original sequence (Zeng et al. 2022, "Boosting distributed training performance of the
unpadded BERT model"). BERT's embeddings and all heads receive the padded batch, so any head works. ModernBERT has
rotary positions and is packed before its embeddings. Without a kernel for variable-length attention, the batch keeps
its padding and its mask.
"""

import inspect
from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel

from llmkit.core import console
from llmkit.models.kernels.patches import SDPA, Undo, attention_fp32, check_attention, set_attention

PADDING_FREE = "llmkit_padding_free"
LAYER_TYPES = ("full_attention", "sliding_attention")
"""ModernBERT's names for layers with global attention and with sliding-window attention."""
TEST_WINDOW = 2
"""Window of the kernel's test, in tokens; shorter than the test's sequences."""

CallArguments = tuple[tuple[Any, ...], dict[str, Any]]
"""Positional and keyword arguments of a module call."""


class Layout(NamedTuple):
    """Original positions of the packed tokens; passed through the layers in place of the attention mask."""

    indices: Tensor
    """(tokens,): index of each packed token in the flattened batch; sequences are sorted by length."""
    cu_seqlens: Tensor
    """(sequences + 1,), int32: cumulative sequence lengths, starting with 0."""
    shape: tuple[int, int]
    """(sequences, tokens) of the padded batch."""
    groups: Sequence[tuple[int, int]]
    """CPU only: (number of sequences, length) of consecutive sequences of equal length, computed in one call."""


def can_unpad(model: PreTrainedModel, device: torch.device) -> bool:
    """Whether the model is an encoder with SDPA attention that llmkit can compute without padding on this device."""
    config: Any = model.config
    if getattr(config, "is_decoder", False) or config._attn_implementation not in (SDPA, PADDING_FREE):
        return False
    if getattr(config, "chunk_size_feed_forward", 0):  # feed-forward layers would chunk the padded batch
        return False
    width, window = config.hidden_size // config.num_attention_heads, getattr(config, "sliding_window", None)
    return device.type == "cpu" or varlen_attention_works(device, width, window)


def unpad(model: PreTrainedModel) -> Sequence[Undo]:
    """Make the layers run on packed tokens, in place; returns the changes to undo.

    Hidden states between layers stay packed.
    """
    undo = set_attention(model, PADDING_FREE, _attention_forward, _padding_mask)
    has_own_layers = _has_own_layers(model)
    body = model.base_model if has_own_layers else model.base_model.get_submodule("encoder")
    undo.append(body.register_forward_pre_hook(_pack_ids if has_own_layers else _pack_hidden_states, with_kwargs=True))
    undo.append(body.register_forward_hook(_unpack, with_kwargs=True))
    return undo


def check_padding_free(model: PreTrainedModel) -> str | None:
    """Return the requirement for unpadding that the model does not meet, or None.

    The layers of the model must pass on masks and keyword arguments.
    """
    if fault := check_attention(model):
        return fault
    base = model.base_model
    if _has_own_layers(model):
        if fault := _missing_argument(base, "input_ids", "attention_mask", "position_ids"):
            return fault
        if not set(getattr(model.config, "layer_types", None) or ()) <= set(LAYER_TYPES):
            return f"{type(base).__name__} has layers of other types than {' and '.join(LAYER_TYPES)}"
        if any(not hasattr(layer, "attention_type") for layer in base.get_submodule("layers").children()):
            return f"layers of {type(base).__name__} have no attention_type"
        return None
    encoder = getattr(base, "encoder", None)
    if not isinstance(getattr(encoder, "layer", None), nn.ModuleList):
        return f"{type(base).__name__} has no list of layers encoder.layer"
    assert isinstance(encoder, nn.Module)
    each_part = (encoder, *encoder.get_submodule("layer").children())
    faults = (_missing_argument(part, "hidden_states", "attention_mask") for part in each_part)
    return next(filter(None, faults), None)


def _missing_argument(module: nn.Module, *names: str) -> str | None:
    """Return a message if the module's forward lacks one of the parameters `names` or **kwargs, else None."""
    parameters = inspect.signature(type(module).forward).parameters
    missing = [name for name in names if name not in parameters]
    if not any(each.kind is each.VAR_KEYWORD for each in parameters.values()):
        missing.append("**kwargs")
    return f"{type(module).__name__}.forward takes no {missing[0]}" if missing else None


def _has_own_layers(model: PreTrainedModel) -> bool:
    """Whether the base model runs its layers without a separate encoder module (ModernBERT)."""
    return isinstance(getattr(model.base_model, "layers", None), nn.ModuleList)


def find_token_indices(mask: Tensor) -> Tensor:
    """Return `Layout.indices` for a mask (sequences, tokens). The data loader computes them."""
    order = mask.sum(1).argsort(stable=True)
    columns = torch.arange(mask.shape[1], device=mask.device)
    return (order[:, None] * mask.shape[1] + columns)[mask[order].bool()]


def has_token_types(config: PreTrainedConfig) -> bool:
    """Whether the model has embeddings of token types; Funnel and XLNet have them in their attention."""
    return getattr(config, "type_vocab_size", 0) > 0 or config.model_type in ("funnel", "xlnet")


def encoder_inputs(model: nn.Module, batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of a batch that the model's forward accepts; token types only if the model has them."""
    config: Any = cast(PreTrainedModel, model).config
    names = ["input_ids", "attention_mask"]
    names += ["token_type_ids"] if has_token_types(config) else []
    names += ["token_indices"] if config._attn_implementation == PADDING_FREE else []
    return {name: batch[name] for name in names if name in batch}


def _pack_hidden_states(encoder: nn.Module, inputs: tuple[Any, ...], kwargs: dict[str, Any]) -> CallArguments | None:
    """Pack hidden states: forward pre-hook of an encoder module that receives them."""
    indices, mask = kwargs.pop("token_indices", None), kwargs.get("attention_mask")
    if mask is None or mask.ndim != 2:  # no padding, or the caller's own mask
        return inputs, kwargs
    if not _can_pack(encoder, mask.device):
        return inputs, kwargs | {"attention_mask": mask[:, None, None]}
    layout = _make_layout(mask, indices)
    packed = inputs[0].flatten(0, 1).index_select(0, layout.indices)
    return (packed[None], *inputs[1:]), kwargs | {"attention_mask": layout}


def _pack_ids(body: nn.Module, inputs: tuple[Any, ...], kwargs: dict[str, Any]) -> CallArguments | None:
    """Pack token ids with their positions in the sequences: forward pre-hook of a model that receives token ids."""
    indices, mask, ids = kwargs.pop("token_indices", None), kwargs.get("attention_mask"), kwargs.get("input_ids")
    if not isinstance(mask, Tensor) or mask.ndim != 2:
        return inputs, kwargs
    has_default_inputs = not inputs and kwargs.get("position_ids") is None
    if (
        ids is None
        or not has_default_inputs
        or not _can_pack(body, mask.device)
        or (indices is None and _has_gaps(mask))
    ):
        mask = mask[:, None, None].bool()
        return inputs, kwargs | {"attention_mask": dict.fromkeys(LAYER_TYPES, mask)}
    layout = _make_layout(mask, indices)
    extra = {"input_ids": ids.flatten()[layout.indices][None], "position_ids": (layout.indices % mask.shape[1])[None]}
    return inputs, kwargs | extra | {"attention_mask": dict.fromkeys(LAYER_TYPES, layout)}


def _has_gaps(mask: Tensor) -> bool:
    """Whether there is padding between tokens; packing would then change the distances between tokens."""
    begins = F.pad(mask.int(), (1, 0)).diff(dim=1) > 0
    return bool((begins.sum(1) > 1).any())


def _make_layout(mask: Tensor, indices: Tensor | None) -> Layout:
    lengths = mask.sum(1).sort().values
    cu_seqlens = F.pad(lengths.cumsum(0), (1, 0)).int()
    shape = (mask.shape[0], mask.shape[1])
    return Layout(
        find_token_indices(mask) if indices is None else indices, cu_seqlens, shape, _group_by_length(lengths)
    )


def _unpack(_: nn.Module, inputs: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
    layout = kwargs.get("attention_mask")
    if isinstance(layout, dict):
        layout = layout[LAYER_TYPES[0]]
    if isinstance(layout, Layout):
        packed = output[0][0]
        padded = packed.new_zeros(layout.shape[0] * layout.shape[1], packed.shape[1])
        padded = padded.index_copy(0, layout.indices, packed).unflatten(0, layout.shape)
        if isinstance(output, tuple):
            return (padded, *output[1:])
        output.last_hidden_state = padded
    return output


def _group_by_length(lengths: Tensor) -> list[tuple[int, int]]:
    if lengths.device.type != "cpu":
        return []
    sizes, counts = lengths.unique_consecutive(return_counts=True)
    return list(zip(counts.tolist(), sizes.tolist(), strict=True))


def _can_pack(body: nn.Module, device: torch.device) -> bool:
    """Whether this call can be packed.

    On a CPU torch.compile would retrace per batch. The GPU kernel needs bf16 and has no dropout.
    """
    if device.type == "cpu":
        return not torch.compiler.is_compiling()
    config: Any = body.config
    rate = getattr(config, "attention_probs_dropout_prob", getattr(config, "attention_dropout", 0))
    return torch.is_autocast_enabled(device.type) and not (body.training and rate > 0)  # llmkit's autocast is in bf16


@cache
def varlen_attention_works(device: torch.device, width: int, window: int | None = None) -> bool:
    """Whether variable-length attention agrees with SDPA, forward and backward, for heads of this width.

    With a `window`, a sliding window is tested too. The test runs once per process.
    """
    from torch.nn.attention.varlen import varlen_attn

    max_distance = None if window is None else TEST_WINDOW
    lengths = (3, 17)
    generator = torch.Generator(device).manual_seed(0)  # does not change the random state of training
    inputs = torch.randn(3, sum(lengths), 2, width, device=device, dtype=torch.bfloat16, generator=generator)
    cu_seqlens = torch.tensor([0, *lengths], device=device).cumsum(0).int()
    found: list[Tensor] = []
    try:
        with torch.enable_grad(), torch.autocast(device.type, enabled=False):
            for kernel in (True, False):
                query, key, value = rows = [each.clone().requires_grad_() for each in inputs]
                if kernel:
                    ends, size = (cu_seqlens, cu_seqlens, max(lengths), max(lengths)), _window_size(max_distance)
                    attended = cast(Tensor, varlen_attn(query, key, value, *ends, window_size=size))
                else:
                    cut = [[part.transpose(0, 1) for part in each.split(lengths)] for each in rows]
                    parts = []
                    for q, k, v in zip(*cut, strict=True):
                        band = None if max_distance is None else _sliding_window_mask(q, max_distance)
                        parts.append(F.scaled_dot_product_attention(q, k, v, band))
                    attended = torch.cat([part.transpose(0, 1) for part in parts])
                attended.float().square().sum().backward()
                found.append(torch.stack([attended, *(cast(Tensor, each.grad) for each in rows)]).detach().float())
    except (RuntimeError, NotImplementedError) as error:
        what = f"{device} has no variable-length attention for heads of width {width}"
        console.info(f"batches stay padded: {what} ({type(error).__name__})")
        return False
    agrees = torch.allclose(found[0], found[1], rtol=0.05, atol=0.05)
    if not agrees:
        console.info(f"batches stay padded: variable-length attention of {device} gives wrong results")
    return agrees


def _padding_mask(*, attention_mask: Tensor | None = None, **_: Any) -> Tensor | None:
    """Return the padding mask (sequences, tokens) unchanged; transformers calls this to build the layers' mask."""
    return attention_mask


def _attention_forward(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Layout | Tensor | None, *,
    dropout: float = 0.0, scaling: float | None = None, sliding_window: int | None = None, **_: Any,
) -> tuple[Tensor, None]:  # fmt: skip
    """Compute attention over padded (sequences, heads, tokens, width) or packed (1, heads, tokens, width) inputs.

    The result has tokens before heads. With a `sliding_window`, tokens attend only to tokens that are fewer than
    `sliding_window` positions away.
    """
    max_distance = None if sliding_window is None else sliding_window - 1

    def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        if isinstance(attention_mask, Layout):
            return _packed_attention(query, key, value, attention_mask, dropout, scaling, max_distance)
        mask = attention_mask
        if mask is not None and mask.ndim == 2:
            mask = mask[:, None, None].bool()
        if max_distance is not None and (band := _sliding_window_mask(query, max_distance)) is not None:
            mask = band if mask is None else mask & band
        attended = F.scaled_dot_product_attention(query, key, value, mask, dropout, scale=scaling)
        return attended.transpose(1, 2)

    return attention_fp32(attend, query, key, value), None


def _sliding_window_mask(query: Tensor, max_distance: int) -> Tensor | None:
    """Return (tokens, tokens): whether two tokens are at most `max_distance` apart; None if all are."""
    n_tokens = query.shape[-2]
    if n_tokens <= max_distance + 1:
        return None
    indices = torch.arange(n_tokens, device=query.device)
    return (indices[:, None] - indices).abs() <= max_distance


def _window_size(max_distance: int | None) -> tuple[int, int]:
    """Return torch's window size: tokens to the left and to the right; -1 means unlimited."""
    return (-1, -1) if max_distance is None else (max_distance, max_distance)


def _packed_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    layout: Layout,
    dropout: float,
    scaling: float | None,
    max_distance: int | None,
) -> Tensor:
    query, key, value = (each[0].transpose(0, 1) for each in (query, key, value))
    if not layout.groups:
        from torch.nn.attention.varlen import varlen_attn  # imported here as it takes 25 ms, and only GPUs need it

        cu_seqlens, max_seqlen = layout.cu_seqlens, layout.shape[1]
        extra: dict[str, Any] = {"scale": scaling, "window_size": _window_size(max_distance)}
        packed = varlen_attn(query, key, value, cu_seqlens, cu_seqlens, max_seqlen, max_seqlen, **extra)
        return cast(Tensor, packed)[None]
    sizes = [n * length for n, length in layout.groups]
    attended = []
    for group, *alike in zip(layout.groups, query.split(sizes), key.split(sizes), value.split(sizes), strict=True):
        q, k, v = (each.unflatten(0, group).transpose(1, 2) for each in alike)
        band = None if max_distance is None else _sliding_window_mask(q, max_distance)
        part = F.scaled_dot_product_attention(q, k, v, band, dropout_p=dropout, scale=scaling)
        attended.append(part.transpose(1, 2).flatten(0, 1))
    return torch.cat(attended)[None]
