"""JSON rows: a bad line is named, and skipped only when the user says so."""

import json
from pathlib import Path

import pytest

from llmkit.config.prepare import Read
from llmkit.core.errors import DataError
from llmkit.text.documents import Document
from llmkit.text.readers import read_documents
from llmkit.text.sources import Source


def read_rows(path: Path, data: str | bytes, **options: object) -> tuple[list[str], Source]:
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    sources: list[Source] = []
    documents: list[Document] = list(read_documents([str(path)], Read(**options), sources))  # type: ignore[arg-type]
    return [document.text for document in documents], sources[0]


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ('{"text": "b"', "invalid JSON"),
        ('{"txt": "b"}', "no column 'text'"),
        ('{"text": 7}', "a number, not a text"),
        ('{"text": [7]}', "a number, not a text"),
        ("12", "a number, not an object or a text"),
    ],
)
def test_a_bad_line_is_an_error_with_its_number_and_skipping_it_is_counted(
    tmp_path: Path, row: str, problem: str
) -> None:
    data = f'{{"text": "a"}}\n\n{row}\n{{"text": "c"}}\n'
    with pytest.raises(DataError) as caught:
        read_rows(tmp_path / "a.jsonl", data)
    assert caught.value.problems[0].where.endswith("a.jsonl:3")
    assert problem in caught.value.problems[0].what
    texts, source = read_rows(tmp_path / "a.jsonl", data, skip_bad=True)
    assert texts == ["a", "c"]
    assert source.skipped.total() == 1


def test_an_undecodable_byte_costs_its_line_only_when_bad_rows_are_skipped(tmp_path: Path) -> None:
    data = '{"text": "第一个很好的句子"}\n{"text": "'.encode() + b"\xff" + '"}\n{"text": "最后"}\n'.encode()
    with pytest.raises(DataError, match="not utf-8"):
        read_rows(tmp_path / "a.jsonl", data)
    texts, source = read_rows(tmp_path / "a.jsonl", data, skip_bad=True)
    assert (texts, source.skipped.total()) == (["第一个很好的句子", "最后"], 1)


def test_null_and_empty_texts_are_counted_and_the_word_null_is_kept(tmp_path: Path) -> None:
    texts, source = read_rows(tmp_path / "a.jsonl", '{"text": null}\n{"text": ""}\n{"text": "null"}\n"NA"\n')
    assert (texts, source.skipped) == (["null", "NA"], {"empty": 2})


def test_line_separators_of_unicode_inside_a_text_do_not_end_the_row(tmp_path: Path) -> None:
    assert read_rows(tmp_path / "a.jsonl", '{"text": "a\u2028b\u0085c"}\n')[0] == ["a\u2028b\u0085c"]


@pytest.mark.parametrize("indent", [None, 2])
def test_a_json_list_is_read_value_by_value(tmp_path: Path, indent: int | None) -> None:
    rows = [{"id": n, "text": f'第{n}个 [{{,"]' * 50} for n in range(3000)]
    data = json.dumps(rows, ensure_ascii=False, indent=indent)
    assert len(data) > 1_500_000
    assert read_rows(tmp_path / "a.json", data)[0] == [row["text"] for row in rows]


def test_a_json_file_may_hold_rows_one_after_another(tmp_path: Path) -> None:
    assert read_rows(tmp_path / "a.json", '{"text": "a"}\n{"text": "b"}\n')[0] == ["a", "b"]


def test_values_after_a_json_list_are_read(tmp_path: Path) -> None:
    assert read_rows(tmp_path / "a.json", '["a"]\n["b", "c"] "d"')[0] == ["a", "b", "c", "d"]
    with pytest.raises(DataError, match="invalid JSON"):
        read_rows(tmp_path / "b.json", '["a"] and more')


@pytest.mark.parametrize(
    ("data", "line"), [('[{"text": "a"},\n{"text": "b"', 2), ('[{"text": "a"}\n', 2), ("[\n\nx]", 3)]
)
def test_a_json_file_that_breaks_off_is_an_error_with_its_line(tmp_path: Path, data: str, line: int) -> None:
    with pytest.raises(DataError) as caught:
        read_rows(tmp_path / "a.json", data)
    assert caught.value.problems[0].where.endswith(f"a.json:{line}")


def test_the_key_can_be_named(tmp_path: Path) -> None:
    data = '{"text": "a", "summary": "b"}\n'
    assert read_rows(tmp_path / "a.jsonl", data, field="summary")[0] == ["b"]


@pytest.mark.parametrize("name", ["a.jsonl", "a.json"])
@pytest.mark.parametrize("value", ["[" * 900 + "]" * 900, '{"a":' * 100 + "1" + "}" * 100, "[" * 100_000])
def test_a_value_that_is_nested_too_deeply_is_an_error_without_a_traceback(
    tmp_path: Path, name: str, value: str
) -> None:
    for row in (value, f'{{"text": "a", "b": {value}}}', f'{{"text": {value}}}'):
        with pytest.raises(DataError, match=r"nested too deeply|invalid JSON"):
            read_rows(tmp_path / name, row)
    flat = json.dumps({"text": "a", "b": [[1]] * 1000, "c": [{}] * 1000})
    assert read_rows(tmp_path / name, flat)[0] == ["a"]
