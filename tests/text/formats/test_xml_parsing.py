"""XML is parsed as events; declarations and truncated files are errors."""

import io
from collections.abc import Mapping

import pytest

from llmkit.core.errors import DataError
from llmkit.text.formats.xml_parsing import TextBuilder, parse_xml


class Recorder:
    def __init__(self) -> None:
        self.events: list[object] = []

    def start(self, name: str, attributes: Mapping[str, str]) -> None:
        self.events.append((name, dict(attributes)))

    def end(self, name: str) -> None:
        self.events.append(name)

    def data(self, text: str) -> None:
        self.events.append("=" + text)


def parse(data: bytes) -> list[object]:
    recorder = Recorder()
    for _ in parse_xml(io.BytesIO(data), recorder, "a.xml"):
        pass
    return recorder.events


def test_names_lose_their_namespaces() -> None:
    assert parse(b'<w:a xmlns:w="u" w:b="1">x</w:a>') == [("a", {"b": "1"}), "=x", "a"]


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b'<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>', "document type declaration"),
        (b"<a><b></a>", "damaged or cut off"),
        (b"<a>", "damaged or cut off"),
        (b"", "damaged or cut off"),
        (b'<?xml version="1.0" encoding="nothing"?><a/>', "damaged or cut off"),
    ],
)
def test_xml_that_is_hostile_or_damaged_is_an_error(data: bytes, problem: str) -> None:
    with pytest.raises(DataError, match=problem):
        parse(data)


def test_gaps_occur_only_between_texts_and_the_largest_wins() -> None:
    text = TextBuilder()
    text.gap("\n\n")
    text.add("a")
    text.gap(" ")
    text.gap("\n\n")
    text.gap("\t")
    text.add("b")
    text.gap("\n\n")
    assert text.take() + text.finish() == "a\n\nb\n"
    assert TextBuilder().finish() == ""
