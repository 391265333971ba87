"""Compressed streams give all their bytes or an error, and never unpack without limit."""

import bz2
import gzip
import io
import lzma
from collections.abc import Callable

import pyarrow
import pytest

from llmkit.text.formats import streams
from llmkit.text.formats.streams import Bomb, CountedFile, Rejoined, read_head, unpack, unpack_head

DATA = b"".join(b"line %d of a text\n" % number for number in range(20_000))
PACK: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": lambda data: pyarrow.Codec("zstd").compress(data, asbytes=True),
}


def read_all(data: bytes, packing: str) -> bytes:
    counted = CountedFile(io.BytesIO(data))
    with unpack(io.BufferedReader(counted), packing, lambda: counted.n_bytes) as file:
        return file.read()


@pytest.mark.parametrize("packing", PACK)
def test_streams_one_after_another_are_all_read(packing: str) -> None:
    packed = PACK[packing](DATA)
    assert read_all(packed, packing) == DATA
    assert read_all(packed + PACK[packing](b"more"), packing) == DATA + b"more"
    assert unpack_head(packed, packing, 100)[:14] == DATA[:14]
    assert unpack_head(packed[: len(packed) // 2], packing, 100)[:5] in (b"", DATA[:5])


@pytest.mark.parametrize("packing", PACK)
def test_stream_that_was_cut_off_is_an_error(packing: str) -> None:
    packed = PACK[packing](DATA)
    for cut in (len(packed) - 1, len(packed) // 2, 10):
        with pytest.raises((EOFError, OSError)):
            read_all(packed[:cut], packing)


@pytest.mark.parametrize("packing", [".bz2", ".xz"])
def test_padding_behind_a_stream_is_passed_and_anything_else_an_error(packing: str) -> None:
    packed = PACK[packing](DATA)
    assert read_all(packed + bytes(8), packing) == DATA
    with pytest.raises((OSError, lzma.LZMAError)):
        read_all(packed + b"garbage", packing)


@pytest.mark.parametrize("packing", PACK)
def test_file_that_unpacks_to_far_more_bytes_than_text_is_refused(
    monkeypatch: pytest.MonkeyPatch, packing: str
) -> None:
    monkeypatch.setattr(streams, "MIN_BOUNDED_BYTES", 1 << 20)
    monkeypatch.setattr(streams, "MAX_RATIO", 500)
    with pytest.raises(Bomb, match="500 times its size"):
        read_all(PACK[packing](b"a" * (30 << 20)), packing)
    assert read_all(PACK[packing](DATA * 4), packing) == DATA * 4


def test_bytes_that_were_looked_at_are_read_again() -> None:
    file = io.BytesIO(b"0123456789")
    head = read_head(file, 4)
    assert (head, io.BufferedReader(Rejoined(head, file)).read()) == (b"0123", b"0123456789")
