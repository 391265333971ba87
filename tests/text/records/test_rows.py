"""All tables: notes on guesses, late columns, nested columns, memory."""

from pathlib import Path

import pytest

from llmkit.config.prepare import Read
from llmkit.core.errors import DataError
from llmkit.text.records import rows as rows_module
from llmkit.text.records.rows import Row, RowStream, read_text, require_unique
from llmkit.text.sources import Source


def read(text: str, ending: str, **options: object) -> tuple[list[Row], RowStream]:
    wanted = options.pop("wanted", ())
    stream = RowStream(Source(f"a{ending}"), Read(**options), wanted=wanted)  # type: ignore[arg-type]
    with stream as rows:
        rows.start(read_text(rows, ending, iter([text])))
        return list(rows), rows


def notes(stream: RowStream) -> str:
    return "; ".join(f"{what}; {example}" for what, example in stream.source.notes.items())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('"Tale 1, a ferry."\n"Tale 2, a ferry."\n', ["one column", "no header", "prepare.read.header", "'Tale 1, a"]),
        (
            "text;label\na;b\nc;d\n",
            ["semicolons", "a header in the first row", "read.delimiter", "'text', 'label'"],
        ),
        ("kind,words\nx,y\nz,w\n", ["a header in the first row", "'kind', 'words'"]),
        ("评语，甲乙\n很好，甲\n不好，乙\n", ["-s prepare.read.delimiter=，"]),
        ("text，label\n很好，甲\n", ["full-width commas between cells", "'text', 'label'"]),
        ("text,label\na,b\n", []),
        ("sep=,\ntext,label\na,b\n", []),
    ],
)
def test_a_guess_about_a_table_is_noted_with_its_first_row(text: str, expected: list[str]) -> None:
    found = notes(read(text, ".csv")[1])
    assert all(each in found for each in expected)
    assert bool(found) == bool(expected)


def test_a_full_width_comma_is_not_suggested_for_verses() -> None:
    verses = "春眠不觉晓，处处闻啼鸟。\n夜来风雨声，花落知多少。\n白日依山尽，黄河入海流。\n"
    assert "delimiter=，" not in notes(read(verses, ".csv")[1])


def test_a_row_with_a_full_width_comma_below_a_header_with_commas_is_named() -> None:
    with pytest.raises(DataError) as error:
        read("text,label\n很好，甲\n", ".csv")
    assert "replace the full-width ， between its cells" in str(error.value)


@pytest.mark.parametrize(("text", "ending"), [("text,n\na,1\n", ".csv"), ('{"text": "a", "n": "1"}\n', ".jsonl")])
def test_a_second_byte_order_mark_belongs_to_no_name(text: str, ending: str) -> None:
    assert [row.cells for row in read("\ufeff" + text, ending)[0]] == [{"text": "a", "n": "1"}]


def test_a_list_of_one_object_is_one_row() -> None:
    text = '[{"id": 1, "data": {"text": "A review."}, "annotations": [{"result": "pos"}]}]'
    assert [list(row.cells) for row in read(text, ".json")[0]] == [["id", "data", "annotations"]]


def test_blank_rows_before_the_first_one_are_no_header() -> None:
    assert [row.cells for row in read(",,\n\n ,\ntext,label\na,b\n", ".csv")[0]] == [{"text": "a", "label": "b"}]


def test_settings_of_the_user_get_no_note() -> None:
    rows, stream = read("Tale 1;a\nTale 2;b\n", ".csv", header=True, delimiter=";")
    assert ([row.cells for row in rows], notes(stream)) == ([{"Tale 1": "Tale 2", "a": "b"}], "")
    assert len(read("text,label\na,b\n", ".csv", header=False)[0]) == 2
    assert read("a,b\nc,d\n", ".csv", delimiter="none")[0][0].cells == {"1": "a,b"}


def test_columns_that_come_after_the_sample_are_counted_and_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows_module, "SAMPLE_ROWS", 3)
    text = '{"text": "a"}\n' * 4 + '{"text": "b", "note": 1}\n\n{"text": "c", "note": 2, "x": 3}\n'
    rows, stream = read(text, ".jsonl")
    assert (stream.columns, rows[-1].cells) == (["text"], {"text": "c", "note": 2, "x": 3})
    assert "number of rows: 2, first 'note' in line 5, 'x' in line 7" in notes(stream)
    assert notes(read('{"text": "a"}\n{"text": "b", "n": 1}\n', ".jsonl")[1]) == ""


def test_a_wanted_path_of_keys_is_a_column() -> None:
    rows, stream = read('{"data": {"text": "a"}, "y": 1}\n{"y": 2}\n', ".jsonl", wanted=["data.text", "y", "no.thing"])
    assert stream.columns == ["data", "y", "data.text"]
    assert [row.cells.get("data.text") for row in rows] == ["a", None]


@pytest.mark.parametrize("ending", [".jsonl", ".csv", ".tsv", ".txt"])
def test_u2028_and_similar_separators_end_no_row(ending: str) -> None:
    text = "a\u2028b\u2029c\x85d"
    line = f'"{text}"' if ending == ".jsonl" else text
    rows, _ = read(f"{line}\n{line}\n", ending)
    assert [list(row.cells.values()) for row in rows] == [[text]] * 2


def test_plain_lines_are_rows_though_they_are_blank() -> None:
    rows, _ = read("\na\n\n \nb\n\n", ".txt")
    assert [(row.line, row.cells["text"]) for row in rows] == [(1, ""), (2, "a"), (3, ""), (4, ""), (5, "b"), (6, "")]
    assert read("\n \n\n", ".txt")[0] == []


def test_two_columns_of_one_name_are_an_error_that_names_it() -> None:
    require_unique(["a", "b"], "a.csv")
    with pytest.raises(DataError, match="more than one column is called 'a'"):
        require_unique(["a", "b", "a"], "a.csv")


def test_the_sample_is_bounded_by_its_characters() -> None:
    _, stream = read("x" * 1_000_000 + "\n", ".txt")
    assert len(stream.sample) == 1
    text = ("x" * 1_000_000 + "\n") * 10
    assert len(read(text, ".txt")[1].sample) < 10
    assert len(read(text, ".txt")[0]) == 10


def test_a_table_of_ten_thousand_columns_is_read(tmp_path: Path) -> None:
    names = [f"c{n}" for n in range(10_000)]
    rows, stream = read(",".join(names) + "\n" + ",".join(map(str, range(10_000))) + "\n", ".csv")
    assert stream.columns == names
    assert rows[0].cells["c9999"] == "9999"
    assert len(notes(stream)) < 300
