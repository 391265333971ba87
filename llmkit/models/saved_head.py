"""Reuse the classification head of a saved model for training on other labels.

Labels of the saved and the new head are matched by name, in any order. The weight rows of matched labels are copied,
and so are the other layers of the head. A regression head is reused if its label column has the same name; its last
layer is rescaled to the new targets.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from transformers import (
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    PreTrainedConfig,
    PreTrainedModel,
)

REGRESSION, MULTI_LABEL = "regression", "multi_label_classification"
_SHOWN = 5
_KINDS = {REGRESSION: "a number per row", MULTI_LABEL: "several labels per row"}


@dataclass(frozen=True)
class HeadKind:
    """A kind of head of transformers."""

    auto_class: Any
    ending: str
    """The end of the names of model classes with this head."""
    noun: str
    command: str
    """The llmkit command that trains such a head."""


TEXT_LABELS = HeadKind(AutoModelForSequenceClassification, "ForSequenceClassification", "classifier", "finetune-cls")
TOKEN_LABELS = HeadKind(AutoModelForTokenClassification, "ForTokenClassification", "token classifier", "finetune-ner")
ANSWER_SPANS = HeadKind(AutoModelForQuestionAnswering, "ForQuestionAnswering", "reader", "finetune-qa")


@dataclass(frozen=True)
class HeadSpec:
    """The head that a training run needs."""

    problem_type: str
    """`config.problem_type` of transformers."""
    label2id: Mapping[str, int]
    label_frequencies: Sequence[float] = ()
    """The fraction of rows with each label, for the bias of new rows; empty: the bias stays as initialized."""
    label_map: Mapping[str, str] = field(default_factory=dict)
    """New names of the saved model's labels; a key `0` also names the label LABEL_0."""
    target_scale: tuple[float, float] = (0.0, 1.0)
    """Mean and standard deviation of the targets of a regression."""
    kind: HeadKind = TEXT_LABELS


@dataclass(frozen=True)
class HeadMatch:
    """Which rows of a saved head are reused."""

    rows: Mapping[int, int]
    """Maps label ids of the new head to label ids of the saved head; empty: the head is initialized."""
    note: str
    """Lists kept, new and dropped labels; empty for a model without a head."""
    is_same: bool = False
    """Whether the saved head has the same labels in the same order."""


def problem_type_of(config: PreTrainedConfig) -> str:
    """Return the `problem_type` of a classifier's configuration, as transformers names it."""
    if config.num_labels == 1:
        return REGRESSION
    return MULTI_LABEL if config.problem_type == MULTI_LABEL else "single_label_classification"


def labels_of(config: PreTrainedConfig) -> list[str]:
    """Return the labels in the order of their ids."""
    labels = {int(number): str(label) for number, label in (config.id2label or {}).items()}
    return [labels[number] for number in sorted(labels)]


def rename_labels(names: Sequence[str], label_map: Mapping[str, str]) -> list[str]:
    """Return the names of a model's labels after `label_map`; a key `0` also names the label LABEL_0."""
    renamed = {f"LABEL_{old}": new for old, new in label_map.items()} | dict(label_map)
    return [renamed.get(name, name) for name in names]


def has_head(config: PreTrainedConfig, ending: str = TEXT_LABELS.ending) -> bool:
    """Whether the name of the saved model's class ends with `ending`, such as ForMaskedLM."""
    return any(name.endswith(ending) for name in config.architectures or ())


def match_head(config: PreTrainedConfig, spec: HeadSpec) -> HeadMatch:
    """Compare the labels of a saved model with those of the new head."""
    if not has_head(config, spec.kind.ending):
        return HeadMatch({}, "")
    saved, before = rename_labels(labels_of(config), spec.label_map), problem_type_of(config)
    if before != spec.problem_type:
        kinds = (_KINDS.get(kind, "one label per row") for kind in (before, spec.problem_type))
        return HeadMatch({}, "the model has a head for {}, but the data has {}: using a new head".format(*kinds))
    if before == REGRESSION and "target_std" in (getattr(config, "llmkit", None) or {}):
        return HeadMatch({}, "the model's head has no bias, so it cannot be rescaled: using a new head")
    twice = [name for name, n in Counter(saved).items() if n > 1]
    rows = {spec.label2id[name]: old for old, name in enumerate(saved) if name in spec.label2id and name not in twice}
    if not rows:
        known, new = ", ".join(saved[:_SHOWN]), next(iter(spec.label2id))
        what = "value" if before == REGRESSION else "label"
        hint = f"if {saved[0]} and {new} are the same {what}, set --label-map {f'{saved[0]}={new}'!r}"
        return HeadMatch({}, f"the model's head ({known}) has no {what} of the data: using a new head; {hint}")
    is_same = dict(spec.label2id) == {name: number for number, name in enumerate(saved)}
    return HeadMatch(rows, _describe(saved, spec, rows, twice), is_same)


def _describe(saved: Sequence[str], spec: HeadSpec, rows: Mapping[int, int], twice: Sequence[str]) -> str:
    kept = [saved[old] for old in rows.values()]
    new = [name for name in spec.label2id if name not in kept]
    lost = [name for name in dict.fromkeys(saved) if name not in kept and name not in new]
    if not new and not lost:
        return "the model's classification head is kept: it has the same labels"
    parts = [
        f"{len(names):,} {what} ({', '.join(names[:_SHOWN])}{', ...' if len(names) > _SHOWN else ''})"
        for names, what in ((kept, "kept"), (new, "new"), (lost, "dropped, because no row has them"))
        if names
    ]
    note = f"reusing the model's classification head; labels: {', '.join(parts)}"
    if merged := [name for name in twice if name in new]:
        note += f"; several labels of the model are called {merged[0]}, so its row is new"
    folded = {name.casefold().strip(): name for name in lost}
    if variants := [f"{folded[key]}={name}" for name in new if (key := name.casefold().strip()) in folded]:
        note += f"; if these labels are the same, set --label-map {','.join(variants[:_SHOWN])!r}"
    return note


def label_weights(config: PreTrainedConfig, kind: HeadKind = TEXT_LABELS) -> set[str]:
    """Return the names of the weights with one row per label, found by comparing shapes for two numbers of labels."""
    shapes = []
    for n_labels in (len(labels_of(config)), len(labels_of(config)) + 1):
        sized = deepcopy(config)
        sized.num_labels = n_labels
        with torch.device("meta"):  # no memory for weights
            model = kind.auto_class.from_config(sized, dtype=torch.float32)
        shapes.append({name: weight.shape for name, weight in model.state_dict().items()})
    return {name for name, shape in shapes[0].items() if shape != shapes[1].get(name)}


@torch.no_grad()
def keep_rows(
    fresh: PreTrainedModel, saved: Mapping[str, Tensor], rows: Mapping[int, int], kind: HeadKind = TEXT_LABELS
) -> None:
    """Copy the `saved` weights to `fresh` in place; of weights with one row per label, only `rows` (new id to old)."""
    per_label = label_weights(fresh.config, kind)
    state = fresh.state_dict()
    new, old = list(rows), list(rows.values())
    for name, weight in saved.items():
        if name in per_label:
            state[name][new] = weight[old]
        else:
            state[name].copy_(weight)
