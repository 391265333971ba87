"""The stages of `prepare` give the folder of a single process, for any order of shards and any executor."""

import multiprocessing
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from books import NEAR, settings, write_bad_files, write_books
from tiny import digests

from llmkit.core.errors import DataError
from llmkit.preparing import shards
from llmkit.preparing.executors import EXECUTORS, LOCAL, Attempt, Executor
from llmkit.preparing.prepare import prepare
from llmkit.preparing.shards import cut_files
from llmkit.preparing.staging_dir import WorkersLost
from llmkit.text import staging
from llmkit.tokens.fast_encoding import EncoderCheck, check_encoder


@pytest.fixture(scope="module")
def books(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_books(tmp_path_factory.mktemp("books"))
    write_bad_files(folder)
    return folder


@pytest.fixture(autouse=True)
def _shards_are_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "SHARD_BYTES", 12_000)


Run = Callable[[Callable[[Any], Any], Sequence[Any]], Iterator[Any]]


def use(monkeypatch: pytest.MonkeyPatch, name: str, run: Run) -> None:
    @contextmanager
    def opened(work: Path) -> Iterator[Run]:
        yield run

    monkeypatch.setitem(EXECUTORS, name, Executor(lambda: None, opened))


def backwards(function: Callable[[Any], Any], tasks: Sequence[Any]) -> Iterator[Any]:
    results = [function(task) for task in reversed(tasks)]
    yield from reversed(results)


def everything_twice(function: Callable[[Any], Any], tasks: Sequence[Any]) -> Iterator[Any]:
    """As an executor that took all its workers for dead."""
    for task in tasks:
        function(task)
    yield from map(function, tasks)


@pytest.fixture(scope="module")
def two_processes() -> Iterator[Run]:
    with multiprocessing.get_context("spawn").Pool(2) as pool:

        def run(function: Callable[[Any], Any], tasks: Sequence[Any]) -> Iterator[Any]:
            results = pool.imap(function, tasks)
            try:
                yield from results
            finally:
                for _ in results:  # as executors end what nobody waits for
                    pass

        yield run


FIRST = ("prepare.read.skip_bad=true", *NEAR)
VARIANTS = {
    "by document, near copies": (*FIRST, "prepare.split.by=document"),
    "by position, paragraphs, parts": (
        "prepare.read.skip_bad=true", "prepare.dedup.paragraphs=true", "prepare.split.by=position",
        "prepare.read.max_doc_chars=1000",
    ),
    "sentences and words of BERT": ("prepare.read.skip_bad=true", "prepare.tokenizer.kind=wordpiece"),
    "lines, no copies dropped": (
        "prepare.read.skip_bad=true", "prepare.read.documents=line", "prepare.dedup.documents=false",
    ),
}  # fmt: skip


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("engine", [backwards, everything_twice])
def test_any_order_of_shards_gives_the_bytes_of_one_process(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, books: Path, engine: Run, variant: str
) -> None:
    use(monkeypatch, "fake", engine)
    wanted = settings(*VARIANTS[variant])
    manifest = prepare([str(books)], tmp_path / "one", wanted).manifest
    assert len(cut_files(sorted(map(str, books.iterdir())))) > 5
    prepare([str(books)], tmp_path / "shards", wanted, engine="fake")
    assert digests(tmp_path / "shards") == digests(tmp_path / "one")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "shards"]
    if wanted.dedup.documents:
        assert manifest["steps"]["exact copies"]["dropped"] == {"seen before": 2}
    if wanted.dedup.near:
        assert manifest["steps"]["near copies"]["dropped"] == {"nearly seen before": 2}
    if wanted.dedup.paragraphs:
        assert manifest["steps"]["paragraph copies"]["removed"]["paragraphs"] > 25


@pytest.mark.parametrize(
    "variant", ["by position, paragraphs, parts", "sentences and words of BERT", "lines, no copies dropped"]
)
def test_one_large_file_in_slices_gives_the_bytes_of_one_process(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, books: Path, variant: str
) -> None:
    one_file = tmp_path / "books.txt"
    one_file.write_bytes(b"".join(path.read_bytes() for path in sorted(books.glob("[0-9]*.txt"))))
    wanted = settings(*VARIANTS[variant], "prepare.read.max_doc_chars=1000")
    prepare([str(one_file)], tmp_path / "one", wanted)
    use(monkeypatch, "fake", backwards)
    monkeypatch.setattr(staging, "_BATCH_CHARS", 1_500)
    monkeypatch.setattr(staging, "_BATCH_ROWS", 20)
    monkeypatch.setattr(staging, "_BATCHES_PER_SLICE", 2)
    prepare([str(one_file)], tmp_path / "shards", wanted, engine="fake")
    assert digests(tmp_path / "shards") == digests(tmp_path / "one")


def test_separate_processes_give_the_bytes_of_one_process(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, books: Path, two_processes: Run
) -> None:
    use(monkeypatch, "fake", two_processes)
    monkeypatch.chdir(books.parent)  # inputs are named from here, on workers too
    given = {"validation": f"{books.name}/01.txt", "test": f"{books.name}/02.txt"}
    inputs = [f"{books.name}/{n:02}*.txt" for n in range(3, 30)]
    for name, engine in (("one", LOCAL), ("shards", "fake")):
        prepare(inputs, tmp_path / name, settings(), engine=engine, **given)
    assert digests(tmp_path / "shards") == digests(tmp_path / "one")
    source = prepare(inputs, tmp_path / "one", settings(), **given).manifest["sources"][0]
    assert source["path"] == f"{books.name}/03-again.txt"


def test_own_tokenizer_is_loaded_by_workers_as_it_was_given(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, books: Path
) -> None:
    use(monkeypatch, "fake", backwards)
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "it", "was", "the", "of", "times", *"0123456789.,"]
    (tmp_path / "vocab.txt").write_text("\n".join(vocabulary))
    given = settings("prepare.read.skip_bad=true", f"prepare.tokenizer.path={tmp_path / 'vocab.txt'}")
    for name, engine in (("one", LOCAL), ("shards", "fake")):
        prepare([str(books)], tmp_path / name, given, engine=engine)
    assert digests(tmp_path / "shards") == digests(tmp_path / "one")


def test_fast_encoder_is_checked_once_a_run_on_text_of_all_splits(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, books: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    use(monkeypatch, "fake", backwards)
    samples: list[str] = []

    def checked(tokenizer: Any, sample: Sequence[str], characters: set[str], **more: bool) -> EncoderCheck:
        samples.append("".join(sample))
        assert {"龘", "玄"} <= characters
        return check_encoder(tokenizer, sample, characters, **more)

    held_out = tmp_path / "held-out.txt"
    held_out.write_text("Only here stands 龘.\n" * 20, encoding="utf-8")
    given = {"validation": str(held_out), "test": str(books / "02.txt")}
    monkeypatch.setattr(shards, "check_encoder", checked)
    prepare([str(books)], tmp_path / "data", settings(*FIRST), engine="fake", **given)
    (sample,) = samples
    assert all(text in sample for text in ("Only here stands 龘.", "It was the 1100th", "玄德曰"))
    monkeypatch.setattr(shards, "check_encoder", lambda *_, **__: EncoderCheck(reason="it is odd"))
    capsys.readouterr()
    prepare([str(books)], tmp_path / "slow", settings(*FIRST), engine="fake", **given)
    assert "tokenizing with the tokenizers library: it is odd\n" in capsys.readouterr().err
    assert digests(tmp_path / "slow") == digests(tmp_path / "data")


def test_first_bad_file_is_the_error_whichever_worker_met_which_first(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, books: Path, two_processes: Run
) -> None:
    use(monkeypatch, "fake", two_processes)
    shutil.copytree(books, tmp_path / "books")
    (tmp_path / "books/29.txt").write_bytes(b"\x89PNG" + bytes(2000))
    (tmp_path / "books/binary.txt").unlink()
    (tmp_path / "books/05.txt").write_bytes(b"\x89PNG" + bytes(2000))
    output = []
    for engine in (LOCAL, "fake"):
        with pytest.raises(DataError, match=r"05\.txt") as caught:
            prepare([str(tmp_path / "books")], tmp_path / "data", settings(), engine=engine)
        output.append(str(caught.value))
    assert output[0] == output[1]
    assert not (tmp_path / ".data.partial").exists()


def test_warnings_of_workers_are_reported_by_the_command(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, books: Path, caplog: pytest.LogCaptureFixture, two_processes: Run
) -> None:
    use(monkeypatch, "fake", two_processes)
    lines = []
    for name, engine in (("one", LOCAL), ("shards", "fake")):
        caplog.clear()
        prepare([str(books)], tmp_path / name, settings(*FIRST), engine=engine)
        lines.append([record.getMessage() for record in caplog.records])
    assert lines[0] == lines[1]
    assert any("binary.txt" in line for line in lines[0])


class Dies:
    """An executor whose worker dies for good at one call of a function's."""

    def __init__(self, function: str, calls: int) -> None:
        self.function, self.left = function, calls
        self.done: list[str] = []

    def __call__(self, function: Any, tasks: Sequence[Any]) -> Iterator[Any]:
        for task in tasks:
            if function.run.func.__name__ == self.function:
                self.left -= 1
                if self.left < 0:
                    raise WorkersLost("all workers died", where="--engine", hint="run it again")
            yield function(task)


@pytest.mark.parametrize(("function", "calls"), [("clean_shard", 3), ("encode_shard", 2), ("match_shard", 1)])
def test_shards_that_were_finished_are_not_done_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, books: Path, capsys: pytest.CaptureFixture[str],
    function: str, calls: int,
) -> None:  # fmt: skip
    wanted = settings(*FIRST)
    prepare([str(books)], tmp_path / "one", wanted)
    use(monkeypatch, "fake", Dies(function, calls))
    with pytest.raises(WorkersLost):
        prepare([str(books)], tmp_path / "data", wanted, engine="fake")
    work = tmp_path / ".data.partial"
    before = {path: path.stat().st_mtime_ns for path in (work / "finished").iterdir()}
    assert f"cleaned-main-{calls - 1:05d}.json" in {path.name for path in before}
    assert ("encoded-train-00001.json" in {path.name for path in before}) == (function != "clean_shard")
    again: list[str] = []

    def recorded(attempt: Attempt, tasks: Sequence[Any]) -> Iterator[Any]:
        for task in tasks:
            result = attempt(task)
            marks = {path: path.stat().st_mtime_ns for path in (work / "finished").iterdir()}
            again.extend(path.name for path in before if marks[path] != before[path])
            yield result

    use(monkeypatch, "other", recorded)
    capsys.readouterr()
    prepare([str(books)], tmp_path / "data", wanted, engine="other")
    assert "resuming from the finished stages of an earlier run: cleaned-main (" in capsys.readouterr().err
    assert not again
    assert digests(tmp_path / "data") == digests(tmp_path / "one")


def test_damaged_shard_of_a_stopped_run_is_rebuilt(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, books: Path
) -> None:
    wanted = settings(*FIRST)
    prepare([str(books)], tmp_path / "one", wanted)
    use(monkeypatch, "fake", Dies("encode_shard", 3))
    with pytest.raises(WorkersLost):
        prepare([str(books)], tmp_path / "data", wanted, engine="fake")
    for name in ("cleaned/cleaned-main-00001/documents.arrow", "encoded/encoded-train-00001/data-00000.arrow"):
        path = tmp_path / ".data.partial" / name
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
    use(monkeypatch, "fake", backwards)
    prepare([str(books)], tmp_path / "data", wanted, engine="fake")
    assert digests(tmp_path / "data") == digests(tmp_path / "one")


def test_run_that_lost_its_workers_can_be_resumed_in_this_process(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, books: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prepare([str(books)], tmp_path / "one", settings(*FIRST))
    use(monkeypatch, "fake", Dies("encode_shard", 3))
    with pytest.raises(WorkersLost):
        prepare([str(books)], tmp_path / "data", settings(*FIRST), engine="fake")
    monkeypatch.setattr(staging, "stage_documents", None)  # nothing is cleaned again
    capsys.readouterr()
    prepare([str(books)], tmp_path / "data", settings(*FIRST))
    output = capsys.readouterr().err
    assert (
        "resuming from the finished stages of an earlier run: cleaned-main (" in output
        and "encoded-train (3 shards)" in output
    )
    assert digests(tmp_path / "data") == digests(tmp_path / "one")


def test_guesses_about_sources_are_reported_once_and_recorded_in_the_manifest(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("a.csv", "b.csv"):
        tales = "".join(f'"Tale {n} of {name}, a ferry."\n' for n in range(300))
        (tmp_path / name).write_text(tales, encoding="utf-8")
    (tmp_path / "c.txt").write_text("An ordinary text.\n", encoding="utf-8")
    inputs = [str(tmp_path / name) for name in ("a.csv", "b.csv", "c.txt")]
    prepared = prepare(inputs, tmp_path / "out", settings())
    lines = [line for line in caplog.messages if "no header" in line]
    assert len(lines) == 1, "though each file is a shard"
    assert lines[0].startswith(f"{inputs[0]} and 1 more: read with one column, no header")
    sources = prepared.manifest["sources"]
    assert ["notes" in source for source in sources] == [True, True, False]
    assert [source["documents"] for source in sources] == [300, 300, 1]
