"""A record of a source counts what was skipped, and an input without any document is an error."""

import logging
from collections import Counter

import pytest

from llmkit.core.errors import DataError
from llmkit.text.documents import StepCounts
from llmkit.text.sources import Source, require_documents


def test_all_that_is_skipped_is_counted_and_only_the_first_few_are_reported(caplog: pytest.LogCaptureFixture) -> None:
    source = Source("a.csv")
    with caplog.at_level(logging.WARNING):
        for row in range(100):
            source.skip("bad row", f"a.csv:{row}")
        source.skip("empty text", "a.csv:100")
    assert source.skipped == Counter({"bad row": 100, "empty text": 1})
    assert len(caplog.records) == 6
    assert "a.csv:100 (empty text)" in caplog.text


def test_error_where_nothing_is_left_adds_up_all_sources_and_steps() -> None:
    records = [Source(f"{n}.txt", documents=2, skipped=Counter({"bad row": 3})) for n in range(7)]
    counts = {"quality": StepCounts(dropped=Counter({"too short": 14}))}
    with pytest.raises(DataError) as caught:
        require_documents(records, counts, 0)
    [problem] = caught.value.problems
    assert "14 read from 7 sources, 0 left (bad row: 21; quality: too short: 14)" in problem.what
    assert problem.where == "0.txt, 1.txt, 2.txt, 3.txt, 4.txt, ..."
    with pytest.raises(DataError, match="0 read from 1 source, 0 left"):
        require_documents([Source("a.txt")], {}, 0)
    require_documents(records, counts, 1)
