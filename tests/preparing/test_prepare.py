"""`prepare` from files to a prepared folder: no document is lost or repeated, and the bytes are always the same."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import datasets
import numpy as np
import pytest
from tiny import digests
from transformers import AutoTokenizer

from llmkit.cli.output import show_receipt
from llmkit.config.loading import load_recipe
from llmkit.config.prepare import Prepare
from llmkit.core.errors import DataError, EnvironmentFault, UsageError
from llmkit.preparing.prepare import prepare

CHINESE = "却说曹操大喜，遂引兵追之。玄德曰：“此天助我也！”\n　　次日天明，众将皆至……\n\n"
ENGLISH = "It was the best of times, it was the worst of times.\n\nCall me Ishmael. Some years ago.\n\n"


def settings(*overrides: str) -> Prepare:
    small = ["prepare.tokenizer.vocab_size=300", "prepare.split.validation=0.2", "prepare.split.test=0.1"]
    return load_recipe(None, [*small, *overrides]).prepare


def make_books(folder: Path, n: int = 4) -> Path:
    folder.mkdir()
    for number in range(n):
        text = "".join(f"{ENGLISH}{number * 100 + line} {CHINESE}" for line in range(20))
        (folder / f"{number}.txt").write_text(text, encoding="utf-8")
    return folder


@pytest.mark.parametrize("kind", ["byte-bpe", "char"])
def test_stored_tokens_decode_to_the_very_text(tmp_path: Path, kind: str) -> None:
    books = make_books(tmp_path / "books", 1)
    prepare([str(books)], tmp_path / "data", settings(f"prepare.tokenizer.kind={kind}"))
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "data/tokenizer")
    ids = [i for name in ("train", "validation", "test") for i in _ids(tmp_path / "data" / name)[:-1]]
    cleaned = (books / "0.txt").read_text(encoding="utf-8").replace("　　", "")
    assert tokenizer.decode(ids).rstrip() == cleaned.rstrip()


def _ids(split: Path) -> list[int]:
    return np.concatenate(datasets.load_from_disk(str(split))["input_ids"]).tolist()


def test_every_document_ends_in_end_of_text_and_the_receipt_adds_up(tmp_path: Path) -> None:
    prepared = prepare([str(make_books(tmp_path / "books"))], tmp_path / "data", settings())
    end = AutoTokenizer.from_pretrained(prepared.tokenizer_path).eos_token_id
    for name, totals in prepared.manifest["splits"].items():
        rows = datasets.load_from_disk(str(tmp_path / "data" / name))
        assert all(row[-1] == end and end not in row[:-1] for row in rows["input_ids"])
        assert totals["tokens"] == sum(map(len, rows["input_ids"]))
        assert totals["bytes"] == sum(rows["n_bytes"])
        assert totals["documents"] == len(rows)
    source = sum(s["characters"] for s in prepared.manifest["sources"])
    kept = sum(s["characters"] for s in prepared.manifest["splits"].values())
    assert 0 < source - kept < 4 * 20 * 6  # the full-width indents and trailing blank lines


def test_receipt_names_everything_that_was_skipped_removed_and_dropped(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    books = make_books(tmp_path / "books", 2)
    (books / "copy.txt").write_bytes((books / "0.txt").read_bytes())
    (books / "picture.txt").write_bytes(b"\x89PNG" + bytes(2000))
    for name in ("old.doc", ".hidden.txt"):
        (books / name).touch()
    (books / "bell.txt").write_text(ENGLISH * 5 + "ding\a dong\a\n")
    manifest = prepare([str(books)], tmp_path / "data", settings("prepare.read.skip_bad=true")).manifest
    assert manifest["steps"]["exact copies"]["dropped"] == {"seen before": 1}
    assert sum(manifest["steps"]["controls"]["removed"].values()) == 2
    skipped = [source["skipped"] for source in manifest["sources"] if source["skipped"]]
    assert skipped == [{"unreadable file": 1}, {".doc file": 1, "hidden file": 1}]
    capsys.readouterr()
    show_receipt(manifest)
    shown = capsys.readouterr().out
    assert "dropped documents: 1 seen before" in shown
    assert "1 unreadable file" in shown


def test_same_request_again_does_nothing_and_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    books = make_books(tmp_path / "books")
    prepare([str(books)], tmp_path / "data", settings())
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "data").rglob("*")}
    capsys.readouterr()
    prepare([str(books)], tmp_path / "data", settings())
    assert "nothing to do" in capsys.readouterr().err
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "data").rglob("*")}


@pytest.mark.parametrize("change", ["text", "setting"])
def test_changed_request_is_built_with_overwrite(tmp_path: Path, change: str) -> None:
    books = make_books(tmp_path / "books")
    first = prepare([str(books)], tmp_path / "data", settings()).manifest
    if change == "text":
        (books / "0.txt").write_text(ENGLISH * 50)
    second = prepare(
        [str(books)],
        tmp_path / "data",
        settings(*["prepare.tokenizer.vocab_size=290"][change == "text" :]),
        overwrite=True,
    )
    assert second.manifest["request"] != first["request"]
    assert second.manifest["splits"] != first["splits"]


def test_two_runs_write_the_same_bytes(tmp_path: Path) -> None:
    books = make_books(tmp_path / "books")
    for name in ("a", "b"):
        prepare([str(books)], tmp_path / name, settings())
    assert digests(tmp_path / "a") == digests(tmp_path / "b")


@pytest.mark.parametrize("seconds", [0.05, 0.4])
def test_killed_run_leaves_no_folder_that_looks_complete(tmp_path: Path, seconds: float) -> None:
    books = make_books(tmp_path / "books", 60)
    prepare([str(books)], tmp_path / "clean", settings())
    arguments = ["prepare", str(books), "--out", str(tmp_path / "data"), "-s", "prepare.tokenizer.vocab_size=300"]
    arguments += ["-s", "prepare.split.validation=0.2", "-s", "prepare.split.test=0.1"]
    process = subprocess.Popen([sys.executable, "-m", "llmkit", *arguments], stderr=subprocess.DEVNULL)
    partial = tmp_path / ".data.partial"
    while process.poll() is None and not partial.exists():
        time.sleep(0.01)
    time.sleep(seconds)
    killed = process.poll() is None
    os.kill(process.pid, signal.SIGKILL) if killed else None
    process.wait()
    # Whatever stands under the final name is whole; a process killed in its last moments may have got that far.
    assert not (tmp_path / "data").exists() or digests(tmp_path / "data") == digests(tmp_path / "clean")
    prepare([str(books)], tmp_path / "data", settings())
    assert digests(tmp_path / "data") == digests(tmp_path / "clean")
    assert not partial.exists()


def test_same_text_in_four_encodings_gives_the_same_documents(tmp_path: Path) -> None:
    found = set()
    for encoding in ("utf-8", "utf-8-sig", "gb18030", "utf-16"):
        book = tmp_path / f"{encoding}.txt"
        book.write_bytes((CHINESE * 40).replace("\n", "\r\n").encode(encoding))
        manifest = prepare([str(book)], tmp_path / encoding, settings()).manifest
        found.add(tuple((name, split["documents_hash"], split["tokens"]) for name, split in manifest["splits"].items()))
    assert len(found) == 1


def test_own_validation_file_takes_the_place_of_a_share(tmp_path: Path) -> None:
    books = make_books(tmp_path / "books", 2)
    (tmp_path / "held.txt").write_text(CHINESE * 3, encoding="utf-8")
    prepared = prepare([str(books)], tmp_path / "data", settings(), validation=str(tmp_path / "held.txt"))
    assert list(prepared.manifest["splits"]) == ["train", "validation"]
    assert prepared.manifest["splits"]["train"]["documents"] == 2
    assert prepared.manifest["splits"]["validation"]["documents"] == 1


def test_existing_tokenizer_is_taken_as_it_is(tmp_path: Path) -> None:
    books = make_books(tmp_path / "books")
    first = prepare([str(books)], tmp_path / "a", settings())
    second = prepare([str(books)], tmp_path / "b", settings(f"prepare.tokenizer.path={tmp_path / 'a/tokenizer'}"))
    assert first.manifest["tokenizer"]["fingerprint"] == second.manifest["tokenizer"]["fingerprint"]
    assert first.manifest["splits"] == second.manifest["splits"]


def test_empty_input_names_the_file_and_writes_nothing(tmp_path: Path) -> None:
    (tmp_path / "empty.txt").touch()
    with pytest.raises(DataError) as caught:
        prepare([str(tmp_path / "empty.txt")], tmp_path / "data", settings())
    assert "empty.txt" in str(caught.value)
    assert not (tmp_path / "data").exists()
    assert not (tmp_path / ".data.partial").exists()


FEW = ("prepare.split.validation=0.05", "prepare.split.test=0.05")


def test_split_that_would_be_empty_is_an_error_with_the_way_out(tmp_path: Path) -> None:
    (tmp_path / "lines.txt").write_text("short\nlines\n")
    with pytest.raises(DataError, match="no text is left for the") as caught:
        prepare([str(tmp_path / "lines.txt")], tmp_path / "data", settings("prepare.read.documents=line", *FEW))
    assert "prepare.split" in str(caught.value)
    assert not (tmp_path / "data").exists()


def test_held_out_split_that_is_too_small_is_named(tmp_path: Path) -> None:
    lines = "".join(f"Sentence number {number} stands alone.\n" for number in range(30))
    (tmp_path / "lines.txt").write_text(lines)
    prepared = prepare([str(tmp_path / "lines.txt")], tmp_path / "data", settings("prepare.read.documents=line"))
    notes = " ".join(prepared.manifest["notes"])
    assert "the validation split has only" in notes and "the test split has only" in notes
    assert prepared.manifest["split_by"] == "document"


def test_changed_tokenizer_under_the_same_path_is_noticed(tmp_path: Path) -> None:
    books = make_books(tmp_path / "books")
    for size in ("300", "280"):
        prepare([str(books)], tmp_path / "first", settings(f"prepare.tokenizer.vocab_size={size}"), overwrite=True)
        own = settings(f"prepare.tokenizer.path={tmp_path / 'first/tokenizer'}")
        if size == "280":
            with pytest.raises(UsageError, match=r"the tokenizer's files at prepare\.tokenizer\.path"):
                prepare([str(books)], tmp_path / "data", own)
        manifest = prepare([str(books)], tmp_path / "data", own, overwrite=True).manifest
        assert manifest["tokenizer"]["vocab_size"] == int(size)


def test_folder_that_is_not_ours_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data/thesis.tex").touch()
    with pytest.raises(UsageError, match="not a prepared folder"):
        prepare([str(make_books(tmp_path / "books"))], tmp_path / "data", settings())
    assert (tmp_path / "data/thesis.tex").exists()


def test_out_that_cannot_be_written_fails_before_anything_is_read(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(EnvironmentFault, match="cannot write"):
        prepare(["there-is-no-such-input"], tmp_path / "file/data", settings())
