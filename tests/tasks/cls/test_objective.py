"""Losses of labels against torch and published formulas; padding and batch sizes have no effect."""

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.utils.class_weight import compute_class_weight
from tiny import make_bert, make_gpt2
from transformers import BertForSequenceClassification, GPT2ForSequenceClassification, PreTrainedModel

from llmkit.config.optim import Optim
from llmkit.config.recipe import make_recipe
from llmkit.config.train import Train
from llmkit.core.errors import UsageError
from llmkit.datasets.examples import Example
from llmkit.datasets.labelled import Input
from llmkit.models.inputs import collate_inputs
from llmkit.tasks.cls.label_types import LABEL_TYPES
from llmkit.tasks.cls.objective import Classification, score_batch
from llmkit.tasks.cls.training import ClsTraining
from llmkit.training.batches import BatchPlan
from llmkit.training.contract import Hooks, Plan
from llmkit.training.folder import create_run
from llmkit.training.loop import TrainingLoop

N_LABELS = 3


def make_classifier(family: str, n_labels: int = N_LABELS) -> PreTrainedModel:
    if family == "bert":
        model = make_bert(BertForSequenceClassification, num_labels=n_labels)
    else:
        config = make_gpt2().config
        config.num_labels = n_labels
        torch.manual_seed(0)
        model = GPT2ForSequenceClassification(config)
    for weight in model.parameters():  # larger than at the start, so that nothing is hidden by small numbers
        if weight.ndim > 1:
            weight.data.mul_(3)
    return model.eval()


def make_examples(n: int, kind: str = "single_label", most_windows: int = 1, seed: int = 0) -> list[Example]:
    """Rows of inputs of 3 to 16 ids between 5 and 49; 0 is the pad token."""
    rng = np.random.default_rng(seed)
    labels: dict[str, Any] = {
        "single_label": rng.integers(0, N_LABELS, n),
        "multi_label": rng.integers(0, 2, (n, N_LABELS)).astype(np.int8),
        "regression": rng.normal(size=n),
    }
    rows = []
    for number in range(n):
        lengths = rng.integers(3, 17, rng.integers(1, most_windows + 1))
        inputs = [Input(rng.integers(5, 50, length), int(rng.integers(1, length))) for length in lengths]
        rows.append(Example(inputs, labels[kind][number]))
    return rows


def objective(kind: str = "single_label", family: str = "bert", **more: Any) -> Classification:
    return Classification(LABEL_TYPES[kind], N_LABELS, 0, family == "bert", **more)


# Losses


def scores_and_labels(kind: str, n: int = 20) -> tuple[torch.Tensor, torch.Tensor]:
    scores = torch.randn(n, N_LABELS, generator=torch.Generator().manual_seed(0)) * 3
    return scores, objective(kind).collate(make_examples(n, kind))["labels"]


def test_single_label_loss_equals_cross_entropy_of_torch() -> None:
    scores, labels = scores_and_labels("single_label")
    weights = torch.tensor([0.5, 2.0, 1.0])
    for weight in (None, weights):
        for smoothing in (0.0, 0.1):
            found = objective(class_weights=weight, label_smoothing=smoothing).losses(scores, labels)
            expected = F.cross_entropy(scores, labels, weight, reduction="sum", label_smoothing=smoothing)
            assert found.shape == (20,)
            assert found.sum().item() == pytest.approx(expected.item(), rel=1e-6)


def test_label_smoothing_equals_that_of_torch() -> None:
    scores, labels = scores_and_labels("single_label")
    logs = scores.double().log_softmax(-1)
    expected = [
        -sum((0.9 * (c == int(label)) + 0.1 / N_LABELS) * logs[row, c].item() for c in range(N_LABELS))
        for row, label in enumerate(labels)
    ]
    found = objective(label_smoothing=0.1).losses(scores, labels)
    assert found.tolist() == pytest.approx(expected, rel=1e-5)


def test_multi_label_loss_is_binary_cross_entropy() -> None:
    scores, labels = scores_and_labels("multi_label")
    assert labels.dtype == torch.float32
    probabilities = torch.sigmoid(scores.double())
    expected = F.binary_cross_entropy(probabilities, labels.double(), reduction="none")
    found = objective("multi_label").losses(scores, labels)
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-6)
    assert objective("multi_label").count({"labels": labels}) == {"loss": 20 * N_LABELS}
    weights = torch.tensor([0.5, 2.0, 4.0])
    weighted = objective("multi_label", class_weights=weights).losses(scores, labels)
    torch.testing.assert_close(
        weighted.double(), torch.where(labels > 0, weights, 1.0) * expected, rtol=1e-5, atol=1e-6
    )
    smoothed = objective("multi_label", label_smoothing=0.2).losses(scores, labels)
    other = F.binary_cross_entropy(probabilities, 1 - labels.double(), reduction="none")
    torch.testing.assert_close(smoothed.double(), 0.9 * expected + 0.1 * other, rtol=1e-5, atol=1e-6)


def test_regression_loss_is_the_squared_error() -> None:
    scores, labels = scores_and_labels("regression")
    found = objective("regression").losses(scores[:, :1], labels)
    assert found.sum().item() == pytest.approx(F.mse_loss(scores[:, 0], labels, reduction="sum").item(), rel=1e-6)


def test_focal_loss_equals_the_formula_of_the_paper() -> None:
    scores, labels = scores_and_labels("single_label")
    weights = torch.tensor([0.5, 2.0, 1.0])
    found = objective(focal_gamma=2.0, class_weights=weights).losses(scores, labels)
    for row, label in enumerate(labels.tolist()):
        odds = [math.exp(score) for score in scores[row].tolist()]
        known = odds[label] / sum(odds)
        expected = -weights[label].item() * (1 - known) ** 2 * math.log(known)
        assert found[row].item() == pytest.approx(expected, rel=1e-4, abs=1e-7)
    scores, labels = scores_and_labels("multi_label")
    found = objective("multi_label", focal_gamma=1.5).losses(scores, labels)
    for place in np.ndindex(20, N_LABELS):
        p = 1 / (1 + math.exp(-scores[place].item()))
        known = p if labels[place] == 1 else 1 - p
        assert found[place].item() == pytest.approx(-((1 - known) ** 1.5) * math.log(known), rel=1e-4, abs=1e-7)


def test_loss_and_gradient_are_finite_for_huge_scores() -> None:
    for kind in ("single_label", "multi_label"):
        _, labels = scores_and_labels(kind)
        for gamma in (0.0, 2.0):
            scores = (torch.randn(20, N_LABELS, generator=torch.Generator().manual_seed(1)) * 1e4).requires_grad_()
            losses = objective(kind, focal_gamma=gamma).losses(scores, labels)
            losses.sum().backward()
            assert losses.isfinite().all()
            assert scores.grad.isfinite().all()


# Class weights


def make_task(kind: str, labels: np.ndarray, class_weights: Any) -> ClsTraining:
    recipe = make_recipe({"task": "cls", "cls": {"class_weights": class_weights}})
    names = {"a": 0, "b": 1, "c": 2}
    data: Any = SimpleNamespace(
        label_type=LABEL_TYPES[kind], label2id=names, splits={"train": SimpleNamespace(labels=labels)}
    )
    tokenizer: Any = SimpleNamespace(pad_token_id=0)
    return ClsTraining(recipe, data, tokenizer, True, False, [], {})


LABELS = np.array([0] * 60 + [1] * 30 + [2] * 10)


def test_balanced_weights_equal_scikit_learn() -> None:
    weights = make_task("single_label", LABELS, "balanced").objective.class_weights
    assert weights is not None
    expected = compute_class_weight("balanced", classes=np.arange(3), y=LABELS)
    assert weights.tolist() == pytest.approx(expected.tolist(), rel=1e-6)
    assert weights[LABELS].mean().item() == pytest.approx(1)
    assert make_task("single_label", LABELS, "none").objective.class_weights is None


def test_balanced_multi_label_weight_is_negative_over_positive_rows() -> None:
    marks = np.zeros((100, 3), np.int8)
    marks[:60, 0], marks[:30, 1], marks[:10, 2] = 1, 1, 1
    weights = make_task("multi_label", marks, "balanced").objective.class_weights
    assert weights is not None
    assert weights.tolist() == pytest.approx([40 / 60, 70 / 30, 90 / 10])


def test_weights_of_the_recipe_keep_their_ratio_and_have_mean_one() -> None:
    weights = make_task("single_label", LABELS, {"c": 5.0}).objective.class_weights
    assert weights is not None
    assert (weights / weights[0]).tolist() == pytest.approx([1, 1, 5])
    assert weights[LABELS].mean().item() == pytest.approx(1)
    with pytest.raises(UsageError, match="there is no label 'd'"):
        _ = make_task("single_label", LABELS, {"d": 5.0}).objective


# Batches


def test_batch_holds_its_rows_and_masks_padding() -> None:
    examples = make_examples(6, most_windows=3)
    batch = objective().collate(examples)
    inputs = [each for example in examples for each in example.inputs]
    assert batch["input_ids"].shape == (len(inputs), max(len(each.ids) for each in inputs))
    for place, each in enumerate(inputs):
        n, n_padded = len(each.ids), batch["input_ids"].shape[1] - len(each.ids)
        assert batch["input_ids"][place].tolist() == each.ids.tolist() + [0] * n_padded
        assert batch["attention_mask"][place].tolist() == [1] * n + [0] * n_padded
        types = [0] * each.n_first + [1] * (n - each.n_first) + [0] * n_padded
        assert batch["token_type_ids"][place].tolist() == types
    assert batch["row_of_input"].tolist() == [row for row, each in enumerate(examples) for _ in each.inputs]
    assert batch["labels"].tolist() == [example.label for example in examples]
    assert objective().count_tokens(batch) == sum(objective().length(example) for example in examples)
    assert objective().count(batch) == {"loss": 6}


def test_batch_omits_mask_types_and_rows_that_are_not_needed() -> None:
    rows = [[Input(np.arange(5, 9), 4)], [Input(np.arange(6, 10), 4)]]
    assert set(collate_inputs(rows, 0, False)) == {"input_ids"}


@pytest.mark.parametrize("family", ["bert", "gpt2"])
def test_score_does_not_depend_on_padding(family: str) -> None:
    """GPT-2 reads its score from the last token that is no padding."""
    model, rows = make_classifier(family), [example.inputs for example in make_examples(12)]
    with torch.no_grad():
        together = score_batch(model, collate_inputs(rows, 0, family == "bert"))
        alone = torch.cat([score_batch(model, collate_inputs([row], 0, family == "bert")) for row in rows])
    assert together.std() > 0.05
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("family", ["bert", "gpt2"])
def test_score_of_a_long_text_is_the_mean_of_its_windows(family: str) -> None:
    model, examples = make_classifier(family), make_examples(7, most_windows=4)
    assert len({len(example.inputs) for example in examples}) > 2
    with torch.no_grad():
        batch = objective(family=family).collate(examples)
        found = score_batch(model, batch)
        for row, example in enumerate(examples):
            logits = []
            for each in example.inputs:
                more = {"token_type_ids": torch.tensor([[0] * each.n_first + [1] * (len(each.ids) - each.n_first)])}
                ids = torch.tensor(each.ids[None])
                logits.append(model(input_ids=ids, **(more if family == "bert" else {})).logits[0])
            torch.testing.assert_close(found[row], torch.stack(logits).mean(0), rtol=1e-5, atol=1e-5)
        loss = F.cross_entropy(found, batch["labels"], reduction="sum").item()
        assert objective(family=family).sum_losses(model, batch)["loss"].item() == pytest.approx(loss, rel=1e-6)


class KeepsGradients(TrainingLoop):
    """Remembers the gradients of each step, as they are before clipping."""

    kept: list[torch.Tensor]

    def _clip(self) -> float:
        self.kept = [weight.grad.clone() for weight in self.model.parameters() if weight.grad is not None]
        return super()._clip()


def take_step(run: Path, family: str, kind: str, batches: BatchPlan) -> tuple[list[torch.Tensor], float]:
    class Rows(list[Example]):
        block_size, samples_per_epoch = 16, 8

    log: list[dict[str, Any]] = []
    weights = torch.tensor([0.5, 2.0, 1.0]) if kind == "single_label" else None
    trainer = KeepsGradients(
        make_classifier(family, 1 if kind == "regression" else N_LABELS),
        objective(kind, family, class_weights=weights), Rows(make_examples(8, kind, most_windows=2)),
        run=create_run(run, overwrite=False),
        train=Train(block_size=16, global_batch_size=8, log_steps=1, precision="fp32"),
        optim=Optim(warmup_steps=0), plan=Plan(1, 1, 1, batches, "fp32"),
        hooks=Hooks(None, lambda model: None, log.append),
    )  # fmt: skip
    trainer.fit()
    return trainer.kept, next(record["loss"] for record in log if record["kind"] == "train")


@pytest.mark.parametrize(
    ("family", "kind"), [("bert", "single_label"), ("gpt2", "single_label"), ("bert", "multi_label")]
)
def test_gradient_does_not_depend_on_the_micro_batch_size(tmp_path: Path, family: str, kind: str) -> None:
    whole, loss = take_step(tmp_path / "whole", family, kind, BatchPlan(8, 8, 1))
    cuts = {"4x2": BatchPlan(8, 4, 1), "2x4": BatchPlan(8, 2, 1)}
    for name, batches in (cuts | {"tokens": BatchPlan(8, 8, 1, tokens_at_once=40)}).items():
        cut, cut_loss = take_step(tmp_path / name, family, kind, batches)
        assert cut_loss == pytest.approx(loss, rel=1e-6)
        assert len(cut) == len(whole)
        # Of the key's bias the gradient is zero but for rounding, so each is held against the largest of them all.
        scale = max(gradient.abs().max().item() for gradient in whole)
        for mine, theirs in zip(cut, whole, strict=True):
            torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-6 * scale)
