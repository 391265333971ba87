"""The loss is the sum over words, whatever the batch; it equals torch's cross-entropy."""

import numpy as np
import pytest
import torch
from tiny import SUM_ORDER, make_bert
from transformers import BertForTokenClassification

from llmkit.datasets.examples import Example
from llmkit.datasets.labelled import Input
from llmkit.tasks.ner.objective import IGNORED, Tagging


def make_examples() -> list[Example]:
    rng = np.random.default_rng(0)
    examples = []
    for n in (4, 9, 6):
        labels = np.where(rng.random(n) < 0.5, rng.integers(0, 3, n), IGNORED)
        examples.append(Example([Input(rng.integers(5, 100, n), n)], labels))
    return examples


def test_loss_is_the_sum_over_words_and_does_not_depend_on_the_batch() -> None:
    model, examples = make_bert(BertForTokenClassification, num_labels=3).eval(), make_examples()
    objective = Tagging(0, False)
    batch = objective.collate(examples)
    together = objective.sum_losses(model, batch)["loss"].item()
    alone = sum(objective.sum_losses(model, objective.collate([each]))["loss"].item() for each in examples)
    assert together == pytest.approx(alone, **SUM_ORDER)
    output = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], labels=batch["labels"])
    assert together / objective.count(batch)["loss"] == pytest.approx(output.loss.item(), rel=1e-4)
    assert objective.count_tokens(batch) == 19 and objective.length(examples[1]) == 9


def test_class_weights_multiply_the_losses_of_their_tags() -> None:
    logits, labels = torch.randn(4, 3), torch.tensor([0, 1, 2, 2])
    plain = Tagging(0, False).losses(logits, labels)
    weighted = Tagging(0, False, torch.tensor([1.0, 2.0, 0.5])).losses(logits, labels)
    assert torch.allclose(weighted, plain * torch.tensor([1.0, 2.0, 0.5, 0.5]))
