"""Pseudo-perplexity against its formula: each token is masked by itself."""

import math
from pathlib import Path

import pytest
import torch
from tiny import make_bert, make_documents, make_pairs, make_sentence_split

from llmkit.tasks.mlm.pseudo_perplexity import score_documents
from llmkit.tokens.store import Split


@pytest.fixture
def split(tmp_path: Path) -> Split:
    return make_sentence_split(tmp_path / "held", make_documents(6, 1, 15))


@torch.no_grad()
def test_pseudo_perplexity_masks_each_token_once(split: Split) -> None:
    model, pairs = make_bert().eval(), make_pairs(split, block_size=20)
    records = score_documents(model, pairs, max_tokens=30, batch_size=4)
    assert [record["index"] for record in records] == list(range(6))
    for record in records:
        start, _ = pairs.sentences.range_of(record["index"])
        nats = 0.0
        for begin, length in ((start, 18), (start + 18, 12)):
            ids = torch.tensor([2, *pairs.sentences.split.stream.read(begin, length).tolist(), 3])
            for place in range(1, length + 1):
                masked = ids.clone()
                masked[place] = 4
                logits = model(input_ids=masked[None]).prediction_logits[0, place]
                nats -= logits.double().log_softmax(0)[ids[place]].item()
        assert record["n_tokens"] == 30
        assert record["pseudo_perplexity"] == pytest.approx(math.exp(nats / 30), rel=1e-5)


def test_end_of_text_is_not_scored(split: Split) -> None:
    pairs = make_pairs(split, block_size=48)
    records = score_documents(make_bert().eval(), pairs, max_tokens=10**6, batch_size=32)
    assert sum(record["n_tokens"] for record in records) == len(split.stream) - 6
