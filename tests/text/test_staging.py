"""Staged documents are read back unchanged, with correct totals, from the same bytes each time."""

from pathlib import Path

import pytest

from llmkit.text.documents import Document, hash_text, make_documents
from llmkit.text.staging import (
    DOCUMENTS_FILE,
    TOTALS_FILE,
    Shard,
    link_shards,
    read_keys,
    read_shard,
    read_staged,
    read_totals,
    sample_shards,
    stage_documents,
    write_keys,
)

LONG = "天下大势 all under heaven\n" * 5000
DOCUMENTS = [
    Document("first\n", "a.txt"),
    *make_documents([LONG], "b.zip!b.txt", 0, 1000),
    *(Document(f"row {n}", "c.csv", n) for n in range(3)),
]


def test_documents_come_back_part_by_part_as_they_were(tmp_path: Path) -> None:
    stage_documents(DOCUMENTS, tmp_path / "stage")
    assert list(read_staged(tmp_path / "stage")) == DOCUMENTS


def test_totals_are_of_whole_documents(tmp_path: Path) -> None:
    all_totals = stage_documents(DOCUMENTS, tmp_path)
    totals = list(read_totals(tmp_path))
    assert [total.n_chars for total in totals] == [6, len(LONG), 5, 5, 5]
    assert totals[1].text_hash == hash_text(LONG)
    assert totals[1].n_bytes == len(LONG.encode())
    assert all_totals.n_documents == 5
    assert all_totals.n_bytes == sum(total.n_bytes for total in totals)


def test_the_same_documents_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        stage_documents(iter(DOCUMENTS), tmp_path / name)
    for file in (DOCUMENTS_FILE, TOTALS_FILE):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


def test_nothing_half_written_stands_under_the_final_name(tmp_path: Path) -> None:
    def break_off() -> object:
        yield DOCUMENTS[0]
        assert not (tmp_path / DOCUMENTS_FILE).exists()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stage_documents(break_off(), tmp_path)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_no_documents_are_staged_and_read_as_none(tmp_path: Path) -> None:
    assert stage_documents([], tmp_path).n_documents == 0
    assert list(read_staged(tmp_path)) == list(read_totals(tmp_path)) == []


def test_shards_read_as_one_text_without_what_is_not_kept(tmp_path: Path) -> None:
    stage_documents(DOCUMENTS, tmp_path / "one")
    stage_documents([], tmp_path / "two")
    stage_documents(DOCUMENTS[-3:], tmp_path / "three")
    shards = [(tmp_path / "one", [True, False, True, False, True]), (tmp_path / "two", []), (tmp_path / "three", None)]
    link_shards(tmp_path / "all", shards)
    rows = DOCUMENTS[-3:]
    assert list(read_staged(tmp_path / "all")) == [DOCUMENTS[0], rows[0], rows[2], *rows]
    assert [total.n_chars for total in read_totals(tmp_path / "all")] == [6, 5, 5, 5, 5, 5]
    assert [total.text_hash for total in read_totals(tmp_path / "all")][1] == hash_text("row 0")


def test_keys_come_back_with_their_gaps(tmp_path: Path) -> None:
    keys = [(b"a", None), (b"\0\xff", b"b"), (None, None)]
    write_keys(tmp_path, keys)
    assert list(read_keys(tmp_path)) == keys


def test_only_wanted_documents_of_a_shard_are_read(tmp_path: Path) -> None:
    empty = Document("", "d.txt")
    stage_documents([*DOCUMENTS, empty], tmp_path / "one")
    wanted = [False, True, False, True, False, True]
    found = list(read_shard(Shard(tmp_path / "one"), wanted))
    assert found == [*DOCUMENTS[1:-3], DOCUMENTS[-2], empty]
    link_shards(tmp_path / "kept", [(tmp_path / "one", [False, True, False, True, True, True])])
    kept = Shard(tmp_path / "one", tmp_path / "kept/00000.npy")
    assert list(read_shard(kept, [False, True, False, True])) == [DOCUMENTS[-2], empty]


def sampled(folder: Path, texts: list[str], n_chars: int, stretch: int) -> list[str]:
    stage_documents((Document(text, "x", n) for n, text in enumerate(texts)), folder)
    return sample_shards([Shard(folder, batches=(0, 1)), Shard(folder, batches=(1, 2))], n_chars, stretch)


def test_a_small_text_is_sampled_as_a_whole_and_no_slice_twice(tmp_path: Path) -> None:
    texts = ["first", "two" * 20, "x", "天下" * 40]
    *sample, longest = sampled(tmp_path, texts, 300, 50)
    assert "".join(sample) == "".join(texts)
    assert longest == texts[3]


@pytest.mark.parametrize("batch_chars", [300, 4_000_000])
@pytest.mark.parametrize("length", [5, 50, 5_000])
def test_a_sample_is_spread_evenly_and_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, length: int, batch_chars: int
) -> None:
    monkeypatch.setattr("llmkit.text.staging._BATCH_CHARS", batch_chars)
    text = "".join(f"{n:05d}" for n in range(1000))
    texts = [text[start : start + length] for start in range(0, 5_000, length)]
    *sample, longest = sampled(tmp_path, texts, 600, 50)
    joined = "".join(sample)
    assert 300 <= len(joined) <= 600
    starts = [int(joined[start : start + 5]) for start in range(0, len(joined), 50)]
    assert starts == list(range(0, 1000, 90)), "every ninth stretch of ten numbers"
    assert longest == texts[0][:200]
