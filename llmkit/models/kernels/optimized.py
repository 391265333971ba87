"""Changes that make transformers' models faster, and how to undo them.

A change is made only in model types on which it was tested (`TESTED`), and only if the installed transformers has the
required interfaces. Otherwise the unchanged model runs with the same results, and one line is logged. Changes are not
saved with the model.
"""

from collections.abc import Callable, Sequence
from functools import cache
from typing import NamedTuple

import torch
import transformers
from transformers import PreTrainedModel

from llmkit.architectures import ARCHITECTURES
from llmkit.architectures.base import ATTENTION, DROPOUT, GELU, PADDING
from llmkit.core import console
from llmkit.models.kernels.padding_free import can_unpad, check_padding_free, unpad
from llmkit.models.kernels.patches import (
    SDPA,
    Undo,
    check_attention,
    check_gelus,
    find_dropouts,
    find_unfused_gelus,
    fuse_gelus,
    has_amx,
    use_fast_dropout,
    use_fp32_attention,
)


class Patch(NamedTuple):
    """One change of a model."""

    helps: Callable[[PreTrainedModel, str, torch.device], bool]
    """Whether the change makes this model faster in this precision on this device."""
    check: Callable[[PreTrainedModel], str | None]
    """Returns a requirement that this model or this version of transformers does not meet; None if all are met."""
    apply: Callable[[PreTrainedModel], Sequence[Undo]]


PATCHES: dict[str, Patch] = {
    PADDING: Patch(lambda model, precision, device: can_unpad(model, device), check_padding_free, unpad),
    ATTENTION: Patch(
        lambda model, precision, device: (
            precision == "bf16"
            and device.type == "cpu"
            and not has_amx()
            and model.config._attn_implementation == SDPA  # unpadded layers convert to fp32 themselves
        ),
        check_attention,
        use_fp32_attention,
    ),
    DROPOUT: Patch(
        lambda model, precision, device: device.type == "cpu" and bool(find_dropouts(model)),
        lambda model: None,
        use_fast_dropout,
    ),
    GELU: Patch(
        lambda model, precision, device: bool(find_unfused_gelus(model)), lambda model: check_gelus(), fuse_gelus
    ),
}
"""The changes, in the order in which they are applied."""

_DEFAULT_PATCHES = (ATTENTION, DROPOUT, GELU)
TESTED: dict[str, tuple[str, ...]] = {
    **{each.model_type: each.kernels for each in ARCHITECTURES.values()},
    **dict.fromkeys(("roberta", "xlm-roberta", "camembert", "electra"), (PADDING, ATTENTION, DROPOUT, GELU)),
    **dict.fromkeys(
        (
            "albert", "bart", "bloom", "deberta", "deberta-v2", "distilbert", "ernie", "gpt_neox", "mistral", "mpnet",
            "opt", "qwen2", "qwen3", "xlnet",
        ),
        _DEFAULT_PATCHES,
    ),
    "t5": (DROPOUT, GELU),  # its attention adds a bias in bf16
}  # fmt: skip
"""By `model_type`, the changes whose loss and gradients a test compares with the unchanged model's."""

_UNDO = "_llmkit_undo"
"""Attribute of a model that stores how to undo its changes: plain data, copied with the model, without cycles."""


class _MatmulPrecision(NamedTuple):
    old: str

    def remove(self) -> None:
        torch.set_float32_matmul_precision(self.old)


def optimized(model: PreTrainedModel, precision: str, device: torch.device) -> tuple[str, ...]:
    """Optimize a model in place for `precision` on `device`; returns the names of the applied changes.

    Changes of an earlier call are undone first, so `optimized` can be called again with another precision. The
    precision of fp32 matrix products is set for the entire process; TF32 rounds their inputs to a mantissa of ten bits.
    """
    restore(model)
    undo: list[Undo] = [_MatmulPrecision(torch.get_float32_matmul_precision())]
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
    setattr(model, _UNDO, undo)
    kind = str(model.config.model_type)
    applied, left_out = [], []
    for name, patch in PATCHES.items():
        if name not in TESTED.get(kind, _DEFAULT_PATCHES) or not patch.helps(model, precision, device):
            continue
        fault = patch.check(model) if kind in TESTED else "not tested with this type of model"
        if fault is None:
            undo += patch.apply(model)
            applied.append(name)
        else:
            left_out.append(f"{name} ({fault})")
    if left_out:
        _log_once(
            f"{kind} of transformers {transformers.__version__} runs without {', '.join(left_out)}: "
            "same results, but slower"
        )
    return tuple(applied)


def restore(model: PreTrainedModel) -> None:
    """Undo all changes made by `optimized`, even after several calls."""
    for change in reversed(model.__dict__.pop(_UNDO, [])):
        change.remove()


@cache
def _log_once(line: str) -> None:
    console.info(line)
