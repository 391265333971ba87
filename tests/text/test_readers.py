"""Inputs become documents, with a record of each source."""

import gzip
import hashlib
import io
import os
import random
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pyarrow
import pytest

from llmkit.config.prepare import Read
from llmkit.core.errors import DataError, EnvironmentFault
from llmkit.text.documents import Document, hash_text
from llmkit.text.inputs import FORMATS
from llmkit.text.readers import READERS, read_documents
from llmkit.text.sources import Source, require_documents

TEXT = "第一回 宴桃园豪杰三结义 斩黄巾英雄首立功\n\n话说天下大势，分久必合，合久必分。周末七国分争，并入于秦。\n"


def read_all(*inputs: object, **options: object) -> tuple[list[Document], list[Source]]:
    sources: list[Source] = []
    return list(read_documents([str(each) for each in inputs], Read(**options), sources)), sources  # type: ignore[arg-type]


def texts_of(*inputs: object, **options: object) -> list[str]:
    return [document.text for document in read_all(*inputs, **options)[0]]


def write_zst(path: Path, data: bytes) -> None:
    with pyarrow.CompressedOutputStream(str(path), "zstd") as file:
        file.write(data)


@pytest.mark.parametrize("codec", ["utf-8", "utf-8-sig", "utf-16", "gb18030"])
def test_the_same_text_in_four_encodings_has_one_hash(tmp_path: Path, codec: str) -> None:
    (tmp_path / "a.txt").write_bytes(TEXT.encode(codec))
    assert [hash_text(text) for text in texts_of(tmp_path)] == [hash_text(TEXT)]


def test_a_source_is_recorded_with_its_raw_bytes_and_its_encoding(tmp_path: Path) -> None:
    raw = TEXT.encode("gb18030")
    (tmp_path / "a.txt").write_bytes(raw)
    _, (source,) = read_all(tmp_path / "a.txt")
    assert source.path == str(tmp_path / "a.txt")
    assert (source.n_bytes, source.sha256) == (len(raw), hashlib.sha256(raw).hexdigest())
    assert (source.encoding, source.documents, source.characters) == ("gb18030", 1, len(TEXT))


def test_packed_files_give_the_text_of_the_plain_one(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(TEXT, encoding="utf-8")
    (tmp_path / "b.txt.gz").write_bytes(gzip.compress(TEXT.encode()))
    write_zst(tmp_path / "c.txt.zst", TEXT.encode())
    with zipfile.ZipFile(tmp_path / "d.zip", "w") as archive:
        archive.writestr("deep/x.txt", TEXT)
        archive.writestr("y.txt.gz", gzip.compress(TEXT.encode()))
    documents, sources = read_all(tmp_path)
    assert [document.text for document in documents] == [TEXT] * 5
    names = [source.path.removeprefix(f"{tmp_path}{os.sep}") for source in sources]
    assert names == ["a.txt", "b.txt.gz", "c.txt.zst", "d.zip!deep/x.txt", "d.zip!y.txt.gz"]
    assert sources[1].sha256 == hashlib.sha256((tmp_path / "b.txt.gz").read_bytes()).hexdigest()


def test_a_file_named_by_the_user_is_text_whatever_its_ending(tmp_path: Path) -> None:
    (tmp_path / "wiki.train.tokens").write_text("words")
    assert texts_of(tmp_path / "wiki.train.tokens") == ["words"]


def test_every_format_that_is_found_in_folders_has_a_reader() -> None:
    assert set(READERS) == {*FORMATS, ""}


def test_standard_input_is_read(tmp_path: Path) -> None:
    code = (
        "from llmkit.config.prepare import Read\nfrom llmkit.text.readers import read_documents\n"
        "for bad in (False,): print([d.text for d in read_documents(['-'], Read(skip_bad=bad), [])])"
    )
    for switch in ("False", "True"):
        script = code.replace("(False,)", f"({switch},)")
        done = subprocess.run([sys.executable, "-c", script], input=b"caf\xc3\xa9\n", capture_output=True, check=True)
        assert done.stdout.decode() == "['café\\n']\n"


def test_joining_the_parts_of_a_long_document_gives_it_back(tmp_path: Path) -> None:
    draw = random.Random(0)
    text = "".join(draw.choice(["word ", "字", "\n", "\r\n", "e\u0301", "。", "\n\n"]) for _ in range(30_000))
    (tmp_path / "a.txt").write_bytes(text.encode())
    documents, (source,) = read_all(tmp_path / "a.txt", max_doc_chars=1000)
    assert "".join(document.text for document in documents) == text
    assert [document.part for document in documents] == list(range(len(documents)))
    assert [document.last for document in documents] == [False] * (len(documents) - 1) + [True]
    assert all(len(document.text) <= 1000 for document in documents)
    assert all(document.text.endswith("\n") for document in documents[:-1])
    assert source.documents == 1


@pytest.mark.parametrize("unit", ["x", "字", "xe\u0301"])
def test_a_line_without_any_place_to_cut_still_comes_in_bounded_parts(tmp_path: Path, unit: str) -> None:
    (tmp_path / "a.txt").write_text(unit * 5000, encoding="utf-8")
    documents, _ = read_all(tmp_path / "a.txt", max_doc_chars=1000)
    assert "".join(document.text for document in documents) == unit * 5000
    assert all(len(document.text) <= 1000 and not document.text.startswith("\u0301") for document in documents)


@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_AS is kept on Linux only")
def test_a_line_of_50_megabytes_is_read_cleaned_and_staged_in_1_gigabyte(tmp_path: Path) -> None:
    with (tmp_path / "long.txt").open("wb") as file:
        for _ in range(500):
            file.write("天下大势分久必合".encode() * 4_000 + b"and so on." * 400)
    script = f"""
import resource
from pathlib import Path
import pyarrow, ftfy  # what the libraries take themselves is not what is measured
resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
from llmkit.config.prepare import Clean, Dedup, Read
from llmkit.text.readers import read_documents
from llmkit.text.cleaning.cleaners import clean_documents
from llmkit.text.dedup import compute_keys
from llmkit.text.staging import read_staged, stage_documents
documents = clean_documents(read_documents([{str(tmp_path / "long.txt")!r}], Read(), []), Clean(), False, {{}})
stage = Path({str(tmp_path / "stage")!r})
print(stage_documents(documents, stage))
assert len(list(compute_keys(read_staged(stage), Dedup()))) == 1
"""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "2"}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert "n_documents=1, n_chars=18000000, n_bytes=50000000" in done.stdout


def test_a_bad_file_is_skipped_as_a_whole_and_counted_with_skip_bad(tmp_path: Path) -> None:
    broken = ("好的文本。" * 400_000).encode()
    (tmp_path / "a.txt").write_bytes(broken[:5_000_000] + b"\xff" + broken[5_000_001:])
    (tmp_path / "b.txt").write_text("sound")
    (tmp_path / "c.txt").write_bytes(random.Random(0).randbytes(5000))
    documents, sources = read_all(tmp_path, skip_bad=True)
    assert [document.text for document in documents] == ["sound"]
    assert [source.skipped["unreadable file"] for source in sources] == [1, 0, 1]
    with pytest.raises(DataError, match="not utf-8") as caught:
        read_all(tmp_path)
    places = [Path(problem.where.partition(",")[0]).name for problem in caught.value.problems]
    assert places == ["a.txt", "c.txt", "the inputs"]
    assert caught.value.problems[2].what == "2 files cannot be read"
    assert "--skip-bad" in caught.value.problems[2].hint


def test_bad_files_are_reported_together_the_first_ten_by_name(tmp_path: Path) -> None:
    for n in range(30):
        (tmp_path / f"{n:02d}.jsonl").write_text(f'{{"text": "a"}}\n{{"text": {"x" * n}\n')
    with zipfile.ZipFile(tmp_path / "m.zip", "w") as archive:
        archive.writestr("a.txt", b"\x89PNG\r\n\x1a\n\0")
        archive.writestr("b.txt", "A text.")
    with pytest.raises(DataError) as caught:
        read_all(tmp_path)
    problems = caught.value.problems
    assert (len(problems), problems[-1].what) == (4, "31 files cannot be read")
    assert problems[1].where == f"{tmp_path}/01.jsonl:2 and 28 more"
    for n in range(12):
        (tmp_path / f"x{n:02d}.csv").write_text("text,label\n" + "a," * (n + 3) + "\n")
    with pytest.raises(DataError) as caught:
        read_all(tmp_path)
    assert len(caught.value.problems) == 11
    assert caught.value.problems[-1].what == "43 files cannot be read, the first of them above"


def test_files_with_one_problem_are_one_problem(tmp_path: Path) -> None:
    for name in "abc":
        (tmp_path / f"{name}.txt").write_bytes(b"\x89PNG\r\n\x1a\n\0")
    with pytest.raises(DataError) as caught:
        read_all(tmp_path)
    [problem] = caught.value.problems
    assert (problem.what, problem.where) == ("this is a PNG image", f"{tmp_path}/a.txt and 2 more")


def test_a_file_without_permission_is_named_with_the_bad_ones_and_skipped_with_skip_bad(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a.txt", "b.txt", "c.txt"):
        (tmp_path / name).write_text(f"{name} is read.")

    def refuse(path: str) -> object:  # root may read everything
        if not path.endswith("b.txt"):
            raise PermissionError
        return Path(path).open("rb")

    monkeypatch.setattr("llmkit.text.entries._open_file", refuse)
    with pytest.raises(EnvironmentFault, match="no permission to read") as caught:
        read_all(tmp_path)
    assert len(caught.value.problems) == 3
    documents, sources = read_all(tmp_path, skip_bad=True)
    assert [document.text for document in documents] == ["b.txt is read."]
    assert sum(source.skipped["unreadable file"] for source in sources) == 2


def test_an_empty_file_gives_no_document_and_is_counted(tmp_path: Path) -> None:
    (tmp_path / "a.txt").touch()
    documents, sources = read_all(tmp_path / "a.txt")
    assert not documents
    with pytest.raises(DataError) as caught:
        require_documents(sources, {}, len(documents))
    assert "empty file: 1" in caught.value.problems[0].what
    assert "a.txt" in caught.value.problems[0].where


def test_a_link_to_nothing_stops_and_is_skipped_and_counted_with_skip_bad(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("One text.")
    (tmp_path / "x.txt").symlink_to("none")
    with pytest.raises(DataError, match="a broken link to none"):
        read_all(tmp_path)
    documents, sources = read_all(tmp_path, skip_bad=True)
    assert [document.text for document in documents] == ["One text."]
    assert sum(source.skipped["unreadable file"] for source in sources) == 1


@pytest.mark.skipif(sys.platform != "linux", reason="names are bytes on Linux only")
def test_a_name_that_is_no_utf8_is_read_and_shown_as_text(tmp_path: Path) -> None:
    with open(os.fsencode(tmp_path) + b"/caf\xe9.txt", "w") as file:  # noqa: PTH123 - Path takes no bytes
        file.write("A text.")
    [document], [source] = read_all(tmp_path)
    assert document.text == "A text."
    assert document.source == source.path == f"{tmp_path}/caf\\xe9.txt"


def test_members_of_a_tar_are_read_twice_with_skip_bad_and_bad_ones_counted(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "b.tar.gz", "w:gz") as archive:
        for name, data in (("a.txt", b"good " * 9), ("b.txt", b"caf\xe9" + bytes(99)), ("c.txt", b"after")):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    documents, sources = read_all(tmp_path, skip_bad=True)
    assert [document.text for document in documents] == ["good " * 9, "after"]
    assert [source.skipped["unreadable file"] for source in sources] == [0, 1, 0]
    with pytest.raises(DataError, match=r"b\.tar\.gz!b\.txt"):
        read_all(tmp_path)


def test_an_archive_without_files_is_counted(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w"):
        pass
    with tarfile.open(tmp_path / "b.tar", "w"):
        pass
    (tmp_path / "c.txt").write_text("A text.\n")
    sources: list[Source] = []
    assert [document.text for document in read_documents([str(tmp_path)], Read(), sources)] == ["A text.\n"]
    assert [dict(source.skipped) for source in sources] == [{"archive without files": 1}] * 2 + [{}]
