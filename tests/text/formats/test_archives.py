"""A .tar is read to its end in order, or is an error; sizes and numbers of members are bounded."""

import io
import tarfile
import zipfile

import pytest

from llmkit.text.formats import archives
from llmkit.text.formats.archives import (
    check_zip_sizes,
    decode_names,
    open_archive,
    open_member,
    read_mimetype,
    read_tar,
)
from llmkit.text.formats.streams import Bomb

NAMES = ["b.txt", "a.txt", "d" * 150 + "/" + "n" * 120 + ".txt", "中文.txt"]


def make_tar(format: int, **more: bytes) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=format) as archive:
        for name in NAMES:
            add(archive, name, name.encode() * 99)
        for name, kind in more.items():
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "b.txt"
            archive.addfile(info)
    return file.getvalue()


def add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    archive.addfile(info, io.BytesIO(data))


@pytest.mark.parametrize("format", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_members_come_in_their_order_with_long_and_foreign_names(format: int) -> None:
    found = [(member.name, member.file.read()) for member in read_tar(io.BytesIO(make_tar(format)))]
    assert found == [(name, name.encode() * 99) for name in NAMES]
    skipped = [member.name for member in read_tar(io.BytesIO(make_tar(format)))]
    assert skipped == NAMES, "members that nobody read are passed over"


def test_links_devices_and_folders_are_distinguished_from_files() -> None:
    data = make_tar(tarfile.PAX_FORMAT, l=tarfile.SYMTYPE, h=tarfile.LNKTYPE, d=tarfile.DIRTYPE, c=tarfile.CHRTYPE)
    assert [member.member_type for member in read_tar(io.BytesIO(data))][4:] == ["link", "link", "folder", "device"]


def test_archive_that_was_cut_off_anywhere_is_an_error() -> None:
    data = make_tar(tarfile.GNU_FORMAT).rstrip(b"\0")
    for cut in (*range(0, len(data), 256), 1024, 1536):
        with pytest.raises(EOFError):
            for member in read_tar(io.BytesIO(data[:cut])):
                member.file.read()


def test_damaged_header_is_an_error_where_tarfile_ends_silently() -> None:
    data = bytearray(make_tar(tarfile.GNU_FORMAT))
    data[1024 + 3] ^= 1
    with pytest.raises(tarfile.ReadError, match="damaged header"):
        list(read_tar(io.BytesIO(bytes(data))))


def test_archives_one_after_another_are_all_read() -> None:
    data = make_tar(tarfile.GNU_FORMAT)
    assert len(list(read_tar(io.BytesIO(data + data)))) == 2 * len(NAMES)


def test_absurd_names_and_numbers_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    info = tarfile.TarInfo("x")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, 1 << 33
    with pytest.raises(tarfile.ReadError, match="a name of"):
        list(read_tar(io.BytesIO(info.tobuf(tarfile.GNU_FORMAT))))
    monkeypatch.setattr(archives, "MAX_MEMBERS", 2)
    with pytest.raises(Bomb, match="more than 2 members"):
        list(read_tar(io.BytesIO(make_tar(tarfile.GNU_FORMAT))))


@pytest.mark.parametrize(
    ("name", "encoding"),
    [("中文书籍.txt", "gbk"), ("Příběh.txt", "cp852"), ("книга.txt", "cp866"), ("本.txt", "utf-8")],
)
def test_names_of_a_zip_without_utf8_are_read_by_their_text(name: str, encoding: str) -> None:
    data, file = name.encode(encoding), io.BytesIO()
    place = "a" * (len(data) - 4) + ".txt"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(place, b"text")
        archive.writestr("ü.txt", b"text")  # Python writes such names in UTF-8
    with open_archive(io.BytesIO(file.getvalue().replace(place.encode(), data))) as archive:
        first, second = archive.namelist()
        assert decode_names(archive) == {first: name}
        assert second == "ü.txt"


def test_zip_that_unpacks_to_far_too_much_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("mimetype", "a/b")
        archive.writestr("a.txt", bytes(10_000_000))
    with open_archive(file) as archive:
        assert read_mimetype(archive) == b"a/b"
        check_zip_sizes(archive, len(file.getvalue()))
        monkeypatch.setattr(archives, "MIN_BOUNDED_BYTES", 1 << 20)
        with pytest.raises(Bomb, match="200 times"):
            check_zip_sizes(archive, len(file.getvalue()))
        assert open_member(archive, archive.getinfo("mimetype")).read() == b"a/b"
    with pytest.raises(zipfile.BadZipFile):
        open_archive(io.BytesIO(b"no archive"))
