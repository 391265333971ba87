"""Parts of a split keep words and labels together."""

from pathlib import Path

import numpy as np
from tiny import make_tagged, write_conll

from llmkit.config.ner import Ner
from llmkit.config.prepare import Read
from llmkit.tasks.ner.data import load_tagged
from llmkit.tokens.loading import load_tokenizer


def test_taken_rows_have_their_own_labels_and_inputs(bert: str, tmp_path: Path) -> None:
    path = write_conll(tmp_path / "a.conll", make_tagged(12))
    split = load_tagged(Ner(validation=0.5), Read(), {"train": path}, load_tokenizer(bert), 64).splits["validation"]
    part = split.take(np.array([3, 0]))
    for new, old in enumerate((3, 0)):
        assert np.array_equal(part.labels[part.tagged.words_of(new)], split.labels[split.tagged.words_of(old)])
        assert part.rows[new] is split.rows[old] and part.keys[new] == split.keys[old]
    assert len(split.take_evenly(2)) == 2 and len(split.take_fraction(0.01)) == 1
    assert split.take_evenly(99) is split
