"""What scoring has in common: the context, and text as it is."""

import json
from pathlib import Path

import pytest
from tiny import make_gpt2, make_recurrent

from llmkit.config.evaluate import Evaluate
from llmkit.config.prepare import Read
from llmkit.core.errors import UsageError
from llmkit.tasks.scoring import choose_block_size, read_as_is


def test_context_is_the_one_asked_for_else_that_of_training_else_the_models_else_the_default() -> None:
    model = make_gpt2(n_positions=16)
    assert choose_block_size(model, Evaluate(block_size=4), 8, 99) == 4
    assert choose_block_size(model, Evaluate(), 8, 99) == 8
    assert choose_block_size(model, Evaluate(), None, 99) == 16
    assert choose_block_size(make_recurrent(), Evaluate(), None, 99) == 99


@pytest.mark.parametrize(("asked", "own"), [(17, None), (None, 17)])
def test_context_beyond_the_models_positions_is_refused(asked: int | None, own: int | None) -> None:
    with pytest.raises(UsageError, match="block_size 17 does not fit the model's 16 positions") as caught:
        choose_block_size(make_gpt2(n_positions=16), Evaluate(block_size=asked), own, 99)
    assert "16 or less" in caught.value.problems[0].hint


def test_text_is_scored_uncleaned_but_for_what_nothing_can_encode(tmp_path: Path) -> None:
    text = "  clichÃ© \u3000 e\u0301\n\n\n\n"
    (tmp_path / "a.txt").write_text(text)
    (tmp_path / "b.jsonl").write_text(json.dumps({"text": "lone \ud800 half"}) + "\n")
    found = [document.text for document in read_as_is([str(tmp_path)], Read())]
    assert found == [text, "lone ? half"]
