"""Untrusted bytes, generated and mutated with fixed seeds, give data or an error of three lines.

What `benchmarks/fuzz.py` found in longer runs stands below as examples of their own.
"""

import io
import struct
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
import yaml
from fuzz_targets import TARGETS, make_seeds, make_zip, read_overrides, read_recipe
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llmkit.config.loading import load_recipe
from llmkit.config.prepare import Read
from llmkit.core.errors import DataError, UsageError
from llmkit.text.readers import read_documents

pytestmark = pytest.mark.slow

SEEDS = make_seeds()
QUICK = settings(derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck))
YAML_WORDS = st.sampled_from(
    [
        *(
            "train",
            "model",
            "max_steps",
            "objective",
            "clm",
            "cls",
            "null",
            "~",
            "true",
            "0x1f",
            "1e999",
            ".nan",
            "-.inf",
        ),
        *("2024-13-45", "1:60:61", "!!int x", "!!bool x", "!!timestamp x", "!!python/object:os.system", "!!binary x"),
        *(
            "&a",
            "*a",
            "<<",
            ": ",
            "- ",
            "? ",
            "| ",
            "{",
            "}",
            "[",
            "]",
            ",",
            "\n",
            "\n  ",
            "#",
            "'",
            '"',
            "\t",
            "\ufeff",
        ),
        *("9" * 5000, "[" * 2000, "{a: " * 500, "\x00", "\ud800", "\u202e"),
    ]
)


@st.composite
def mutated(draw: st.DrawFn, name: str) -> bytes:
    """A sound input with up to eight places changed, cut out or put in."""
    data = bytearray(draw(st.sampled_from(SEEDS[name])))
    for _ in range(draw(st.integers(0, 8))):
        place = draw(st.integers(0, len(data)))
        length = draw(st.integers(0, 20))
        data[place : place + length] = draw(st.binary(max_size=20))
    return bytes(data[: draw(st.integers(0, len(data)))]) if draw(st.booleans()) else bytes(data)


@pytest.mark.parametrize("name", TARGETS)
def test_mutated_and_arbitrary_bytes_end_in_data_or_in_an_error_of_ours(name: str) -> None:
    @settings(QUICK, max_examples=120)
    @given(st.one_of(mutated(name), st.binary(max_size=200)))
    def run(data: bytes) -> None:
        TARGETS[name](data)

    run()


@pytest.mark.parametrize("target", [read_recipe, read_overrides])
def test_any_yaml_ends_in_a_recipe_or_a_usage_error(target: Callable[[bytes], None]) -> None:
    @settings(QUICK, max_examples=80)
    @given(st.lists(st.one_of(YAML_WORDS, st.text(max_size=8)), max_size=12))
    def run(words: list[str]) -> None:
        target("".join(words).encode("utf-8", "surrogatepass"))

    run()


def test_nested_values_of_every_kind_end_in_a_recipe_or_a_usage_error() -> None:
    sections = st.sampled_from(["train", "model", "optim", "prepare", "cls", "generate"])
    keys = st.one_of(sections, st.sampled_from(["max_steps", "read", "name", "class_weights", "1", "null"]))
    leaves = st.one_of(st.integers(), st.floats(), st.booleans(), st.none(), st.text(max_size=5), st.dates())
    values = st.recursive(leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3))

    @settings(QUICK, max_examples=150)
    @given(st.dictionaries(st.one_of(sections, leaves), values, max_size=4))
    def run(tree: dict[object, object]) -> None:
        read_recipe(yaml.safe_dump(tree, allow_unicode=True).encode("utf-8", "surrogatepass"))

    run()


def write_parquet(texts: pyarrow.Array, name: str = "text") -> bytes:
    file = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table({name: texts}), file)
    return file.getvalue()


def write_locked_zip() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("META-INF/container.xml", "<a/>")
    data = bytearray(file.getvalue())
    for mark, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(mark) + place] |= 1  # it wants a password
    return bytes(data)


NO_UTF8 = pyarrow.StringArray.from_buffers(
    2, pyarrow.py_buffer(struct.pack("3i", 0, 2, 4)), pyarrow.py_buffer(b"\xff\xfeab")
)
SMALL_ZIP = make_zip("<a/>", "META-INF/container.xml")
FOUND = {
    "a number of 5,000 digits": (".json", b'[{"text": ' + b"9" * 5000 + b"}]", "a number with too many digits"),
    "one of a line": (".jsonl", b'{"text": ' + b"9" * 5000 + b"}", "a number with too many digits"),
    "text that is no UTF-8": (".parquet", write_parquet(NO_UTF8), "not a valid parquet file"),
    "a column's name": (".parquet", write_parquet(["a"]).replace(b"text", b"te\xff\xfe"), "not a valid parquet file"),
    "a name that is no UTF-8": (
        ".csv.zip",
        make_zip("text\na\n", "é.csv").replace("é".encode(), b"\xad\xad"),
        "damaged",
    ),
    "a member before the file": (
        ".epub",
        SMALL_ZIP[:-6] + struct.pack("<IH", struct.unpack("<I", SMALL_ZIP[-6:-2])[0] + 50, 0),
        "damaged or cut off",
    ),
    "a password": (".epub", write_locked_zip(), "password"),
    "elements in elements": (".html", b"<div>" * 30_000, "nested more than"),
    "spaces in a tag": (".html", b"<?xml ?><h" + b"\r" * 2000 + b"<p>text", None),
    "a charset that is none": (".html", b"<meta charset=undefined>\xa4\xa4<p>text", "the encoding is unclear"),
}
"""Bytes that once ended in a traceback or took hours, and the error message for each; None if they can be read."""


@pytest.mark.parametrize("name", FOUND)
def test_bytes_that_once_ended_in_a_traceback_end_as_they_should(tmp_path: Path, name: str) -> None:
    ending, data, words = FOUND[name]
    path = tmp_path / f"file{ending}"
    path.write_bytes(data)
    started = time.process_time()
    try:
        texts = [document.text for document in read_documents([str(path)], Read(), [])]
        assert words is None
        assert "text" in texts[0]
    except DataError as error:
        assert words is not None, error
        assert words in str(error)
    assert time.process_time() - started < 10


def test_a_named_encoding_that_cannot_be_is_reported_with_the_way_out(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes("中文".encode("utf-16-le") * 20)
    with pytest.raises(DataError, match="utf-16-le or utf-16-be"):
        list(read_documents([str(tmp_path / "a.txt")], Read(encoding="utf-16"), []))
    with pytest.raises(UsageError, match="unknown encoding"):
        list(read_documents([str(tmp_path / "a.txt")], Read(encoding="a\0b"), []))


LAUGHS = "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (LAUGHS, "more than 10,000 values"),
        ("model: &m {x: *m}", "more than 10,000 values"),
        ("{a: " * 5000, "nested too deeply"),
        ("train:\n  max_steps: 2024-13-45", "an invalid value: month must be in 1..12"),
        ("train: !!bool maybe", "an invalid value"),
        ("train: !!timestamp x", "an invalid value"),
        ("train: {max_steps: 0x" + "f" * 9000 + "}", "a number beyond 64 bits"),
        ("train: {max_steps: " + "9" * 5000 + "}", "an invalid value"),
        ("!!python/object/apply:os.system [x]", "not valid YAML"),
        ("1: 2", "unknown key '1'"),
    ],
    ids=lambda text: text[:20],
)
def test_hostile_yaml_is_a_usage_error_at_once(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "recipe.yaml").write_text(text)
    started = time.process_time()
    with pytest.raises(UsageError) as caught:
        load_recipe(tmp_path / "recipe.yaml")
    assert words in str(caught.value)
    assert len(str(caught.value)) < 2000
    key, _, value = text.partition(": ")
    if value:
        with pytest.raises(UsageError):
            load_recipe(None, [f"{key}={value}"])
    assert time.process_time() - started < 5
