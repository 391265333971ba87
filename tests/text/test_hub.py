"""Data sets: local ones are read without a network, and what is missing is said."""

import socket
from pathlib import Path

import pytest
from huggingface_hub import constants

from llmkit.config.prepare import Read
from llmkit.core.errors import EnvironmentFault, LlmkitError
from llmkit.text.readers import read_documents
from llmkit.text.sources import Source


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
        read(f"hf:{saved}", text_column="body")


def test_a_data_set_that_is_neither_here_nor_reachable_is_no_bug_of_ours() -> None:
    with pytest.raises(LlmkitError) as caught:
        read("hf:nobody-at-all/nothing-of-the-kind")
    assert caught.value.exit_code in (3, 4)


def test_hub_that_cannot_be_reached_is_asked_once_and_then_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
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
