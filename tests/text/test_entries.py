"""Files are opened and unpacked, and their bytes determine the format; damaged ones are errors."""

import gzip
import hashlib
import io
import logging
import os
import random
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pyarrow
import pytest

from llmkit.core.errors import DataError, EnvironmentFault
from llmkit.text.entries import AccessDenied, find_entries
from llmkit.text.sources import Source

DATA = random.Random(0).randbytes(50_000).hex().encode()


def read_entries(path: Path) -> dict[str, bytes]:
    found = {}
    for entry in find_entries(str(path), Source(str(path))):
        with entry.open(Source(entry.path)) as file:
            found[entry.path] = file.read()
    return found


def write_packed(path: Path, data: bytes) -> Path:
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(data))
    else:
        with pyarrow.CompressedOutputStream(str(path), "zstd") as file:
            file.write(data)
    return path


def write_zip(path: Path, members: dict[str, str]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in members.items():
            archive.writestr(name, text)
    return path


@pytest.mark.parametrize("name", ["a.txt.gz", "a.txt.zst"])
def test_packed_file_gives_its_bytes_again_and_again_and_the_hash_of_the_raw_ones(tmp_path: Path, name: str) -> None:
    path = write_packed(tmp_path / name, DATA)
    [entry] = find_entries(str(path), Source(str(path)))
    assert (entry.ending, entry.packing) == (".txt", path.suffix)
    for _ in range(2):
        source = Source(entry.path)
        with entry.open(source) as file:
            assert file.read() == DATA
        raw = path.read_bytes()
        assert (source.n_bytes, source.sha256) == (len(raw), hashlib.sha256(raw).hexdigest())


@pytest.mark.parametrize("name", ["a.txt.gz", "a.txt.zst"])
@pytest.mark.parametrize("share", [0.0001, 0.5, 0.9999])
def test_packed_file_that_was_cut_off_is_an_error_and_not_a_shorter_text(
    tmp_path: Path, name: str, share: float
) -> None:
    path = write_packed(tmp_path / name, DATA)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(DataError, match="damaged or cut off") as caught:
        read_entries(path)
    assert caught.value.problems[0].where == str(path)


def test_zip_member_with_a_flipped_bit_is_an_error(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "a.zip", {"a.txt": "some text that is stored as it is"})
    path.write_bytes(path.read_bytes().replace(b"some text", b"sOme text"))
    with pytest.raises(DataError, match="CRC"):
        read_entries(path)


@pytest.mark.parametrize("cut", [10, 60, -10])
def test_zip_that_was_cut_off_is_an_error(tmp_path: Path, cut: int) -> None:
    path = write_zip(tmp_path / "a.zip", {"a.txt": "text", "b.txt": "text"})
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(DataError, match="damaged or cut off"):
        read_entries(path)


def test_members_are_read_sorted_and_what_cannot_be_read_is_counted(tmp_path: Path) -> None:
    names = ["z.txt", "a/b.md", "__MACOSX/a.txt", ".hidden/a.txt", "a/", "a.jpg", "./b.txt", "c.txt"]
    path = write_zip(tmp_path / "a.zip", {name: name for name in names})
    source = Source(str(path))
    found = [entry.path.removeprefix(f"{path}!") for entry in find_entries(str(path), source)]
    assert found == ["./b.txt", "a/b.md", "c.txt", "z.txt"]
    assert source.skipped == {".jpg file": 1, "hidden file": 2}


def test_member_with_a_path_outside_of_the_archive_is_read_but_never_written(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    path = write_zip(tmp_path / "in/a.zip", {"x/../../evil.txt": "text"})
    assert read_entries(path) in ({f"{path}!x/../../evil.txt": b"text"}, {})
    assert sorted(each.name for each in tmp_path.rglob("*")) == ["a.zip", "in"]


def test_encrypted_member_is_an_error_that_says_so(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "a.zip", {"a.txt": "text"})
    data = bytearray(path.read_bytes())
    data[6] |= 1  # the flags of the member
    data[data.index(b"PK\x01\x02") + 8] |= 1  # and those of the archive's list
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"a\.txt is encrypted"):
        read_entries(path)


def test_stream_of_a_format_that_is_read_from_its_end_can_seek(tmp_path: Path) -> None:
    path = write_packed(tmp_path / "a.parquet.gz", DATA)
    [entry] = find_entries(str(path), Source(str(path)))
    source = Source(entry.path)
    with entry.open_seekable(source) as file:
        file.seek(-10, 2)
        assert file.read() == DATA[-10:]
        file.seek(0)
        assert file.read() == DATA
    assert source.n_bytes == path.stat().st_size


def test_missing_file_is_not_reported_as_damaged(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFault, match="No such file"):
        read_entries(tmp_path / "a.txt")


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
@pytest.mark.parametrize("name", ["b.tar", "b.tgz", "b.txt"])
def test_members_of_a_tar_keep_their_order_and_links_are_counted(tmp_path: Path, name: str, mode: str) -> None:
    members = {
        "s/b1.txt": "one\n",
        "./s/b0.txt": "two\n",
        "x/../../evil.txt": "three",
        "a.jpg": "x",
        "caf\udce9.txt": "y",
    }
    path = tmp_path / name
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]  # the mode is a parameter
        for member, text in members.items():
            info = tarfile.TarInfo(member)
            info.size = len(text)
            archive.addfile(info, io.BytesIO(text.encode()))
        link = tarfile.TarInfo("link.txt")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    source = Source(str(path))
    found = []
    for entry in find_entries(str(path), source):
        with entry.open(Source(entry.path)) as file:
            found.append((entry.path.removeprefix(f"{path}!"), file.read()))
    assert found == [
        ("s/b1.txt", b"one\n"),
        ("./s/b0.txt", b"two\n"),
        ("x/../../evil.txt", b"three"),
        ("caf\\xe9.txt", b"y"),
    ]
    assert source.skipped == {"link in an archive": 1, ".jpg file": 1}
    assert [each.name for each in tmp_path.iterdir()] == [name]


def test_archives_in_archives_are_read_to_a_depth(tmp_path: Path) -> None:
    data, depth = b"", 0
    file = write_zip(tmp_path / "0.zip", {"a.txt": "deep"})
    for depth in range(1, 4):
        data = file.read_bytes()
        file = tmp_path / f"{depth}.zip"
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("in.zip", data)
    assert list(read_entries(tmp_path / "2.zip").values()) == [b"deep"]
    with pytest.raises(DataError, match="nested more than 3 deep"):
        read_entries(tmp_path / "3.zip")


def test_bad_member_is_an_error_when_it_is_opened_and_the_next_one_can_be_read(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.txt", b"\x89PNG\r\n\x1a\n" + bytes(9))
        archive.writestr("b.zip", b"PK\x03\x04" + bytes(40))
        archive.writestr("c.txt", "sound")
    bad, damaged, sound = find_entries(str(path), Source(str(path)))
    with pytest.raises(DataError, match="this is a PNG image"), bad.open(Source("")):
        pass
    with pytest.raises(DataError, match="damaged or cut off"), damaged.open(Source("")):
        pass
    assert sound.path == f"{path}!c.txt"


def test_link_to_nothing_is_bad_data(tmp_path: Path) -> None:
    (tmp_path / "x.txt").symlink_to("none")
    with pytest.raises(DataError, match="a broken link to none"):
        read_entries(tmp_path / "x.txt")


def test_streams_are_copied_so_that_they_can_be_read_twice(tmp_path: Path) -> None:
    read_end, write_end = os.pipe()
    os.write(write_end, gzip.compress(b"text"))
    os.close(write_end)
    [entry] = find_entries(f"/dev/fd/{read_end}", Source(""))
    assert (entry.packing, entry.reopens) == (".gz", False)
    with entry.make_reopenable() as copy:
        os.close(read_end)
        for _ in range(2):
            with copy.open(Source("")) as file:
                assert file.read() == b"text"


@pytest.mark.parametrize("name", ["a.docx", "a.pdf", "a.xlsx"])
def test_a_web_page_named_after_another_format_is_read_as_a_page(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("<!DOCTYPE html><html><body><p>A ferry.</p></body></html>")
    assert [entry.ending for entry in find_entries(str(tmp_path / name), Source(""))] == [".html"]


def test_markup_that_stays_in_the_text_is_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("a.tex", "b.xml", "c.log"):
        (tmp_path / name).write_text("Some <i>text</i>.\n")
        with caplog.at_level(logging.WARNING):
            read_entries(tmp_path / name)
    assert [record.getMessage().split(" is markup")[0][-5:] for record in caplog.records] == ["a.tex", "b.xml"]


def test_a_file_that_may_not_be_read_names_its_permissions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.txt").touch()

    def refuse(*_: object, **__: object) -> None:  # root may read everything
        raise PermissionError

    monkeypatch.setattr("llmkit.text.entries._open_file", refuse)
    with pytest.raises(AccessDenied, match="no permission to read"):
        list(find_entries(str(tmp_path / "a.txt"), Source("")))


def append(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"more")


def rewrite(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[::-1])
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 10**9))


def replace_file(path: Path) -> None:
    other = path.with_name("other")
    other.write_bytes(b"x" * path.stat().st_size)
    os.utime(other, ns=(0, 10**18))
    other.replace(path)


CHANGES = {"append": append, "rewrite": rewrite, "replace": replace_file, "truncate": lambda path: os.truncate(path, 9)}


@pytest.mark.parametrize("change", [*CHANGES.values(), Path.unlink], ids=[*CHANGES, "unlink"])
def test_file_that_changes_while_it_is_read_is_an_error(tmp_path: Path, change: Callable[[Path], None]) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(DATA)
    [entry] = find_entries(str(path), Source(str(path)))
    with pytest.raises(DataError, match="changed while it was read") as caught, entry.open(Source("a.txt")) as file:
        file.read(1 << 12)
        change(path)
        while file.read(1 << 16):
            pass
    assert caught.value.problems[0].where == str(path)


@pytest.mark.parametrize("change", [append, rewrite, replace_file, Path.unlink])
@pytest.mark.parametrize("is_open", [False, True])
def test_small_file_that_changes_after_it_was_looked_at_is_an_error(
    tmp_path: Path, change: Callable[[Path], None], is_open: bool
) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"a small text")
    [entry] = find_entries(str(path), Source(str(path)))
    with entry.open(Source("a.txt")) as file:
        assert file.read() == b"a small text"
    if not is_open:
        change(path)
    with pytest.raises(DataError, match="changed while it was read"), entry.open(Source("a.txt")) as file:
        assert file.read() == b"a small text"
        if is_open:
            change(path)


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_archive_that_changes_while_it_is_read_is_an_error(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"a.{kind}"
    if kind == "zip":
        write_zip(path, {"a.txt": DATA.decode()})
    else:
        (tmp_path / "a.txt").write_bytes(DATA)
        with tarfile.open(path, "w") as archive:
            archive.add(tmp_path / "a.txt", "a.txt")
    with pytest.raises(DataError, match="changed while it was read"):
        for entry in find_entries(str(path), Source(str(path))):
            with entry.open(Source(entry.path)) as file:
                assert file.read() == DATA
            os.utime(path)


def test_file_that_is_only_read_opens_again_and_again(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(DATA)
    [entry] = find_entries(str(path), Source(str(path)))
    for _ in range(3):
        with entry.open(Source("a.txt")) as file:
            file.read(10)
            path.chmod(0o600)  # changes neither size nor time
