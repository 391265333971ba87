"""Batches of rows: token logits do not depend on the other rows of a batch, also for models that padding changes."""

import numpy as np
import torch
from tiny import make_bert
from transformers import BertForTokenClassification

from llmkit.datasets.labelled import Input
from llmkit.models.inputs import collate_inputs, group_by_length, score_tokens


def test_logits_of_tokens_are_those_of_each_input_alone() -> None:
    model = make_bert(BertForTokenClassification, num_labels=3).eval()
    rows = [[Input(np.arange(5, 5 + n), n)] for n in (3, 7, 5)]
    for pad in (0, None):  # without a pad token, inputs are grouped by length
        model.config.pad_token_id = pad
        with torch.inference_mode():
            together = score_tokens(model, collate_inputs(rows, 0, False), lambda output: output.logits)
            for row, logits in zip(rows, together, strict=True):
                alone = score_tokens(model, collate_inputs([row], 0, False), lambda output: output.logits)[0]
                assert torch.allclose(logits[: len(alone)], alone, atol=1e-5)
        assert together.shape == (3, 7, 3)


def test_groups_hold_rows_of_similar_length_within_the_limit_of_tokens() -> None:
    groups = list(group_by_length(np.array([9, 1, 5, 2, 8]), 10))
    assert [group.tolist() for group in groups] == [[1, 3], [2], [4], [0]]
