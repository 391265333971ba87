"""The store: plain `datasets` folders, unchanged rows, no copies into Python objects."""

import hashlib
from pathlib import Path

import datasets
import numpy as np
import pytest
from tiny import digests, make_split

from llmkit.core.errors import DataError
from llmkit.tokens import store
from llmkit.tokens.store import Row, Split, TokenStream, join_splits, write_split


def test_datasets_opens_the_folder_and_finds_the_same_rows(tiny_split: Split) -> None:
    opened = datasets.load_from_disk(str(tiny_split.folder))
    assert opened.features["input_ids"] == datasets.List(datasets.Value("uint16"))
    assert len(opened) == 7
    assert np.concatenate(opened["input_ids"]).tolist() == tiny_split.stream.read(0, 7 * 29).tolist()
    assert opened.select([2, 4]).filter(lambda row: row["index"] == 4)[0]["n_bytes"] == 29


def test_many_batches_and_files_give_the_same_stream(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = make_split(tmp_path / "whole", n_documents=20, length=31)
    monkeypatch.setattr(store, "TOKENS_PER_BATCH", 64)
    monkeypatch.setattr(store, "BYTES_PER_FILE", 2000)
    cut = make_split(tmp_path / "cut", n_documents=20, length=31)
    assert len(list(cut.folder.glob("*.arrow"))) > 2
    assert cut.stream.read(0, 620).tolist() == whole.stream.read(0, 620).tolist()
    assert len(datasets.load_from_disk(str(cut.folder))) == 20
    assert sum(cut.table.column("n_bytes").to_pylist()) == 620


def test_same_rows_give_the_same_bytes(tmp_path: Path) -> None:
    def digest(folder: Path) -> list[tuple[str, str]]:
        return [(p.name, hashlib.sha256(p.read_bytes()).hexdigest()) for p in sorted(folder.iterdir())]

    one, two = (make_split(tmp_path / name / "train", 9, 17).folder for name in ("a", "b"))
    assert digest(one) == digest(two)


@pytest.mark.parametrize("sentences", [False, True])
def test_joined_parts_have_the_bytes_of_all_rows_written_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sentences: bool
) -> None:
    monkeypatch.setattr(store, "TOKENS_PER_BATCH", 50)
    monkeypatch.setattr(store, "BYTES_PER_FILE", 20_000)
    rng, rows = np.random.default_rng(3), []
    for n, length in enumerate([7, 0, 50, 49, 1, 0, 170, 3, *rng.integers(0, 30, 300)]):
        of_words = (np.arange(3, length, 5), rng.random(length) < 0.3) if sentences else ()
        rows.append(Row(rng.integers(0, 9, length).astype(np.uint8), f"书{n}", n, 0, n, n, "h" * n, *of_words))
    write_split(tmp_path / "data", rows, np.dtype(np.uint8), sentences=sentences)
    assert len(list((tmp_path / "data").glob("*.arrow"))) > 1
    for cuts in ([], [0, 1, 2, 2, 3, 8, 9, 100, 308], range(len(rows))):
        starts = [0, *cuts, len(rows)]
        parts = [tmp_path / f"{len(starts)}-{n}" for n in range(len(starts) - 1)]
        for n, part in enumerate(parts):
            write_split(part, rows[starts[n] : starts[n + 1]], np.dtype(np.uint8), sentences=sentences)
        joined = tmp_path / f"{len(starts)}" / "data"
        join_splits(joined, iter(parts), np.dtype(np.uint8), sentences=sentences)
        assert digests(joined) == digests(tmp_path / "data")


def test_ring_read_wraps_at_both_ends() -> None:
    ring = TokenStream([np.array([1, 2, 3], np.uint16), np.array([4, 5], np.uint16)])
    assert ring.read(-1, 3).tolist() == [5, 1, 2]
    assert ring.read(3, 7).tolist() == [4, 5, 1, 2, 3, 4, 5]
    assert ring.max_id() == 5


@pytest.mark.parametrize(("dtype", "largest"), [(np.uint8, 255), (np.uint16, 65_535), (np.uint32, 70_000)])
def test_every_id_type_comes_back_whole(tmp_path: Path, dtype: type, largest: int) -> None:
    write_split(tmp_path / "ids", [Row(np.array([0, largest]), "", 0, 0, 1, 1, "")], np.dtype(dtype))
    assert Split(tmp_path / "ids").stream.read(0, 2).tolist() == [0, largest]
    assert datasets.load_from_disk(str(tmp_path / "ids")).features["input_ids"].feature.dtype == np.dtype(dtype).name


def test_truncated_file_is_an_error_with_its_folder(tiny_split: Split) -> None:
    file = next(tiny_split.folder.glob("*.arrow"))
    file.write_bytes(file.read_bytes()[:200])
    with pytest.raises(DataError, match=r"damaged"):
        Split(tiny_split.folder).stream  # noqa: B018


def test_rows_come_back_as_they_were_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "TOKENS_PER_BATCH", 5)
    rows = [
        Row(
            np.arange(n, dtype=np.uint16), f"{n}.txt", n, n % 2, 3 * n, 4 * n, f"hash {n}",
            np.arange(1, n // 2 + 1, dtype=np.int32), np.arange(n) % 3 == 1,
        )
        for n in (1, 0, 4, 2, 9, 1)
    ]  # fmt: skip
    write_split(tmp_path / "first", rows, np.dtype(np.uint16), sentences=True)
    found = list(Split(tmp_path / "first").rows())
    assert [row.continues_word.tolist() for row in found] == [row.continues_word.tolist() for row in rows]
    assert [(row.source, row.index, row.part, row.hash) for row in found] == [
        (row.source, row.index, row.part, row.hash) for row in rows
    ]
    (tmp_path / "again").mkdir()
    write_split(tmp_path / "again/first", found, np.dtype(np.uint16), sentences=True)
    for name in ("data-00000.arrow", "state.json", "dataset_info.json"):
        assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "again/first" / name).read_bytes()
    write_split(tmp_path / "none", [], np.dtype(np.uint16))
    assert list(Split(tmp_path / "none").rows()) == []
