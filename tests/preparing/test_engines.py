"""`prepare` on engines: whatever order, process or machine does a piece, the folder is the one of a single process."""

import multiprocessing
import os
import shutil
import signal
import stat
import subprocess
import sys
import time
import types
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
from tiny import digests

import llmkit.preparing.prepared_pieces
from llmkit.config.loading import load_recipe
from llmkit.config.prepare import Prepare
from llmkit.core.errors import DataError, EnvironmentFault, Interrupted, UsageError
from llmkit.preparing import engine_slurm
from llmkit.preparing.engines import ENGINES, LOCAL, Attempt, _Kind, describe_packages
from llmkit.preparing.prepare import prepare
from llmkit.preparing.prepared_pieces import cut_files
from llmkit.preparing.unfinished import WorkersLost
from llmkit.text import staging

CHINESE = "却说曹操大喜，遂引兵追之。玄德曰：“此天助我也！”\n　　次日天明，众将皆至……\n\n"
SHARED = "A paragraph that many of the books have in common, and long enough to be found again.\n\n"


def settings(*overrides: str) -> Prepare:
    small = ["prepare.tokenizer.vocab_size=300", "prepare.split.validation=0.2", "prepare.split.test=0.1"]
    return load_recipe(None, [*small, *overrides]).prepare


@pytest.fixture(scope="module")
def books(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Thirty files with copies, near copies, copied paragraphs and control characters; some long enough for parts."""
    folder = tmp_path_factory.mktemp("books")
    for n in range(30):
        lines = [f"It was the {n * 40 + line}th of times, and number {line * n} of all.\n" for line in range(40)]
        text = "".join(lines) * (5 if n % 7 == 0 else 1) + SHARED + CHINESE * (n % 4) + "ding\a" * (n % 3)
        (folder / f"{n:02}.txt").write_text(text, encoding="utf-8", newline="\r\n" if n % 5 == 0 else "\n")
    for n in (3, 12):
        shutil.copy(folder / f"{n:02}.txt", folder / f"{n:02}-again.txt")
        text = (folder / f"{n:02}.txt").read_text(encoding="utf-8")
        (folder / f"{n:02}-nearly.txt").write_text(text.replace("number 0 of", "number none of"), encoding="utf-8")
    (folder / "empty.txt").touch()
    (folder / "binary.txt").write_bytes(b"\x89PNG" + bytes(2000))
    return folder


@pytest.fixture(autouse=True)
def _pieces_are_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(llmkit.preparing.prepared_pieces, "BYTES_A_PIECE", 12_000)


Run = Callable[[Callable[[Any], Any], Sequence[Any]], Iterator[Any]]


def use(monkeypatch: pytest.MonkeyPatch, name: str, run: Run) -> None:
    @contextmanager
    def opened(work: Path) -> Iterator[Run]:
        yield run

    monkeypatch.setitem(ENGINES, name, _Kind(lambda: None, opened))


def backwards(function: Callable[[Any], Any], tasks: Sequence[Any]) -> Iterator[Any]:
    results = [function(task) for task in reversed(tasks)]
    yield from reversed(results)


def everything_twice(function: Callable[[Any], Any], tasks: Sequence[Any]) -> Iterator[Any]:
    """As an engine that took all its workers for dead."""
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
                for _ in results:  # as engines end what nobody waits for
                    pass

        yield run


FIRST = ("prepare.read.skip_bad=true", "prepare.dedup.near=true", "prepare.dedup.near_threshold=0.7")
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
def test_any_order_of_pieces_gives_the_bytes_of_one_process(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, books: Path, engine: Run, variant: str
) -> None:
    use(monkeypatch, "fake", engine)
    wanted = settings(*VARIANTS[variant])
    manifest = prepare([str(books)], tmp_path / "one", wanted).manifest
    assert len(cut_files(sorted(map(str, books.iterdir())))) > 5
    prepare([str(books)], tmp_path / "pieces", wanted, engine="fake")
    assert digests(tmp_path / "pieces") == digests(tmp_path / "one")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "pieces"]
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
    prepare([str(one_file)], tmp_path / "pieces", wanted, engine="fake")
    assert digests(tmp_path / "pieces") == digests(tmp_path / "one")


def test_processes_of_their_own_give_the_bytes_of_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, books: Path, two_processes: Run
) -> None:
    use(monkeypatch, "fake", two_processes)
    monkeypatch.chdir(books.parent)  # inputs are named from here, on workers too
    given = {"validation": f"{books.name}/01.txt", "test": f"{books.name}/02.txt"}
    inputs = [f"{books.name}/{n:02}*.txt" for n in range(3, 30)]
    for name, engine in (("one", LOCAL), ("pieces", "fake")):
        prepare(inputs, tmp_path / name, settings(), engine=engine, **given)
    assert digests(tmp_path / "pieces") == digests(tmp_path / "one")
    source = prepare(inputs, tmp_path / "one", settings(), **given).manifest["sources"][0]
    assert source["path"] == f"{books.name}/03-again.txt"


def test_own_tokenizer_is_loaded_by_workers_as_it_was_given(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, books: Path
) -> None:
    use(monkeypatch, "fake", backwards)
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "it", "was", "the", "of", "times", *"0123456789.,"]
    (tmp_path / "vocab.txt").write_text("\n".join(vocabulary))
    given = settings("prepare.read.skip_bad=true", f"prepare.tokenizer.path={tmp_path / 'vocab.txt'}")
    for name, engine in (("one", LOCAL), ("pieces", "fake")):
        prepare([str(books)], tmp_path / name, given, engine=engine)
    assert digests(tmp_path / "pieces") == digests(tmp_path / "one")


def test_first_bad_file_is_the_error_whichever_worker_met_which_first(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, books: Path, two_processes: Run
) -> None:
    use(monkeypatch, "fake", two_processes)
    shutil.copytree(books, tmp_path / "books")
    (tmp_path / "books/29.txt").write_bytes(b"\x89PNG" + bytes(2000))
    (tmp_path / "books/binary.txt").unlink()
    (tmp_path / "books/05.txt").write_bytes(b"\x89PNG" + bytes(2000))
    said = []
    for engine in (LOCAL, "fake"):
        with pytest.raises(DataError, match=r"05\.txt") as caught:
            prepare([str(tmp_path / "books")], tmp_path / "data", settings(), engine=engine)
        said.append(str(caught.value))
    assert said[0] == said[1]
    assert not (tmp_path / ".data.partial").exists()


def test_warnings_of_workers_are_said_by_the_command(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, books: Path, caplog: pytest.LogCaptureFixture, two_processes: Run
) -> None:
    use(monkeypatch, "fake", two_processes)
    lines = []
    for name, engine in (("one", LOCAL), ("pieces", "fake")):
        caplog.clear()
        prepare([str(books)], tmp_path / name, settings(*FIRST), engine=engine)
        lines.append([record.getMessage() for record in caplog.records])
    assert lines[0] == lines[1]
    assert any("binary.txt" in line for line in lines[0])


class Dies:
    """An engine whose worker dies for good at one call of a function's."""

    def __init__(self, function: str, calls: int) -> None:
        self.function, self.left = function, calls
        self.done: list[str] = []

    def __call__(self, function: Any, tasks: Sequence[Any]) -> Iterator[Any]:
        for task in tasks:
            if function.function.__name__ == self.function:
                self.left -= 1
                if self.left < 0:
                    raise WorkersLost("all workers died", where="--engine", hint="run it again")
            yield function(task)


@pytest.mark.parametrize(("function", "calls"), [("clean_piece", 3), ("encode_piece", 2), ("match_piece", 1)])
def test_pieces_that_were_finished_are_not_done_again(
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
    assert ("encoded-train-00001.json" in {path.name for path in before}) == (function != "clean_piece")
    again: list[str] = []

    def watched(attempt: Attempt, tasks: Sequence[Any]) -> Iterator[Any]:
        for task in tasks:
            result = attempt(task)
            marks = {path: path.stat().st_mtime_ns for path in (work / "finished").iterdir()}
            again.extend(path.name for path in before if marks[path] != before[path])
            yield result

    use(monkeypatch, "other", watched)
    capsys.readouterr()
    prepare([str(books)], tmp_path / "data", wanted, engine="other")
    assert "going on from what a stopped run has finished: cleaned-main (" in capsys.readouterr().err
    assert not again
    assert digests(tmp_path / "data") == digests(tmp_path / "one")


def test_damaged_piece_of_a_stopped_run_is_made_anew(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, books: Path
) -> None:
    wanted = settings(*FIRST)
    prepare([str(books)], tmp_path / "one", wanted)
    use(monkeypatch, "fake", Dies("encode_piece", 3))
    with pytest.raises(WorkersLost):
        prepare([str(books)], tmp_path / "data", wanted, engine="fake")
    for piece in ("cleaned/cleaned-main-00001/documents.arrow", "encoded/encoded-train-00001/data-00000.arrow"):
        path = tmp_path / ".data.partial" / piece
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
    use(monkeypatch, "fake", backwards)
    prepare([str(books)], tmp_path / "data", wanted, engine="fake")
    assert digests(tmp_path / "data") == digests(tmp_path / "one")


def test_pieces_are_not_taken_for_what_one_process_makes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, books: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    use(monkeypatch, "fake", Dies("encode_piece", 3))
    with pytest.raises(WorkersLost):
        prepare([str(books)], tmp_path / "data", settings(*FIRST), engine="fake")
    capsys.readouterr()
    prepare([str(books)], tmp_path / "data", settings(*FIRST))
    assert "going on" not in capsys.readouterr().err
    prepare([str(books)], tmp_path / "one", settings(*FIRST))
    assert digests(tmp_path / "data") == digests(tmp_path / "one")


def test_worker_with_another_version_or_without_the_folder_is_refused(tmp_path: Path) -> None:
    versions = describe_packages()
    same = Attempt(str, tmp_path, Path.cwd(), versions)(5)
    assert (same.value, same.error) == ("5", None)
    other = Attempt(str, tmp_path, Path.cwd(), versions | {"ftfy": "0.1"})(5)
    with pytest.raises(EnvironmentFault, match=f"a worker has ftfy {versions['ftfy']}, here 0.1"):
        other.take()
    with pytest.raises(EnvironmentFault, match="a worker does not see"):
        Attempt(str, tmp_path / "elsewhere", Path.cwd(), versions)(5).take()


def test_wrong_engine_and_missing_library_are_said_before_anything_is_read(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="did you mean 'slurm'"):
        prepare(["nothing"], tmp_path / "data", settings(), engine="slrum")
    monkeypatch.setattr("llmkit.preparing.engine_ray.find_spec", lambda name: None)
    with pytest.raises(EnvironmentFault, match=r"pip install 'llmkit\[ray\]'"):
        prepare(["nothing"], tmp_path / "data", settings(), engine="ray")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EnvironmentFault, match="sbatch is not on the PATH"):
        prepare(["nothing"], tmp_path / "data", settings(), engine="slurm")
    use(monkeypatch, "fake", backwards)
    with pytest.raises(UsageError, match="cannot read standard input"):
        prepare(["-"], tmp_path / "data", settings(), engine="fake")
    assert list(tmp_path.iterdir()) == []


def test_files_are_cut_in_order_and_none_is_lost(tmp_path: Path) -> None:
    files = []
    for n, size in enumerate([5_000, 5_000, 5_000, 50_000, 0, 12_000, 1]):
        (tmp_path / str(n)).write_bytes(bytes(size))
        files.append(str(tmp_path / str(n)))
    groups = cut_files([*files[:3], "builtin:shakespeare", *files[3:]])
    assert groups == [files[:2], files[2:3], ["builtin:shakespeare"], files[3:4], files[4:6], files[6:]]


# Slurm: an sbatch that does on this machine what it does on a cluster.

SBATCH = """#!{python}
import os, re, subprocess, sys
options, script = sys.argv[1:-1], sys.argv[-1]
assert "--wait" in options and "--parsable" in options
last = int(re.search(r"--array=0-(\\d+)", " ".join(options))[1])
log = next(option for option in options if option.startswith("--output=")).partition("=")[2]
print("4711;somewhere", flush=True)
tries = int(re.search(r"try-(\\d+)", script)[1])
bad = 0
for number in range(last + 1):
    if os.environ.get("DIES", "") in (f"{{tries}}:{{number}}", "always"):
        bad = 137
        continue
    with open(log.replace("%a", str(number)), "w") as file:
        done = subprocess.run(["/bin/sh", script], env=os.environ | {{"SLURM_ARRAY_TASK_ID": str(number)}},
                              stdout=file, stderr=subprocess.STDOUT)
    bad = max(bad, done.returncode)
sys.exit(bad)
"""


@pytest.fixture
def sbatch(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bin")
    path = folder / "sbatch"
    path.write_text(SBATCH.format(python=sys.executable))
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    return path


def write_script(path: Path, text: str) -> None:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def test_slurm_jobs_give_the_bytes_of_one_process_though_one_dies(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, books: Path, sbatch: Path
) -> None:
    monkeypatch.setattr(engine_slurm, "LARGEST_ARRAY", 2)
    monkeypatch.setattr(llmkit.preparing.prepared_pieces, "BYTES_A_PIECE", 80_000)
    monkeypatch.setenv("DIES", "0:1")
    wanted = settings(*FIRST, "prepare.split.validation=0", "prepare.split.test=0")
    for name, engine in (("one", LOCAL), ("jobs", "slurm")):
        prepare([str(books)], tmp_path / name, wanted, engine=engine)
    assert digests(tmp_path / "jobs") == digests(tmp_path / "one")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["jobs", "one"]


def test_slurm_jobs_that_never_live_are_said_and_what_is_finished_is_kept(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, sbatch: Path
) -> None:
    monkeypatch.setenv("DIES", "always")
    write_script(sbatch.parent / "scancel", f"echo $1 > {tmp_path}/cancelled")
    with engine_slurm.open_slurm(tmp_path) as run, pytest.raises(WorkersLost, match="3 of 3 tasks have no result"):
        list(run(str, [1, 2, 3]))
    assert (tmp_path / "cancelled").read_text().startswith("--name=llmkit-"), "none is left behind"


def test_slurm_jobs_that_outlive_sbatch_are_waited_for_and_not_started_twice(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, sbatch: Path
) -> None:
    monkeypatch.setattr(engine_slurm, "POLL_SECONDS", 0.05)
    jobs = 'for n in 0 1 2; do SLURM_ARRAY_TASK_ID=$n /bin/sh "$script"; done; rm running'
    write_script(
        sbatch,
        f"""cd {tmp_path}; echo 4711; echo once >> submitted; touch running; for script; do :; done
(sleep 1; {jobs}) > /dev/null 2>&1 &
exit 1""",
    )
    away_at_first = "[ -e asked ] || { touch asked; exit 1; }"
    write_script(sbatch.parent / "squeue", f"cd {tmp_path}; {away_at_first}; [ ! -e running ] || echo 4711_0")
    with engine_slurm.open_slurm(tmp_path) as run:
        assert list(run(str, [1, 2, 3])) == ["1", "2", "3"]
    assert (tmp_path / "submitted").read_text() == "once\n" and (tmp_path / "asked").exists()


def test_slurm_that_does_not_answer_is_not_asked_without_end(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, sbatch: Path
) -> None:
    monkeypatch.setattr(engine_slurm, "POLL_SECONDS", 0)
    monkeypatch.setattr(engine_slurm, "MOST_UNANSWERED", 3)
    monkeypatch.setenv("DIES", "always")
    write_script(sbatch.parent / "squeue", f"echo asked >> {tmp_path}/asked; exit 1")
    with engine_slurm.open_slurm(tmp_path) as run, pytest.raises(WorkersLost, match="no result after 4 tries"):
        list(run(str, [1]))
    assert len((tmp_path / "asked").read_text().split()) == 12


def test_refused_slurm_jobs_are_said_in_its_words(tmp_path: Path, sbatch: Path) -> None:
    sbatch.write_text("#!/bin/sh\necho 'sbatch: error: invalid partition specified: gpu' >&2\nexit 1\n")
    with engine_slurm.open_slurm(tmp_path) as run, pytest.raises(WorkersLost, match="invalid partition"):
        list(run(str, [1, 2, 3]))


def test_slurm_jobs_end_with_the_command_that_waits_for_them(tmp_path: Path, sbatch: Path) -> None:
    sbatch.write_text("#!/bin/sh\necho 4711\nsleep 2\nkill -TERM $PPID\nexec sleep 60\n")
    write_script(sbatch.parent / "scancel", f"echo $1 > {tmp_path}/cancelled")

    def interrupt(number: int, frame: object) -> None:
        raise Interrupted(number, "stopped")

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        with engine_slurm.open_slurm(tmp_path) as run, pytest.raises(Interrupted):
            list(run(str, [1, 2, 3]))
    finally:
        signal.signal(signal.SIGTERM, before)
    assert (tmp_path / "cancelled").read_text().startswith("--name=llmkit-")


# Ray: a module that has as much of it as the engine uses, and the real one where it is installed.


class FakeRay(types.ModuleType):
    """Does tasks in the opposite order, each once its result is asked for or a later one was."""

    class exceptions:  # noqa: N801 - Ray's name
        class RayError(Exception): ...

        class RayTaskError(RayError): ...

        class WorkerCrashedError(RayError): ...

    def __init__(self) -> None:
        super().__init__("ray")
        self.calls: list[tuple[str, Any]] = []
        self.dies_at: int | None = None

    def init(self, **options: Any) -> None:
        self.calls.append(("init", options))
        signal.signal(signal.SIGTERM, signal.SIG_IGN)

    def shutdown(self) -> None:
        self.calls.append(("shutdown", None))

    def put(self, value: Any) -> Any:
        return value

    def remote(self, **options: Any) -> Any:
        self.calls.append(("remote", options))

        def of(function: Any) -> Any:
            def later(*arguments: Any) -> Any:
                self.n = getattr(self, "n", 0) + 1
                return [self.n, lambda: function(*arguments)]

            return types.SimpleNamespace(remote=later)

        return of

    def wait(self, results: list[Any], *, timeout: float) -> tuple[list[Any], list[Any]]:
        assert timeout <= 1, "Ray would swallow a signal"
        self.waits = not getattr(self, "waits", False)
        return (results, []) if self.waits else ([], results)

    def get(self, result: Any) -> Any:
        if result[0] == self.dies_at:
            raise self.exceptions.WorkerCrashedError("out of memory")
        return result[1]()

    def cancel(self, result: Any, *, force: bool) -> None:
        self.calls.append(("cancel", result[0]))


@pytest.fixture
def fake_ray(monkeypatch: pytest.MonkeyPatch) -> FakeRay:
    fake = FakeRay()
    monkeypatch.setitem(sys.modules, "ray", fake)
    monkeypatch.setattr("llmkit.preparing.engine_ray.find_spec", lambda name: name == "ray")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "true")
    monkeypatch.setenv("RAY_task_oom_retries", "-1")
    return fake


def test_ray_is_asked_for_retries_and_started_without_its_dashboard(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, books: Path, fake_ray: FakeRay
) -> None:
    before = signal.getsignal(signal.SIGTERM)
    for name, engine in (("one", LOCAL), ("ray", "ray")):
        prepare([str(books)], tmp_path / name, settings(*FIRST), engine=engine)
    assert digests(tmp_path / "ray") == digests(tmp_path / "one")
    options = dict(fake_ray.calls)
    assert options["remote"] == {"num_cpus": 1, "max_retries": 3}
    assert dict(os.environ)["RAY_task_oom_retries"] == "3", (
        "Ray tries a task without end that its memory monitor killed"
    )
    assert options["init"]["address"] == "local", "Ray would take any cluster that it finds on this machine"
    assert options["init"]["include_dashboard"] is options["init"]["log_to_driver"] is False
    assert fake_ray.calls[-1] == ("shutdown", None)
    assert signal.getsignal(signal.SIGTERM) == before


def test_running_cluster_is_used_and_one_that_is_not_there_is_said(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, books: Path, fake_ray: FakeRay
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    prepare([str(books)], tmp_path / "data", settings(*FIRST), engine="ray")
    assert fake_ray.calls[0][1]["address"] == "10.0.0.1:6379"
    assert "include_dashboard" not in fake_ray.calls[0][1], "an option of a cluster that is to be started"

    def refuse(**options: Any) -> None:
        raise ConnectionError("could not find any running Ray instance")

    monkeypatch.setattr(fake_ray, "init", refuse)
    with pytest.raises(EnvironmentFault, match=r"RAY_ADDRESS=10\.0\.0\.1:6379"):
        prepare([str(books)], tmp_path / "other", settings(*FIRST), engine="ray")


def test_ray_workers_that_die_again_and_again_leave_what_is_finished(
    tmp_path: Path, books: Path, fake_ray: FakeRay
) -> None:
    fake_ray.dies_at = 4
    with pytest.raises(WorkersLost, match="workers died 4 times at task 4 of"):
        prepare([str(books)], tmp_path / "data", settings(*FIRST), engine="ray")
    assert ("cancel", 5) in fake_ray.calls
    assert (tmp_path / ".data.partial/finished/cleaned-main-00002.json").exists()
    fake_ray.dies_at = None
    prepare([str(books)], tmp_path / "data", settings(*FIRST), engine="ray")
    prepare([str(books)], tmp_path / "one", settings(*FIRST))
    assert digests(tmp_path / "data") == digests(tmp_path / "one")


def test_real_ray_gives_the_bytes_of_one_process_though_a_worker_is_killed(tmp_path: Path, books: Path) -> None:
    pytest.importorskip("ray")
    code = """
import os, sys, threading, time
import psutil
import llmkit.preparing.prepared_pieces as pieces
from llmkit.config.loading import load_recipe
from llmkit.preparing.prepare import prepare
pieces.BYTES_A_PIECE = 12_000
killed = []
def kill_one():
    while not killed:
        for child in psutil.Process().children(recursive=True):
            if child.cmdline()[:1] == ["ray::_call"]:
                child.kill()
                killed.append(child.pid)
                break
        time.sleep(0.01)
threading.Thread(target=kill_one, daemon=True).start()
prepare([sys.argv[1]], pieces.Path(sys.argv[2]), load_recipe(None, sys.argv[3:]).prepare, engine="ray")
assert killed
"""
    overrides = ["prepare.tokenizer.vocab_size=300", "prepare.split.validation=0.2", "prepare.split.test=0.1", *FIRST]
    arguments = [sys.executable, "-c", code, str(books), str(tmp_path / "ray"), *overrides]

    done = subprocess.run(arguments, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    prepare([str(books)], tmp_path / "one", settings(*FIRST))
    assert digests(tmp_path / "ray") == digests(tmp_path / "one")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_real_ray_ends_with_the_command_and_the_next_one_goes_on(tmp_path: Path, books: Path, number: int) -> None:
    pytest.importorskip("ray")
    overrides = ["prepare.tokenizer.vocab_size=300", "prepare.split.validation=0.2", "prepare.split.test=0.1", *FIRST]
    arguments = [
        sys.executable,
        "-m",
        "llmkit",
        "prepare",
        str(books),
        "--out",
        str(tmp_path / "ray"),
        "--engine",
        "ray",
    ]
    arguments += [word for override in overrides for word in ("-s", override)]
    command = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    work = tmp_path / ".ray.partial"
    while not list(work.glob("finished/cleaned-*")) and command.poll() is None:
        time.sleep(0.05)
    children = [
        child
        for child in psutil.Process(command.pid).children(recursive=True)
        if not child.name().endswith("Agent")  # two of Ray's own, which take a minute to see that they are alone
    ]
    command.send_signal(number)
    said = command.communicate()[0]
    assert command.returncode == (128 + number if number == signal.SIGTERM else -number), said
    assert number == signal.SIGKILL or "it goes on from what is finished: cleaned-main" in said
    assert not psutil.wait_procs(children, timeout=30)[1], "what was started has ended"
    done = subprocess.run(arguments, check=False, capture_output=True, text=True)
    assert "going on from what a stopped run has finished: cleaned-main" in done.stderr
    prepare([str(books)], tmp_path / "one", settings(*FIRST))
    assert digests(tmp_path / "ray") == digests(tmp_path / "one")
