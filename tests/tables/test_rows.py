"""Rows of any table: every format gives the same ones, bad ones have a place, and memory stays flat."""

import gzip
import json
import subprocess
import sys
import tracemalloc
import zipfile
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import pandas
import pyarrow
import pyarrow.parquet
import pytest

from llmkit.config.prepare import Read
from llmkit.core.errors import DataError
from llmkit.tables.rows import open_rows
from llmkit.text.records.rows import Header, RowStream

ROWS = [{"text": "一个很好的句子，说的是从前", "label": "好"}, {"text": 'two\nlines, "quoted"', "label": "bad"}]
CSV = 'text,label\n"一个很好的句子，说的是从前",好\n"two\nlines, ""quoted""",bad\n'


def write(path: Path, data: str | bytes) -> str:
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return str(path)


def read(
    path: str, *, header: Header = "auto", wanted: Sequence[str] = (), skip_bad: bool = False
) -> tuple[list[dict[str, object]], RowStream]:
    with open_rows(path, Read(skip_bad=skip_bad), header=header, wanted=wanted) as rows:
        return [row.cells for row in rows], rows


def test_every_format_gives_the_same_rows(tmp_path: Path) -> None:
    jsonl = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS)
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(ROWS), tmp_path / "a.parquet")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("inside.csv", CSV)
    paths = [
        write(tmp_path / "a.csv", CSV),
        write(tmp_path / "a.csv.gz", gzip.compress(CSV.encode())),
        write(tmp_path / "a.jsonl", jsonl),
        write(tmp_path / "a.json", json.dumps(ROWS, indent=1)),
        write(tmp_path / "sniffed_lines", jsonl),
        write(tmp_path / "sniffed_list.txt", json.dumps(ROWS)),
        str(tmp_path / "a.parquet"),
        str(tmp_path / "a.zip"),
    ]
    for path in paths:
        assert read(path)[0] == ROWS, path


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "gb18030", "utf-16"])
@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_encodings_marks_and_line_ends_change_no_cell(tmp_path: Path, encoding: str, line_end: str) -> None:
    path = write(tmp_path / "a.csv", CSV.replace("\n", line_end).encode(encoding))
    rows, stream = read(path)
    assert rows == [{name: cell.replace("\n", line_end) for name, cell in row.items()} for row in ROWS]
    assert (stream.columns, stream.has_header) == (["text", "label"], True)


@pytest.mark.parametrize(
    ("rows", "line", "problem"),
    [
        ("1,a\n2,b,c\n3,d\n", 3, "3 cells, but the header has 2"),
        ('1,"a\nb"\n\n2\n3,d\n', 5, "1 cells, but the header has 2"),
        ('1,a\n2,"b\n3,d\n', 3, "unclosed quote"),
    ],
)
def test_a_ragged_row_or_open_quote_is_named_by_its_line_and_skipping_it_loses_no_other(
    tmp_path: Path, rows: str, line: int, problem: str
) -> None:
    path = write(tmp_path / "a.csv", "id,text\n" + rows)
    with pytest.raises(DataError, match=problem) as caught:
        read(path)
    assert caught.value.problems[0].where.endswith(f"a.csv:{line}")
    kept, stream = read(path, skip_bad=True)
    assert [row["id"] for row in kept] == ["1", "3"]
    assert stream.source.skipped.total() == 1


@pytest.mark.parametrize(
    ("first", "has_header"),
    [
        ("label\ttext", True),
        ("words\tkind", True),  # no known name, but nothing like the cells below either
        ("ham\tHello there", False),  # "ham" comes again
        ("7\tHello there", False),
        ("eggs\t" + "a text of more than fifty characters, as no column is called", False),
        ("query\tHello there", False),  # a known name, but it comes again as a label
        ("\ttext", True),  # an index without a name
    ],
)
def test_a_header_is_told_from_a_first_row(tmp_path: Path, first: str, has_header: bool) -> None:
    path = write(tmp_path / "a.tsv", first + "\nham\tfirst text\nspam\tsecond text\nham\tthird\nquery\tfourth\n")
    rows, stream = read(path)
    assert (stream.has_header, len(rows)) == (has_header, 5 - has_header)
    if not has_header:
        assert stream.columns == ["1", "2"]
        assert rows[0]["1"] == first.partition("\t")[0]


def test_the_user_decides_about_the_header_by_saying_so_or_by_naming_a_column(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "ham,first\nham,second\n")
    assert read(path)[1].columns == ["1", "2"]
    assert read(path, header=True)[1].columns == ["ham", "first"]
    assert read(path, wanted=["ham"])[0] == [{"ham": "ham", "first": "second"}]
    assert len(read(write(tmp_path / "b.csv", "text,label\na,b\n"), header=False)[0]) == 2


def test_a_ragged_row_without_a_header_is_compared_with_the_first_row(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="1 cells, but the first row has 2") as caught:
        read(write(tmp_path / "a.tsv", "ham\ta\nham\tb\nham\n"))
    assert caught.value.problems[0].where.endswith("a.tsv:3")


def test_semicolons_separate_where_the_header_has_no_comma(tmp_path: Path) -> None:
    assert read(write(tmp_path / "a.csv", "text;label\na, b;c\n"))[0] == [{"text": "a, b", "label": "c"}]


def test_two_columns_of_one_name_are_refused_and_columns_without_a_name_are_numbered(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="more than one column is called 'text'"):
        read(write(tmp_path / "a.csv", "text,text\na,b\n"))
    assert read(write(tmp_path / "b.csv", "v1,v2,,\nham,hello,,\n"))[1].columns == ["v1", "v2", "3", "4"]


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.jsonl", "a.json", "a.txt", "a"])
@pytest.mark.parametrize("data", ["", "\n\n"])
def test_an_empty_file_is_an_error_that_names_it(tmp_path: Path, name: str, data: str) -> None:
    with pytest.raises(DataError, match="there are no rows") as caught:
        read(write(tmp_path / name, data))
    assert (caught.value.problems[0].where, caught.value.exit_code) == (str(tmp_path / name), 3)


def test_a_header_alone_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no rows below the header"):
        read(write(tmp_path / "a.csv", "text,label\n"))


@pytest.mark.parametrize("name", ["nothing.csv", "."])
def test_a_file_that_is_not_there_and_a_folder_are_bad_input(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError):
        open_rows(str(tmp_path / name), Read())


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        (
            "first text, with a comma\n\nsecond\n\n",
            [{"text": t} for t in ("first text, with a comma", "", "second", "")],
        ),
        ("[sic] is a word\n", [{"text": "[sic] is a word"}]),
        ("ham\thello\nham\tbye\n", [{"1": "ham", "2": "hello"}, {"1": "ham", "2": "bye"}]),
        ("title,body\nx,y\n", [{"text": "title,body"}, {"text": "x,y"}]),
        ("text,label\nx,y\n", [{"text": "x", "label": "y"}]),
        ('["a", "b"]', [{"text": "a"}, {"text": "b"}]),
        ("\n{}\n", [{}]),
    ],
)
def test_a_name_without_a_known_suffix_is_decided_by_the_first_lines(
    tmp_path: Path, text: str, rows: list[dict[str, Any]]
) -> None:
    assert read(write(tmp_path / "SMSSpamCollection", text))[0] == rows


def test_a_named_column_makes_a_table_of_lines_with_commas(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", "kind,words\nx,y\n")
    assert read(path, wanted=["words"])[0] == [{"kind": "x", "words": "y"}]


def test_json_columns_are_those_of_all_first_rows(tmp_path: Path) -> None:
    rows, stream = read(write(tmp_path / "a.jsonl", '{"text": "a"}\n"b"\n{"text": "c", "label": [1, null]}\n'))
    assert stream.columns == ["text", "label"]
    assert rows == [{"text": "a"}, {"text": "b"}, {"text": "c", "label": [1, None]}]


@pytest.mark.parametrize(("row", "problem"), [('{"text": "b"', "invalid JSON"), ("12", "the row is a number")])
def test_a_row_that_is_no_object_is_named_by_its_line_and_skipped_only_when_asked(
    tmp_path: Path, row: str, problem: str
) -> None:
    path = write(tmp_path / "a.jsonl", f'{{"text": "a"}}\n\n{row}\n{{"text": "c"}}\n')
    with pytest.raises(DataError, match=problem) as caught:
        read(path)
    assert caught.value.problems[0].where.endswith("a.jsonl:3")
    rows, stream = read(path, skip_bad=True)
    assert ([row["text"] for row in rows], stream.source.skipped.total()) == (["a", "c"], 1)


def test_an_undecodable_byte_costs_its_row_only_when_bad_rows_are_skipped(tmp_path: Path) -> None:
    data = "一个很好的句子\n第二".encode() + b"\xff" + "个\n最后一个句子\n".encode()
    path = write(tmp_path / "a.txt", data)
    with pytest.raises(DataError, match="not utf-8"):
        read(path)
    rows, stream = read(path, skip_bad=True)
    assert ([row["text"] for row in rows], stream.source.skipped.total()) == (["一个很好的句子", "最后一个句子"], 1)


def test_parquet_gives_lists_and_nulls_with_numbers_of_rows(tmp_path: Path) -> None:
    table = pyarrow.table({"text": ["a", None, "c"], "tags": [["x", "y"], [], None], "n": [1, 2, None]})
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    with open_rows(str(tmp_path / "a.parquet"), Read()) as rows:
        got = list(rows)
    assert (rows.columns, rows.unit, rows.has_header) == (["text", "tags", "n"], "row", None)
    assert [(row.line, *row.cells.values()) for row in got] == [
        (1, "a", ["x", "y"], 1),
        (2, None, [], 2),
        (3, "c", None, None),
    ]


def test_class_numbers_of_a_saved_data_set_become_their_names(tmp_path: Path) -> None:
    import datasets

    kinds = datasets.ClassLabel(names=["neg", "pos"])
    features = datasets.Features({"text": datasets.Value("string"), "label": kinds, "tags": datasets.List(kinds)})
    data = {"text": ["a", "b", "c"], "label": [1, 0, -1], "tags": [[1, 0], [], [1]]}
    datasets.Dataset.from_dict(data, features=features).save_to_disk(str(tmp_path / "saved"))
    rows, stream = read(f"hf:{tmp_path / 'saved'}")
    assert [row["label"] for row in rows] == ["pos", "neg", None]
    assert [row["tags"] for row in rows] == [["pos", "neg"], [], ["pos"]]
    assert stream.unit == "row"


@pytest.mark.parametrize(
    ("data", "first"),
    [(b"a b\nc d\n", {"text": "a b"}), (b'{"text": "x"}\n', {"text": "x"}), (b"1\tx\n", {"1": "1", "2": "x"})],
)
def test_stdin_is_read_without_seeking(data: bytes, first: dict[str, str]) -> None:
    code = "from llmkit.tables.rows import *\nwith open_rows('-', Read()) as rows: print([row.cells for row in rows])"
    done = subprocess.run([sys.executable, "-c", code], input=data, capture_output=True, check=True)
    assert done.stdout.decode().startswith(f"[{first}")


@pytest.mark.parametrize(
    "lines",
    [
        ["a good one", "", "bad one", "   ", "last", ""],
        ["hello\tworld", "good\tbye"],
        ["hello\tworld", "plain", "more"],
        ["one\u2028line", "two\x0clines", "three\x85lines"],
        ['["hello"] she said', "second"],
        ["text, with a comma", "label: none"],
        ["# title", "  indented"],
        ["id|text", "1|a"],
        ["😀😀", "𠮷"],
    ],
)
def test_as_many_rows_as_lines_come_from_stdin(lines: list[str]) -> None:
    code = "from llmkit.tables.rows import *\nwith open_rows('-', Read()) as rows: print(sum(1 for _ in rows))"
    data = "".join(f"{line}\n" for line in lines).encode()
    done = subprocess.run([sys.executable, "-c", code], input=data, capture_output=True, check=True)
    assert int(done.stdout) == len(lines)


def test_lines_of_fasttext_are_labelled_rows(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", "__label__pos a good king\n__label__neg __label__sad a bad knight\n")
    assert read(path)[0] == [{"label": "pos", "text": "a good king"}, {"label": ["neg", "sad"], "text": "a bad knight"}]


def test_a_sep_line_and_a_nested_column_are_read_for_labels_too(tmp_path: Path) -> None:
    path = write(tmp_path / "sep.csv", "sep=;\r\ntext;label\r\ngood king;pos\r\nbad knight;neg\r\n")
    assert read(path)[0] == [{"text": "good king", "label": "pos"}, {"text": "bad knight", "label": "neg"}]
    assert read(write(tmp_path / "sep", Path(path).read_bytes()))[1].columns == ["text", "label"]
    path = write(tmp_path / "a.jsonl", '{"data": {"text": "a"}, "label": 0}\n{"data": {"text": "b"}, "label": 1}\n')
    rows, stream = read(path, wanted=["data.text"])
    assert [row["data.text"] for row in rows] == ["a", "b"]
    assert stream.columns == ["data", "label", "data.text"]


def test_guesses_are_reported_once_per_file(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write(tmp_path / "a.csv", "Text, frei;Label\nja, nein;pos\nnein, ja;neg\n")
    for _ in range(3):
        assert read(path)[1].columns == ["Text, frei", "Label"]
    [line] = caplog.messages
    assert "semicolons" in line
    assert "'Text, frei', 'Label'" in line


def test_an_error_in_the_users_block_stays_what_it_is(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", CSV)
    with pytest.raises(OSError, match="disk full"), open_rows(path, Read()) as rows:
        next(iter(rows))
        raise OSError(28, "disk full")


@pytest.mark.parametrize("ending", ["csv", "jsonl", "txt"])
def test_memory_does_not_grow_with_the_file(tmp_path: Path, ending: str) -> None:
    line = {"csv": '"some words, for a text",{}\n', "jsonl": '{{"text": "some words", "n": {}}}\n', "txt": "words {}\n"}
    head = "text,n\n" if ending == "csv" else ""
    path = write(tmp_path / f"a.{ending}", head + "".join(line[ending].format(n) for n in range(200_000)))
    tracemalloc.start()
    with open_rows(path, Read()) as rows:
        n_rows = sum(1 for _ in rows)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert n_rows == 200_000
    assert peak < 24e6, "the rows as a list would be twice that and more"


def test_rows_in_memory_are_read_as_those_of_json_lines(tmp_path: Path) -> None:
    rows: list[Any] = [{"text": "a\nb", "n": 1}, "c\u2028d", ["e", "f"], {"text": None}]
    path = write(tmp_path / "a.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    with open_rows(rows, Read()) as given, open_rows(path, Read()) as read:
        assert [row.cells for row in given] == [row.cells for row in read]
        assert (given.columns, given.unit) == (read.columns, "row")
    with pytest.raises(DataError, match="the row is a number") as caught:
        open_rows(["a", 1], Read())  # type: ignore[list-item]
    assert caught.value.problems[0].where == "the given rows, row 2"


def test_an_encoding_that_was_guessed_is_reported_with_a_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    text = "text,label\nPříliš žluťoučký kůň úpěl ďábelské ódy,dobrý\nKdyž jsme přišli k řece; byla tma,špatný\n"
    with open_rows(write(tmp_path / "cs.csv", text.encode("cp1250")), Read()) as rows:
        assert len(list(rows)) == 2
    assert "cs.csv: read as cp1250 (prepare.read.encoding), for example" in caplog.text and "žluťoučký" in caplog.text
    caplog.clear()
    for name, read in (("u8.csv", Read()), ("named.csv", Read(encoding="cp1250")), ("u16.csv", Read())):
        encoding = {"u8.csv": "utf-8", "named.csv": "cp1250", "u16.csv": "utf-16"}[name]
        with open_rows(write(tmp_path / name, text.encode(encoding)), read) as rows:
            assert len(list(rows)) == 2
    assert "such as" not in caplog.text


def test_a_first_line_that_looks_like_a_header_is_a_text_and_reported(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with open_rows(write(tmp_path / "a.txt", "Text\ngood\nbad\n"), Read()) as rows:
        assert [row.cells["text"] for row in rows] == ["Text", "good", "bad"]
    assert "it looks like a header: 'Text'" in caplog.text


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.txt", "noname"])
@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le"])
def test_the_unicode_text_of_excel_is_a_table_with_tabs(tmp_path: Path, name: str, encoding: str) -> None:
    lines = "text\tlabel\r\n" + "今天, 天气好\tpos\r\na lamp\tneg\r\n" * 4
    rows, _ = read(write(tmp_path / name, lines.encode(encoding)))
    assert rows == [{"text": "今天, 天气好", "label": "pos"}, {"text": "a lamp", "label": "neg"}] * 4


def test_line_ends_inside_of_quotes_are_those_of_the_file(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", 'text,"my\r\nlabel"\r\n"a\r\nb","x\ny"\r\nc,"z\r\n"\r\n')
    rows, stream = read(path)
    assert stream.columns == ["text", "my\nlabel"]
    assert rows == [{"text": "a\r\nb", "my\nlabel": "x\ny"}, {"text": "c", "my\nlabel": "z\r\n"}]
    rows, _ = read(write(tmp_path / "lone.csv", 'text,label\n"a\rb","\r"\n\rc,x\r\n'))
    assert rows == [{"text": "a\rb", "label": "\r"}, {"text": "c", "label": "x"}]
    rows, _ = read(write(tmp_path / "old.csv", "text,label\ra,b\rc,d\r"))
    assert rows == [{"text": "a", "label": "b"}, {"text": "c", "label": "d"}]
    rows, _ = read(write(tmp_path / "lines.txt", "a b\r\nc d\r\n"))
    assert rows == [{"text": "a b"}, {"text": "c d"}]
    rows, _ = read(write(tmp_path / "ft.txt", "__label__x a b\r\n__label__y c d\r\n"))
    assert rows == [{"label": "x", "text": "a b"}, {"label": "y", "text": "c d"}]


def test_comments_above_a_table_and_repeated_headers_are_left_out_and_reported(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    part = "text,label\na lamp,pos\na ferry,neg\n"
    rows, _ = read(write(tmp_path / "a.csv", f"# made by me\n# on Monday\n{part}{part}"))
    assert [row["text"] for row in rows] == ["a lamp", "a ferry"] * 2
    output = "\n".join(caplog.messages)
    assert "rows above the table are skipped" in output
    assert "number of rows: 2, first '# made by me'" in output
    assert (
        "rows that repeat the header, as in concatenated files, are skipped; number of rows: 1, first line 6" in output
    )


@pytest.mark.parametrize("orient", ["columns", "index", "split", "table"])
def test_a_line_of_pandas_named_jsonl_is_a_table(tmp_path: Path, orient: Any) -> None:
    rows = [{"text": f"a lamp {n}", "label": "pos"} for n in range(12)]
    pandas.DataFrame(rows).to_json(tmp_path / "a.jsonl", orient=orient)
    found, stream = read(str(tmp_path / "a.jsonl"))
    assert [{name: row[name] for name in ("text", "label")} for row in found] == rows
    assert any("the file is one object" in what for what in stream.source.notes)
    line = '{"text": ["a", "b"], "label": ["x", "y"]}\n'
    assert len(read(write(tmp_path / "b.jsonl", line))[0]) == 1


def test_values_of_python_in_rows_are_plain(tmp_path: Path) -> None:
    with open_rows([{"text": "a", "price": Decimal("1.10"), "old": b"caf\xc3\xa9"}], Read()) as rows:
        assert [row.cells for row in rows] == [{"text": "a", "price": "1.10", "old": "café"}]


def test_a_folder_leads_to_a_table_inside_of_it_and_never_to_the_hub(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="one file is needed") as caught:
        read(str(tmp_path))
    assert "holds no table" in str(caught.value) and "hf:" not in str(caught.value)
    (tmp_path / "b.csv").write_text("text,label\na,b\n", encoding="utf-8")
    (tmp_path / "notes.md").write_text("x", encoding="utf-8")
    with pytest.raises(DataError) as caught:
        read(str(tmp_path))
    assert f"such as {tmp_path / 'b.csv'}" in str(caught.value)
