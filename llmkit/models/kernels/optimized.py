"""What llmkit changes inside a model of transformers to make it faster, all in one place, and how it is undone.

A change is made only in families it was tested with (`TESTED`), and only while the installed transformers has the parts
it relies on. Otherwise the plain path runs, with the same results, and one line says so. Nothing of it is saved with
the model.
"""

from collections.abc import Callable, Sequence
from functools import cache
from types import TracebackType
from typing import NamedTuple

import torch
import transformers
from transformers import PreTrainedModel

from llmkit.architectures import ARCHITECTURES
from llmkit.architectures.base import ATTENTION, DROPOUT, GELU, PADDING
from llmkit.core import console
from llmkit.models.kernels.attention import USUAL, attend_in_fp32, check_attention, has_amx
from llmkit.models.kernels.modules import (
    Undo,
    cheapen_dropouts,
    check_gelus,
    find_dropouts,
    find_gelu_chains,
    fuse_gelus,
)
from llmkit.models.kernels.padding_free import can_unpad, check_padding_free, unpad


class Patch(NamedTuple):
    """One change."""

    helps: Callable[[PreTrainedModel, str, torch.device], bool]
    """Whether it would make this model faster in this precision on this device."""
    check: Callable[[PreTrainedModel], str | None]
    """What it relies on and this model, or this version of transformers, lacks; None where all is there."""
    apply: Callable[[PreTrainedModel], Sequence[Undo]]


PATCHES: dict[str, Patch] = {
    PADDING: Patch(lambda model, precision, device: can_unpad(model, device), check_padding_free, unpad),
    ATTENTION: Patch(
        lambda model, precision, device: (
            precision == "bf16"
            and device.type == "cpu"
            and not has_amx()
            and model.config._attn_implementation == USUAL  # not where layers read no padding, which are as exact
        ),
        check_attention,
        attend_in_fp32,
    ),
    DROPOUT: Patch(
        lambda model, precision, device: device.type == "cpu" and bool(find_dropouts(model)),
        lambda model: None,
        cheapen_dropouts,
    ),
    GELU: Patch(
        lambda model, precision, device: bool(find_gelu_chains(model)), lambda model: check_gelus(), fuse_gelus
    ),
}
"""In the order in which they are made."""

_WITH_PADDING = (PADDING, ATTENTION, DROPOUT, GELU)
_USUAL = (ATTENTION, DROPOUT, GELU)
TESTED: dict[str, tuple[str, ...]] = {each.model_type: each.kernels for each in ARCHITECTURES.values()} | {
    "roberta": _WITH_PADDING,
    "xlm-roberta": _WITH_PADDING,
    "camembert": _WITH_PADDING,
    "electra": _WITH_PADDING,
    "albert": _USUAL,
    "bart": _USUAL,
    "bloom": _USUAL,
    "deberta": _USUAL,
    "deberta-v2": _USUAL,
    "distilbert": _USUAL,
    "ernie": _USUAL,
    "gpt_neox": _USUAL,
    "mistral": _USUAL,
    "mpnet": _USUAL,
    "opt": _USUAL,
    "qwen2": _USUAL,
    "qwen3": _USUAL,
    "t5": (DROPOUT, GELU),  # its attention gets a bias in bf16
    "xlnet": _USUAL,
}
"""By `model_type`, the changes whose loss and gradients a test compares with the plain model's: those of our
architectures, and of others that users bring."""

_UNDO = "_llmkit_undo"
"""The attribute of a model that keeps how to undo its changes; data alone, so that it is copied with the model, and
without the model itself."""


class Optimized(NamedTuple):
    """A model that was made faster; `restore`, or the end of a `with` block, makes it what it was before."""

    model: PreTrainedModel
    applied: tuple[str, ...]
    """Names of the changes that were made."""

    def restore(self) -> None:
        """Undo all that `optimized` did to the model, however often it was called."""
        _restore(self.model)

    def __enter__(self) -> PreTrainedModel:
        return self.model

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.restore()


class _MatmulPrecision(NamedTuple):
    old: str

    def remove(self) -> None:
        torch.set_float32_matmul_precision(self.old)


def optimized(model: PreTrainedModel, precision: str, device: torch.device) -> Optimized:
    """Make a model that runs in `precision` on `device` faster there, in place.

    What an earlier call did is undone first; so calling it again, with another precision, is safe. What fp32 means to
    products of matrices is the process's: TF32 rounds what is multiplied to ten bits.
    """
    _restore(model)
    undo: list[Undo] = [_MatmulPrecision(torch.get_float32_matmul_precision())]
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
    setattr(model, _UNDO, undo)
    kind = str(model.config.model_type)
    applied, left_out = [], []
    for name, patch in PATCHES.items():
        if name not in TESTED.get(kind, _USUAL) or not patch.helps(model, precision, device):
            continue
        fault = patch.check(model) if kind in TESTED else "not tested with this type of model"
        if fault is None:
            undo += patch.apply(model)
            applied.append(name)
        else:
            left_out.append(f"{name} ({fault})")
    if left_out:
        _say_once(
            f"{kind} of transformers {transformers.__version__} runs without {', '.join(left_out)}: "
            "the results are the same, only slower"
        )
    return Optimized(model, tuple(applied))


def _restore(model: PreTrainedModel) -> None:
    for change in reversed(model.__dict__.pop(_UNDO, [])):
        change.remove()


@cache
def _say_once(line: str) -> None:
    console.info(line)
