"""Delimiter and quoting are those that fit all sampled rows, not the first line."""

import pytest

from llmkit.text.records.delimited import Dialect, detect_dialect, split_records


def read(text: str, ending: str = ".csv", delimiter: str = "auto") -> tuple[Dialect, list[list[str] | str]]:
    dialect, records = split_records(iter(text.removesuffix("\n").split("\n")), ending, delimiter)
    return dialect, [cells for _, cells in records]


@pytest.mark.parametrize(
    ("text", "cells"),
    [
        ("Text, frei;Label\nja, nein;pos\nnein, ja;neg\n", ["Text, frei", "Label"]),
        ("text;label\na, b;c\n", ["text", "label"]),
        ("a;1,5\nb;2,5\nc;3,5\n", ["a", "1,5"]),
        ("id|text\n1|a, b\n2|c\n", ["id", "text"]),
        ("id\ttext\n1\ta, b\n2\tc\n", ["id", "text"]),
        ("id, text\n1, foo bar\n2, baz\n", ["id", "text"]),
        ('"Tale, one"; "good"\n"Tale, two"; "bad"\n', ["Tale, one", "good"]),
        ("text,label\na; b,c\nd; e,f\n", ["text", "label"]),
        ("文本,标签\n好；不好,a\n好；好,b\n", ["文本", "标签"]),
        ("文本，标签\n好；不好，a\n好；好，b\n", ["文本", "标签"]),
        ("text；label\n好，不好；a\n", ["text", "label"]),
    ],
)
def test_the_delimiter_is_the_one_that_fits_all_rows(text: str, cells: list[str]) -> None:
    assert read(text)[1][0] == cells


@pytest.mark.parametrize(
    "text",
    [
        '"Tale 1, a ferry."\n"Tale 2, a ferry."\n"Tale 3, a ferry."\n',
        "Tale 1, a ferry.\nTale 2, a ferry.\nTale 3, a ferry.\n",
        "A ferry left.\nHello, said she.\nYes, well, no.\n",
        "text\nHello, world\nGood bye\nYes, sure, ok\n",
        "one; two\nthree\nfour; five; six\n",
        "春眠不觉晓，处处闻啼鸟。\n夜来风雨声，花落知多少。\n",
        "text\n他来了，又走了\n天黑了，下雨了\n",
    ],
)
def test_texts_with_commas_in_lines_of_their_own_are_one_column(text: str) -> None:
    dialect, records = read(text)
    assert dialect.delimiter == ""
    assert records == [[line.strip('"')] for line in text.splitlines()]


@pytest.mark.parametrize(
    ("line", "cells"), [("sep=;", ["a,b", "c"]), ('"sep=;"', ["a,b", "c"]), ("sep=,", ["a", "b;c"])]
)
def test_a_sep_line_names_the_delimiter_and_is_no_row(line: str, cells: list[str]) -> None:
    dialect, records = split_records(iter([line, "a,b;c", "d,e;f"]), ".csv", "auto")
    assert next(records) == (2, cells), "line numbers count the sep line"
    assert dialect.delimiter == line.strip('"')[-1]


def test_the_users_delimiter_beats_all_guesses() -> None:
    assert read("sep=;\na,b;c\n", delimiter=",")[1] == [["a", "b;c"]]
    assert read("a,b\nc,d\n", delimiter="none")[1] == [["a,b"], ["c,d"]]
    assert read("a,b\nc,d\n", ".tsv", delimiter=",")[1] == [["a", "b"], ["c", "d"]]


def test_a_ragged_table_keeps_its_delimiter() -> None:
    assert read("id,text\n1,a\n2,b,c\n3,d\n")[1] == [["id", "text"], ["1", "a"], ["2", "b", "c"], ["3", "d"]]
    assert detect_dialect(["Report", "id,story", "1,a", "2,b"]).delimiter == ","


@pytest.mark.parametrize(
    ("text", "is_quoted", "first"),
    [
        ('a\t" cremaster 3 " is\nb\t"quoted"\n', False, ["a", '" cremaster 3 " is']),
        ('a\t"quoted"\nb\tplain\n', False, ["a", '"quoted"']),
        ('"He said ""no""\tand left"\tpos\nplain\tneg\n', True, ['He said "no"\tand left', "pos"]),
        ('"two\nlines"\tpos\nplain\tneg\n', True, ["two\nlines", "pos"]),
        ('"a"\tpos\n"b"\tneg\n', True, ["a", "pos"]),
    ],
)
def test_quotes_in_a_tsv_are_quoting_only_if_the_rows_show_it(text: str, is_quoted: bool, first: list[str]) -> None:
    dialect, records = read(text, ".tsv")
    assert (dialect.is_quoted, records[0]) == (is_quoted, first)


def test_a_backslash_before_a_quote_is_read_where_doubling_does_not_fit() -> None:
    assert read('id,text\n1,"He said \\"no\\", twice."\n2,a\n')[1][1] == ["1", 'He said "no", twice.']
    assert read('id,text\n1,"a \\ b ""c"""\n')[1][1] == ["1", 'a \\ b "c"']


def test_line_ends_in_quotes_and_bad_rows_keep_their_places() -> None:
    _, records = split_records(iter(["a,b", '"x', 'y",1', 'c,"d', "e,f"]), ".csv", ",")
    assert list(records) == [(1, ["a", "b"]), (2, ["x\ny", "1"]), (4, "unclosed quote"), (5, ["e", "f"])]


def test_the_sample_may_end_inside_a_quoted_cell() -> None:
    lines = ["id;text", *(f"{n};a, b" for n in range(998)), '999;"two', 'lines, of one"', "1000;c"]
    dialect, records = split_records(iter(lines), ".csv", "auto")
    assert dialect.delimiter == ";"
    assert list(records)[-2:] == [(1000, ["999", "two\nlines, of one"]), (1002, ["1000", "c"])]


def test_a_sample_that_ends_inside_a_quoted_cell_of_a_tsv_shows_its_quotes_still() -> None:
    lines = ['"a ""b"""\tx', *(f"{n}\ty" for n in range(998)), '"two', 'lines"\tz', "c\tw"]
    dialect, records = split_records(iter(lines), ".tsv", "auto")
    assert dialect.is_quoted
    assert list(records)[-2:] == [(1000, ["two\nlines", "z"]), (1002, ["c", "w"])]
