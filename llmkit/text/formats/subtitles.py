"""Read the visible lines of subtitles, .srt (SubRip) and .vtt (WebVTT), without times, cue numbers, tags and notes.

A file is one document; lines of subtitles stay lines. Rolling captions, as YouTube writes them with a time for each
word, repeat every line until it leaves the screen; in rolling captions, a line that equals the previous one is dropped
and counted.
"""

import html
import re
from collections.abc import Iterable, Iterator
from itertools import chain, groupby

from llmkit.config.prepare import Read
from llmkit.text.decoding.encodings import TextStream
from llmkit.text.documents import Document, make_documents
from llmkit.text.entries import Entry
from llmkit.text.lines import split_lines, unify_line_ends
from llmkit.text.sources import Source

_TIMES = re.compile(r"\s*(?:\d+:)?\d+:\d+[.,]\d+\s*-->\s*(?:\d+:)?\d+:\d+[.,]\d+")
_TAG = re.compile(r"</?(?:[bius]|font|c|v|lang|ruby)(?:[ .\t][^<>]{0,200})?>|<[\d:.]{4,20}>|\{\\an?\d+\}", re.I)
_RUBY = re.compile(r"<rt>[^<>]{0,200}</rt>|<rt>[^<>]{0,200}$")
_WORD_TIME = re.compile(r"<\d[\d:.]{3,20}>")
_BLOCK = re.compile(r"(NOTE|STYLE|REGION)(\s|$)")


def read_subtitles(entry: Entry, source: Source, read: Read) -> Iterator[Document]:
    """Yield the text of a .srt or .vtt file as one document; a file without any time is read as plain text."""
    with entry.open(source) as file:
        stream = TextStream(file, read.encoding, entry.path)
        lines = split_lines(unify_line_ends(stream), entry.path)
        texts = _find_texts(lines, entry.ending == ".vtt", source)
        yield from make_documents((text + "\n" for text in texts), entry.path, 0, read.max_doc_chars)
        stream.record(source)


def _find_texts(lines: Iterable[str], is_vtt: bool, source: Source) -> Iterator[str]:
    """Yield the visible lines, without those that rolling captions repeat."""
    is_rolling, before = False, ""
    blocks = (list(block) for is_text, block in groupby(lines, lambda line: bool(line.strip())) if is_text)
    for line in chain.from_iterable(_read_block(block, is_vtt) for block in blocks):
        is_rolling = is_rolling or (is_vtt and _WORD_TIME.search(line) is not None)
        text = _TAG.sub("", _RUBY.sub("", line))
        text = (html.unescape(text) if is_vtt else text).strip()
        if is_rolling and text == before:
            source.skipped["repeated line of rolling captions"] += 1
        elif text:
            yield text
        before = text or before


def _read_block(block: list[str], is_vtt: bool) -> Iterator[str]:
    """Yield the lines of cues, without the line before each time, which is a number or a name.

    A block without a time is text, unless it is a note, style, region or header of WebVTT.
    """
    times = [number for number, line in enumerate(block) if _TIMES.match(line)]
    if not times:
        if not (is_vtt and (block[:1] and (_BLOCK.match(block[0]) or block[0].lstrip("\ufeff").startswith("WEBVTT")))):
            yield from block
        return
    for start, end in zip(times, [*times[1:], None], strict=True):
        following = block[start + 1 : end]
        if end is not None and following and following[-1].strip().isdigit():  # no blank line before the next number
            following.pop()
        yield from following
