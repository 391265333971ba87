"""The objective of BERT against the losses of transformers; padding and batch sizes have no effect."""

from pathlib import Path

import pytest
import torch
from tiny import make_bert, make_documents, make_pairs, make_sentence_split
from transformers import BertForMaskedLM

from llmkit.datasets.pairs import NO_PAIR, Example, SentenceObjective
from llmkit.tasks.mlm.objective import MaskedLM, predict
from llmkit.tokens.store import Split


@pytest.fixture
def split(tmp_path: Path) -> Split:
    return make_sentence_split(tmp_path / "train", make_documents(8, 1, 20))


def examples(split: Split, n: int = 8, sentence_objective: SentenceObjective = "nsp") -> list[Example]:
    pairs = make_pairs(split, sentence_objective, block_size=48)
    return [pairs[number] for number in range(n)]


def to_labels(batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Labels for transformers: -100 at positions that are not predicted."""
    labels = torch.full_like(batch["input_ids"], -100)
    labels.view(-1)[batch["masked_indices"]] = batch["masked_ids"]
    return labels


def test_losses_equal_those_of_transformers(split: Split) -> None:
    objective, model = MaskedLM(0, "nsp"), make_bert()
    batch = objective.collate(examples(split))
    assert "attention_mask" in batch
    sums, counts = objective.sum_losses(model, batch), objective.count(batch)
    inputs = {name: batch[name] for name in ("input_ids", "token_type_ids", "attention_mask")}
    reference = model(**inputs, labels=to_labels(batch), next_sentence_label=batch["relations"])
    assert sum(sums[name] / counts[name] for name in sums).item() == pytest.approx(reference.loss.item(), rel=1e-6)
    sum(sums[name] / counts[name] for name in sums).backward()
    ours = [weight.grad.clone() for weight in model.parameters()]
    model.zero_grad()
    reference.loss.backward()
    for mine, theirs in zip(ours, model.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs.grad, rtol=1e-4, atol=1e-6)


def test_full_sentences_have_no_pair_loss(split: Split) -> None:
    objective, model = MaskedLM(0, "none"), make_bert(BertForMaskedLM)
    batch = objective.collate(examples(split, sentence_objective="none"))
    sums = objective.sum_losses(model, batch)
    assert set(sums) == set(objective.count(batch)) == {"mlm_loss"}
    inputs = {name: batch[name] for name in ("input_ids", "token_type_ids", "attention_mask")}
    reference = model(**inputs, labels=to_labels(batch)).loss.item()
    assert sums["mlm_loss"].item() / len(batch["masked_ids"]) == pytest.approx(reference, rel=1e-6)


def test_padding_does_not_change_the_masked_loss(split: Split) -> None:
    objective, model = MaskedLM(0, "nsp"), make_bert()
    together = objective.sum_losses(model, objective.collate(examples(split)))
    alone = [objective.sum_losses(model, objective.collate([example])) for example in examples(split)]
    for name in together:
        assert together[name].item() == pytest.approx(sum(sums[name].item() for sums in alone), rel=1e-6)


def test_only_the_second_segment_has_token_type_one(split: Split) -> None:
    drawn = examples(split)
    batch = MaskedLM(0, "nsp").collate(drawn)
    for row, example in enumerate(drawn):
        n_tokens = len(example.input_ids)
        expected = [0] * example.n_first + [1] * (n_tokens - example.n_first)
        assert batch["token_type_ids"][row, :n_tokens].tolist() == expected
        assert not batch["token_type_ids"][row, n_tokens:].any()
        assert batch["attention_mask"][row].tolist() == [1] * n_tokens + [0] * (
            len(batch["attention_mask"][row]) - n_tokens
        )


def test_batch_without_padding_has_no_mask(split: Split) -> None:
    full = [example for example in examples(split, 40) if len(example.input_ids) == 48]
    batch = MaskedLM(0, "nsp").collate(full)
    assert "attention_mask" not in batch
    assert MaskedLM(0, "nsp").count_tokens(batch) == 48 * len(full)


def test_example_without_a_pair_is_not_counted_as_a_pair(split: Split) -> None:
    objective, model = MaskedLM(0, "sop"), make_bert()
    batch = objective.collate(examples(split, sentence_objective="sop"))
    before = objective.sum_losses(model, batch)["sop_loss"].item()
    batch["relations"][2] = NO_PAIR
    assert objective.count(batch)["sop_loss"] == 7
    assert 0 < objective.sum_losses(model, batch)["sop_loss"].item() < before


def test_only_masked_positions_are_decoded(split: Split) -> None:
    batch = MaskedLM(0, "nsp").collate(examples(split))
    token_logits, pair_logits = predict(make_bert(), batch)
    assert token_logits.shape == (len(batch["masked_ids"]), 100)
    assert pair_logits is not None
    assert pair_logits.shape == (8, 2)
