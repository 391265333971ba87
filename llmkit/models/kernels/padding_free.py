"""Encoders that read no padding: between embeddings and head all real tokens of a batch stand in one row, and attention
keeps to each sequence (Zeng et al. 2022, "Boosting distributed training performance of the unpadded BERT model").

Embeddings and heads see the batch as it is, so any head works. Where the kernel for sequences of several lengths cannot
be had, the batch stays padded, behind a mask.
"""

from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from llmkit.core.errors import say
from llmkit.models.kernels.attention import attend_exactly

PADDING_FREE = "llmkit_padding_free"
FAMILIES = ("bert", "roberta", "xlm-roberta", "camembert", "electra")
"""Whose `encoder` is a list of layers that hand masks and keywords on as they are."""


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


def leave_out_padding(model: PreTrainedModel, device: torch.device) -> None:
    """Let the layers read what is not padding, in place; nothing of it is saved. Other families, decoders, models that
    attend in another way than torch's, and GPUs without the kernel stay as they are. Hidden states of layers in between
    stay in the row."""
    config: Any = model.config
    if config.model_type not in FAMILIES or getattr(config, "is_decoder", False):
        return
    chunked = getattr(config, "chunk_size_feed_forward", 0)  # of the batch's tokens, padding among them
    if chunked or config._attn_implementation not in ("sdpa", PADDING_FREE):
        return
    if device.type != "cpu" and not kernel_agrees(device, config.hidden_size // config.num_attention_heads):
        return
    model.set_attn_implementation(PADDING_FREE)
    encoder = model.base_model.get_submodule("encoder")
    if _pack not in encoder._forward_pre_hooks.values():
        encoder.register_forward_pre_hook(_pack, with_kwargs=True)
        encoder.register_forward_hook(_unpack, with_kwargs=True)


def find_places(mask: Tensor) -> Tensor:
    """`Layout.places` by a mask, (sequences, tokens); made with the batch, so that no step waits for it."""
    order = mask.sum(1).argsort(stable=True)
    columns = torch.arange(mask.shape[1], device=mask.device)
    return (order[:, None] * mask.shape[1] + columns)[mask[order].bool()]


def encoder_inputs(model: nn.Module, batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """What of a batch the model is called with."""
    reads_places = cast(PreTrainedModel, model).config._attn_implementation == PADDING_FREE
    names = ("input_ids", "token_type_ids", "attention_mask", *(["places"] if reads_places else []))
    return {name: batch[name] for name in names if name in batch}


def _pack(
    encoder: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
    places, mask = named.pop("places", None), named.get("attention_mask")
    if mask is None or mask.ndim != 2:  # nothing is padded, or a mask of the caller's own
        return inputs, named
    if not _can_pack(encoder, mask.device):
        return inputs, named | {"attention_mask": mask[:, None, None]}
    lengths, shape = mask.sum(1), (mask.shape[0], mask.shape[1])
    places = find_places(mask) if places is None else places
    lengths = lengths.sort().values
    layout = Layout(places, F.pad(lengths.cumsum(0), (1, 0)).int(), shape, _count_runs(lengths))
    row = inputs[0].flatten(0, 1).index_select(0, places)
    return (row[None], *inputs[1:]), named | {"attention_mask": layout}


def _unpack(_: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any], output: Any) -> Any:
    layout = named.get("attention_mask")
    if isinstance(layout, Layout):
        row = output.last_hidden_state[0]
        padded = row.new_zeros(layout.shape[0] * layout.shape[1], row.shape[1])
        output.last_hidden_state = padded.index_copy(0, layout.places, row).unflatten(0, layout.shape)
    return output


def _count_runs(lengths: Tensor) -> list[tuple[int, int]]:
    if lengths.device.type != "cpu":
        return []
    sizes, counts = lengths.unique_consecutive(return_counts=True)
    return list(zip(counts.tolist(), sizes.tolist(), strict=True))


def _can_pack(encoder: nn.Module, device: torch.device) -> bool:
    """On a CPU, unless a compiler would have to follow the lengths of each batch. A GPU's kernel is for bf16 and drops
    nothing."""
    if device.type == "cpu":
        return not torch.compiler.is_compiling()
    drops = encoder.training and cast(Any, encoder).config.attention_probs_dropout_prob > 0
    return torch.is_autocast_enabled(device.type) and not drops  # which is in bf16, with us


@cache
def kernel_agrees(device: torch.device, width: int) -> bool:
    """Whether attention over several lengths gives, forward and backward, what usual attention gives, for heads of this
    width; tried once a process."""
    from torch.nn.attention.varlen import varlen_attn

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
                    read = cast(Tensor, varlen_attn(query, key, value, ends, ends, max(lengths), max(lengths)))
                else:
                    cut = [[part.transpose(0, 1) for part in each.split(lengths)] for each in rows]
                    parts = [F.scaled_dot_product_attention(*alike) for alike in zip(*cut, strict=True)]
                    read = torch.cat([part.transpose(0, 1) for part in parts])
                read.float().square().sum().backward()
                found.append(torch.stack([read, *(cast(Tensor, each.grad) for each in rows)]).detach().float())
    except (RuntimeError, NotImplementedError) as error:
        what = f"{device} has no attention over several lengths for heads {width} wide"
        say(f"batches stay padded, as {what} ({type(error).__name__})")
        return False
    agrees = torch.allclose(found[0], found[1], rtol=0.05, atol=0.05)
    if not agrees:
        say(f"batches stay padded, as {device} gets attention over several lengths wrong")
    return agrees


def _keep_mask(*, attention_mask: Tensor | None = None, **_: Any) -> Tensor | None:
    """The mask as it is, (sequences, tokens), where transformers asks for one that the layers can use."""
    return attention_mask


def _attend(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Layout | Tensor | None, *,
    dropout: float = 0.0, scaling: float | None = None, **_: Any,
) -> tuple[Tensor, None]:  # fmt: skip
    """(sequences, heads, tokens, width) each, or with a layout (1, heads, tokens, width); the result has tokens before
    heads."""

    def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        if isinstance(attention_mask, Layout):
            return _attend_in_row(query, key, value, attention_mask, dropout, scaling)
        read = F.scaled_dot_product_attention(query, key, value, attention_mask, dropout, scale=scaling)
        return read.transpose(1, 2)

    return attend_exactly(attend, query, key, value), None


def _attend_in_row(
    query: Tensor, key: Tensor, value: Tensor, layout: Layout, dropout: float, scaling: float | None
) -> Tensor:
    query, key, value = (each[0].transpose(0, 1) for each in (query, key, value))
    if not layout.runs:
        from torch.nn.attention.varlen import varlen_attn  # a fortieth of a second, which only GPUs need

        ends, longest = layout.ends, layout.shape[1]
        return cast(Tensor, varlen_attn(query, key, value, ends, ends, longest, longest, scale=scaling))[None]
    cuts = [n * length for n, length in layout.runs]
    read = []
    for run, *alike in zip(layout.runs, query.split(cuts), key.split(cuts), value.split(cuts), strict=True):
        q, k, v = (each.unflatten(0, run).transpose(1, 2) for each in alike)
        part = F.scaled_dot_product_attention(q, k, v, dropout_p=dropout, scale=scaling)
        read.append(part.transpose(1, 2).flatten(0, 1))
    return torch.cat(read)[None]


ALL_ATTENTION_FUNCTIONS.register(PADDING_FREE, _attend)
ALL_MASK_ATTENTION_FUNCTIONS.register(PADDING_FREE, _keep_mask)
