"""Encoders that read no padding: between embeddings and head all real tokens of a batch stand in one row, and attention
keeps to each sequence (Zeng et al. 2022, "Boosting distributed training performance of the unpadded BERT model").

Heads see the batch as it is, so any head works; so do BERT's embeddings. ModernBERT, whose positions are rotations
inside of attention, reads the row from its ids on. Where the kernel for sequences of several lengths cannot be had, the
batch stays padded, behind a mask.
"""

import inspect
from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel

from llmkit.core import console
from llmkit.models.kernels.attention import USUAL, attention_fp32, check_attention, set_attention
from llmkit.models.kernels.modules import Undo

PADDING_FREE = "llmkit_padding_free"
LAYER_KINDS = ("full_attention", "sliding_attention")
"""What ModernBERT calls its layers that attend to all tokens, and those that attend to near ones."""
NEAR_IN_TRIAL = 2
"""How far apart tokens may be where the kernel is tried: less than the trial's sequences are long."""

Call = tuple[tuple[Any, ...], dict[str, Any]]
"""The arguments that a module is called with: by place and by name."""


class Layout(NamedTuple):
    """Where the tokens in the row come from. Takes the place of the mask on the way through the layers."""

    places: Tensor
    """(tokens,): in the flattened batch; the shortest sequence comes first."""
    ends: Tensor
    """(sequences + 1,), int32: 0, and where each sequence ends in the row."""
    shape: tuple[int, int]
    """Of the padded batch."""
    runs: Sequence[tuple[int, int]]
    """How many sequences of which length follow each other; on a CPU, where each run goes through usual attention."""


def can_unpad(model: PreTrainedModel, device: torch.device) -> bool:
    """Whether the model's layers could read what is not padding: no decoders, no models that attend in another way than
    torch's, no GPU without the kernel."""
    config: Any = model.config
    if getattr(config, "is_decoder", False) or config._attn_implementation not in (USUAL, PADDING_FREE):
        return False
    if getattr(config, "chunk_size_feed_forward", 0):  # of the batch's tokens, padding among them
        return False
    width, window = config.hidden_size // config.num_attention_heads, getattr(config, "sliding_window", None)
    return device.type == "cpu" or kernel_agrees(device, width, window)


def unpad(model: PreTrainedModel) -> Sequence[Undo]:
    """Let the layers read what is not padding, in place; nothing of it is saved. Hidden states of layers in between
    stay in the row."""
    undo = set_attention(model, PADDING_FREE, _attend, _keep_mask)
    body, pack = (model.base_model, _pack_ids) if _is_one_piece(model) else (_encoder_of(model), _pack)
    undo.append(body.register_forward_pre_hook(pack, with_kwargs=True))
    undo.append(body.register_forward_hook(_unpack, with_kwargs=True))
    return undo


def check_padding_free(model: PreTrainedModel) -> str | None:
    """What of the model's parts is not as leaving out padding needs it, if anything: a body whose layers hand masks and
    keywords on as they are."""
    if fault := check_attention(model):
        return fault
    base = model.base_model
    if _is_one_piece(model):
        if fault := _lacks(base, "input_ids", "attention_mask", "position_ids"):
            return fault
        if not set(getattr(model.config, "layer_types", None) or ()) <= set(LAYER_KINDS):
            return f"{type(base).__name__} has layers of another kind than {' and '.join(LAYER_KINDS)}"
        if any(not hasattr(layer, "attention_type") for layer in base.get_submodule("layers").children()):
            return f"layers of {type(base).__name__} have no attention_type"
        return None
    encoder = getattr(base, "encoder", None)
    if not isinstance(getattr(encoder, "layer", None), nn.ModuleList):
        return f"{type(base).__name__} has no list of layers encoder.layer"
    assert isinstance(encoder, nn.Module)
    each_part = (encoder, *encoder.get_submodule("layer").children())
    faults = (_lacks(part, "hidden_states", "attention_mask") for part in each_part)
    return next(filter(None, faults), None)


def _lacks(module: nn.Module, *names: str) -> str | None:
    """Which of these arguments, or of any others by name, the module's forward does not take."""
    parameters = inspect.signature(type(module).forward).parameters
    missing = [name for name in names if name not in parameters]
    if not any(each.kind is each.VAR_KEYWORD for each in parameters.values()):
        missing.append("keywords to hand on")
    return f"{type(module).__name__}.forward takes no {missing[0]}" if missing else None


def _is_one_piece(model: PreTrainedModel) -> bool:
    """Whether the body itself goes through its layers (ModernBERT), with no encoder between embeddings and output."""
    return isinstance(getattr(model.base_model, "layers", None), nn.ModuleList)


def _encoder_of(model: PreTrainedModel) -> nn.Module:
    return model.base_model.get_submodule("encoder")


def find_places(mask: Tensor) -> Tensor:
    """`Layout.places` by a mask, (sequences, tokens); made with the batch, so that no step waits for it."""
    order = mask.sum(1).argsort(stable=True)
    columns = torch.arange(mask.shape[1], device=mask.device)
    return (order[:, None] * mask.shape[1] + columns)[mask[order].bool()]


def encoder_inputs(model: nn.Module, batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """What of a batch the model is called with; token types only where it has any."""
    config: Any = cast(PreTrainedModel, model).config
    names = ["input_ids", "attention_mask"]
    names += ["token_type_ids"] if getattr(config, "type_vocab_size", 0) else []
    names += ["places"] if config._attn_implementation == PADDING_FREE else []
    return {name: batch[name] for name in names if name in batch}


def _pack(encoder: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> Call | None:
    """Before an encoder that gets hidden states: those of the row."""
    places, mask = named.pop("places", None), named.get("attention_mask")
    if mask is None or mask.ndim != 2:  # nothing is padded, or a mask of the caller's own
        return inputs, named
    if not _can_pack(encoder, mask.device):
        return inputs, named | {"attention_mask": mask[:, None, None]}
    layout = _lay_out(mask, places)
    row = inputs[0].flatten(0, 1).index_select(0, layout.places)
    return (row[None], *inputs[1:]), named | {"attention_mask": layout}


def _pack_ids(body: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> Call | None:
    """Before a body that gets ids: those of the row, with the positions that they have in their sequences."""
    places, mask, ids = named.pop("places", None), named.get("attention_mask"), named.get("input_ids")
    if not isinstance(mask, Tensor) or mask.ndim != 2:
        return inputs, named
    is_usual = not inputs and named.get("position_ids") is None
    if ids is None or not is_usual or not _can_pack(body, mask.device) or (places is None and _has_gaps(mask)):
        mask = mask[:, None, None].bool()
        return inputs, named | {"attention_mask": dict.fromkeys(LAYER_KINDS, mask)}
    layout = _lay_out(mask, places)
    more = {"input_ids": ids.flatten()[layout.places][None], "position_ids": (layout.places % mask.shape[1])[None]}
    return inputs, named | more | {"attention_mask": dict.fromkeys(LAYER_KINDS, layout)}


def _has_gaps(mask: Tensor) -> bool:
    """Whether padding stands between tokens, which are then farther from each other than in the row."""
    begins = F.pad(mask.int(), (1, 0)).diff(dim=1) > 0
    return bool((begins.sum(1) > 1).any())


def _lay_out(mask: Tensor, places: Tensor | None) -> Layout:
    lengths = mask.sum(1).sort().values
    ends = F.pad(lengths.cumsum(0), (1, 0)).int()
    shape = (mask.shape[0], mask.shape[1])
    return Layout(find_places(mask) if places is None else places, ends, shape, _count_runs(lengths))


def _unpack(_: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any], output: Any) -> Any:
    layout = named.get("attention_mask")
    if isinstance(layout, dict):
        layout = layout[LAYER_KINDS[0]]
    if isinstance(layout, Layout):
        row = output[0][0]
        padded = row.new_zeros(layout.shape[0] * layout.shape[1], row.shape[1])
        padded = padded.index_copy(0, layout.places, row).unflatten(0, layout.shape)
        if isinstance(output, tuple):
            return (padded, *output[1:])
        output.last_hidden_state = padded
    return output


def _count_runs(lengths: Tensor) -> list[tuple[int, int]]:
    if lengths.device.type != "cpu":
        return []
    sizes, counts = lengths.unique_consecutive(return_counts=True)
    return list(zip(counts.tolist(), sizes.tolist(), strict=True))


def _can_pack(body: nn.Module, device: torch.device) -> bool:
    """On a CPU, unless a compiler would have to follow the lengths of each batch. A GPU's kernel is for bf16 and drops
    nothing."""
    if device.type == "cpu":
        return not torch.compiler.is_compiling()
    config: Any = body.config
    rate = getattr(config, "attention_probs_dropout_prob", getattr(config, "attention_dropout", 0))
    return torch.is_autocast_enabled(device.type) and not (body.training and rate > 0)  # which is in bf16, with us


@cache
def kernel_agrees(device: torch.device, width: int, window: int | None = None) -> bool:
    """Whether attention over several lengths gives, forward and backward, what usual attention gives, for heads of this
    width, and also to tokens that are at most `window` apart; tried once a process."""
    from torch.nn.attention.varlen import varlen_attn

    near = None if window is None else NEAR_IN_TRIAL
    lengths = (3, 17)
    draw = torch.Generator(device).manual_seed(0)  # its own: what is drawn in training stays what it is
    inputs = torch.randn(3, sum(lengths), 2, width, device=device, dtype=torch.bfloat16, generator=draw)
    ends = torch.tensor([0, *lengths], device=device).cumsum(0).int()
    found: list[Tensor] = []
    try:
        with torch.enable_grad(), torch.autocast(device.type, enabled=False):
            for kernel in (True, False):
                query, key, value = rows = [each.clone().requires_grad_() for each in inputs]
                if kernel:
                    longest, window_size = max(lengths), _window(near)
                    read = cast(
                        Tensor,
                        varlen_attn(query, key, value, ends, ends, longest, longest, window_size=window_size),
                    )
                else:
                    cut = [[part.transpose(0, 1) for part in each.split(lengths)] for each in rows]
                    parts = [
                        F.scaled_dot_product_attention(q, k, v, None if near is None else _band(q, near))
                        for q, k, v in zip(*cut, strict=True)
                    ]
                    read = torch.cat([part.transpose(0, 1) for part in parts])
                read.float().square().sum().backward()
                found.append(torch.stack([read, *(cast(Tensor, each.grad) for each in rows)]).detach().float())
    except (RuntimeError, NotImplementedError) as error:
        what = f"{device} has no attention over several lengths for heads {width} wide"
        console.info(f"batches stay padded, as {what} ({type(error).__name__})")
        return False
    agrees = torch.allclose(found[0], found[1], rtol=0.05, atol=0.05)
    if not agrees:
        console.info(f"batches stay padded, as {device} gets attention over several lengths wrong")
    return agrees


def _keep_mask(*, attention_mask: Tensor | None = None, **_: Any) -> Tensor | None:
    """The mask as it is, (sequences, tokens), where transformers asks for one that the layers can use."""
    return attention_mask


def _attend(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Layout | Tensor | None, *,
    dropout: float = 0.0, scaling: float | None = None, sliding_window: int | None = None, **_: Any,
) -> tuple[Tensor, None]:  # fmt: skip
    """(sequences, heads, tokens, width) each, or with a layout (1, heads, tokens, width); the result has tokens before
    heads. With a `sliding_window` tokens attend to those that are less than it apart."""
    near = None if sliding_window is None else sliding_window - 1

    def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        if isinstance(attention_mask, Layout):
            return _attend_in_row(query, key, value, attention_mask, dropout, scaling, near)
        mask = attention_mask
        if mask is not None and mask.ndim == 2:
            mask = mask[:, None, None].bool()
        if near is not None and (band := _band(query, near)) is not None:
            mask = band if mask is None else mask & band
        read = F.scaled_dot_product_attention(query, key, value, mask, dropout, scale=scaling)
        return read.transpose(1, 2)

    return attention_fp32(attend, query, key, value), None


def _band(query: Tensor, near: int) -> Tensor | None:
    """(tokens, tokens): whether two tokens are at most `near` apart; None where all are."""
    n_tokens = query.shape[-2]
    if n_tokens <= near + 1:
        return None
    places = torch.arange(n_tokens, device=query.device)
    return (places[:, None] - places).abs() <= near


def _window(near: int | None) -> tuple[int, int]:
    """As torch's kernel wants it: how many tokens before and behind; -1 is all."""
    return (-1, -1) if near is None else (near, near)


def _attend_in_row(
    query: Tensor, key: Tensor, value: Tensor, layout: Layout, dropout: float, scaling: float | None, near: int | None
) -> Tensor:
    query, key, value = (each[0].transpose(0, 1) for each in (query, key, value))
    if not layout.runs:
        from torch.nn.attention.varlen import varlen_attn  # a fortieth of a second, which only GPUs need

        ends, longest = layout.ends, layout.shape[1]
        more: dict[str, Any] = {"scale": scaling, "window_size": _window(near)}
        return cast(Tensor, varlen_attn(query, key, value, ends, ends, longest, longest, **more))[None]
    cuts = [n * length for n, length in layout.runs]
    read = []
    for run, *alike in zip(layout.runs, query.split(cuts), key.split(cuts), value.split(cuts), strict=True):
        q, k, v = (each.unflatten(0, run).transpose(1, 2) for each in alike)
        band = None if near is None else _band(q, near)
        part = F.scaled_dot_product_attention(q, k, v, band, dropout_p=dropout, scale=scaling)
        read.append(part.transpose(1, 2).flatten(0, 1))
    return torch.cat(read)[None]
