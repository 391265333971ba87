"""Subtitles become their visible lines."""

from pathlib import Path

import pytest

from llmkit.config.prepare import Read
from llmkit.text.readers import read_documents
from llmkit.text.sources import Source

SRT = """1
00:00:01,000 --> 00:00:02,000
<i>Hello</i> there,
{\\an8}you

2
00:00:03,000 --> 00:00:04,000
No!

3
00:00:05,000 --> 00:00:06,000
No! 1 < 2 & 3 > 2
42

"""
VTT = """WEBVTT - title

NOTE a note
of two lines

STYLE
::cue { color: red }

intro
00:01.000 --> 00:02.000 align:start
<v Bob>Hi &amp; ho

00:02.000 --> 00:03.000
Hi & <00:02.500><c>you</c>

00:02.000 --> 00:03.000
Hi & you
more
"""


def read(path: Path, data: bytes) -> tuple[list[str], Source]:
    path.write_bytes(data)
    sources: list[Source] = []
    return [document.text for document in read_documents([str(path)], Read(), sources)], sources[0]


@pytest.mark.parametrize("name", ["a.srt", "a.txt", "a"])
@pytest.mark.parametrize("codec", ["utf-8", "utf-8-sig"])
def test_times_numbers_and_tags_go_and_every_line_stays(tmp_path: Path, name: str, codec: str) -> None:
    texts, _ = read(tmp_path / name, SRT.encode(codec))
    assert texts == ["Hello there,\nyou\nNo!\nNo! 1 < 2 & 3 > 2\n42\n"]


def test_line_ends_and_missing_blank_lines_change_nothing(tmp_path: Path) -> None:
    expected, _ = read(tmp_path / "a.srt", SRT.encode())
    assert read(tmp_path / "a.srt", SRT.replace("\n", "\r\n").encode())[0] == expected
    assert read(tmp_path / "a.srt", SRT.replace("\n\n2\n", "\n2\n").encode())[0] == expected
    assert read(tmp_path / "a.srt", SRT.encode("utf-16"))[0] == expected


def test_notes_and_repeated_lines_of_rolling_captions_go(tmp_path: Path) -> None:
    texts, source = read(tmp_path / "a.vtt", VTT.encode())
    assert texts == ["Hi & ho\nHi & you\nmore\n"]
    assert source.skipped == {"repeated line of rolling captions": 1}


def test_a_file_without_times_is_read_as_it_is(tmp_path: Path) -> None:
    assert read(tmp_path / "a.srt", b"one\ntwo\n")[0] == ["one\ntwo\n"]
