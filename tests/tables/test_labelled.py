"""Labels: words, complete, mapped once; FAULTS 8 and 10 to 15."""

import random
import tracemalloc
from collections import Counter
from pathlib import Path

import pytest

from llmkit.config.prepare import Read
from llmkit.core.errors import DataError
from llmkit.tables.label_columns import choose_columns
from llmkit.tables.labelled import (
    LabelledRow,
    ParseLabel,
    UnseenLabels,
    build_label2id,
    map_labels,
    parse_label,
    parse_labels,
    parse_number,
    read_labelled,
    to_ids,
)
from llmkit.tables.rows import open_rows
from llmkit.text.records.fields import BadCell


def parser(kind: str, separator: str | None = None) -> ParseLabel:
    known = {"single_label": parse_label, "regression": parse_number}
    return known.get(kind, lambda cell: parse_labels(cell, separator))


def read(
    tmp_path: Path,
    text: str,
    *,
    name: str = "rows.csv",
    label: str | None = "label",
    kind: str = "single_label",
    separator: str | None = None,
    need_label: bool = True,
    skip_bad: bool = False,
) -> list[LabelledRow]:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    wanted = [label] if label else []
    with open_rows(str(path), Read(skip_bad=skip_bad), wanted=wanted) as rows:
        sample = [row.cells for row in rows.sample]
        columns = choose_columns(
            rows.columns, sample, text=None, pair=None, label=label, need_label=need_label, where=str(path)
        )
        return list(read_labelled(rows, columns, parser(kind, separator)))


def labels_of(rows: list[LabelledRow]) -> list[object]:
    return [row.label for row in rows]


def test_missing_label_column_lists_the_columns_and_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no column 'label'; found: 'text', 'labell'") as caught:
        read(tmp_path, "text,labell\na,b\n")
    assert "did you mean 'labell'?" in str(caught.value)


def test_na_and_null_are_texts_and_labels_like_others(tmp_path: Path) -> None:
    rows = read(tmp_path, "text,label\nNA,null\nnull,NA\nNone,1\n,nan\n")
    assert [(row.text, row.label) for row in rows] == [("NA", "null"), ("null", "NA"), ("None", "1"), ("", "nan")]


@pytest.mark.parametrize("kind", ["single_label", "regression"])
def test_missing_labels_are_an_error_with_their_lines_and_never_a_float(tmp_path: Path, kind: str) -> None:
    with pytest.raises(DataError, match="2 of 5 rows have no 'label'") as caught:
        read(tmp_path, 'text,label\na,0\nb,1\n"two\nlines",\nd,1\ne, \n', kind=kind)
    assert "lines 4, 7" in str(caught.value)
    assert caught.value.exit_code == 3
    kept = read(tmp_path, "text,label\na,0\nb,\nc,1\n", skip_bad=True)
    assert labels_of(kept) == ["0", "1"]


def test_null_and_missing_keys_are_missing_labels_and_the_word_null_is_none(tmp_path: Path) -> None:
    data = '{"text": "a", "label": "null"}\n{"text": "b", "label": null}\n{"text": "c"}\n'
    for kind in ("single_label", "multi_label"):
        with pytest.raises(DataError, match="2 of 3 rows have no 'label'") as caught:
            read(tmp_path, data, name="a.jsonl", kind=kind)
        assert "lines 2, 3" in str(caught.value)


def test_many_missing_labels_are_counted_and_the_first_five_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="9 of 10 rows") as caught:
        read(tmp_path, "text,label\na,x\n" + "b,\n" * 9)
    assert "lines 3, 4, 5, 6, 7 and 4 more" in str(caught.value)


def test_integer_labels_stay_the_words_they_are(tmp_path: Path) -> None:
    rows = read(tmp_path, "text,label\na,10\nb,9\nc,2\nd,02\n")
    assert labels_of(rows) == ["10", "9", "2", "02"]
    assert build_label2id(Counter(labels_of(rows)), "rows.csv") == {"02": 0, "2": 1, "9": 2, "10": 3}  # type: ignore[arg-type]


def test_json_values_are_labels_as_they_are_written(tmp_path: Path) -> None:
    values = ["1", "1.0", "true", "false", '" a "']
    data = "".join(f'{{"text": {n}, "label": {value}}}\n' for n, value in enumerate(values))
    rows = read(tmp_path, data, name="a.jsonl")
    assert labels_of(rows) == ["1", "1.0", "true", "false", "a"]
    assert rows[1].text == "1"


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ('{"txt": "b", "label": "x"}', "no column 'text'; found: 'txt', 'label'"),
        ('{"text": ["b"], "label": "x"}', "'text' holds a list, not a text"),
        ('{"text": "b", "label": {}}', "the label is an object"),
        ('{"text": "b", "label": ["x"]}', "the label is a list"),
        ('{"text": "b"', "invalid JSON"),
    ],
)
def test_a_bad_json_row_is_named_by_its_line_and_skipped_only_when_asked(
    tmp_path: Path, row: str, problem: str
) -> None:
    data = f'{{"text": "a", "label": "x"}}\n{row}\n{{"text": "c", "label": "y"}}\n'
    with pytest.raises(DataError, match=problem) as caught:
        read(tmp_path, data, name="a.jsonl")
    assert caught.value.problems[0].where.endswith("a.jsonl:2")
    assert labels_of(read(tmp_path, data, name="a.jsonl", skip_bad=True)) == ["x", "y"]


def test_several_labels_are_cut_sorted_and_taken_once(tmp_path: Path) -> None:
    rows = read(tmp_path, "text,label\na,y|x\nb, x | |x\nc,\nd,z\n", kind="multi_label", separator="|")
    assert labels_of(rows) == [("x", "y"), ("x",), (), ("z",)]
    data = '{"text": "a", "label": ["b", 1, "b"]}\n{"text": "b", "label": []}\n{"text": "c", "label": "x|y"}\n'
    assert labels_of(read(tmp_path, data, name="a.jsonl", kind="multi_label")) == [("1", "b"), (), ("x|y",)]
    with pytest.raises(DataError, match="not a flat list"):
        read(tmp_path, '{"text": "a", "label": ["b", null]}\n', name="a.jsonl", kind="multi_label")


def test_lists_that_were_written_as_text_are_lists_of_labels(tmp_path: Path) -> None:
    cells = ["['joy', 'love']", '[""joy"", ""sad""]', "[]", "['joy' 'love']", "[1, 2]", "[1]", "[sic]", "joy"]
    data = "text,label\n" + "".join(f'a,"{cell}"\n' for cell in cells)
    expected = [("joy", "love"), ("joy", "sad"), (), ("joy", "love"), ("1", "2"), ("1",), ("[sic]",), ("joy",)]
    assert labels_of(read(tmp_path, data, kind="multi_label")) == expected


@pytest.mark.parametrize("label", ["[0.7, 0.3]", '{"pos": 0.7, "neg": 0.3}'])
def test_soft_labels_are_refused_by_name(tmp_path: Path, label: str) -> None:
    with pytest.raises(DataError, match="soft labels"):
        read(
            tmp_path,
            f'{{"text": "a", "label": {label}}}\n',
            name="a.jsonl",
            kind="multi_label" if "[" in label else "single_label",
        )


def test_mapped_labels_become_one_if_their_new_names_are_equal() -> None:
    single = map_labels(parse_label, {"0.0": "0", "NEG": "neg"})
    assert [single(cell) for cell in ("0.0", "0", "NEG", None)] == ["0", "0", "neg", None]
    several = map_labels(lambda cell: parse_labels(cell, "|"), {"x": "y"})
    assert several("y|x|a") == ("a", "y")


def test_regression_takes_finite_numbers_only_and_names_the_lines_of_others(tmp_path: Path) -> None:
    assert labels_of(read(tmp_path, "text,label\na,1\nb, -2.5e1 \n", kind="regression")) == [1.0, -25.0]
    with pytest.raises(DataError, match="4 of 6 rows have no finite number in 'label', such as 'good'") as caught:
        read(tmp_path, "text,label\na,1\nb,good\nc,nan\nd,inf\ne,1_0\nf,\n", kind="regression")
    assert "lines 3, 4, 5, 6" in str(caught.value)
    assert "1 of 6 rows have no 'label'" in str(caught.value)


def test_unlabelled_rows_are_read_with_empty_texts_and_pairs(tmp_path: Path) -> None:
    rows = read(tmp_path, "premise,hypothesis\na,b\n,d\n", label=None, need_label=False)
    assert rows == [LabelledRow("a", "b", None, 2), LabelledRow("", "d", None, 3)]


def test_one_label_alone_is_refused_before_any_model() -> None:
    with pytest.raises(DataError, match="all 2 rows have the label 'spam'"):
        build_label2id({"spam": 2}, "rows.csv")
    with pytest.raises(DataError, match="1 of 3 rows have the only label 'spam'"):
        build_label2id({"spam": 1}, "rows.csv", n_rows=3)
    with pytest.raises(DataError, match="no row has a label"):
        build_label2id({}, "rows.csv", n_rows=3)


def test_label_map_does_not_depend_on_the_order_of_rows() -> None:
    labels = ["ham", "nan", "NaN", "10", "9", "spam", "inf", "eggs", "正面", "1.0", "1"] * 5
    expected = ["1", "1.0", "9", "10", "NaN", "eggs", "ham", "inf", "nan", "spam", "正面"]
    for seed in range(5):
        shuffled = random.Random(seed).sample(labels, len(labels))
        assert list(build_label2id(Counter(shuffled), "")) == expected


def test_label_only_in_evaluation_is_named_with_its_lines(tmp_path: Path) -> None:
    label2id = {"ham": 0, "spam": 1}
    rows = read(tmp_path, "text,label\na,ham\nb,eggs\nc,eggs\nd,spam\n")
    with pytest.raises(DataError, match="do not occur in the train rows: 'eggs'") as caught:
        list(to_ids(rows, label2id, "test.csv", unseen="refuse"))
    assert "test.csv, lines 3, 4" in str(caught.value)
    assert "--unseen-labels ignore" in str(caught.value)
    unseen = UnseenLabels()
    kept = list(to_ids(rows, label2id, "test.csv", unseen="ignore", unseen_labels=unseen))
    assert [ids for _, ids in kept] == [(0,), (1,)]
    assert (unseen.labels, unseen.rows.n) == ({"eggs": 2}, 2)


def test_a_row_with_one_unseen_label_of_several_is_left_out_and_counted_once() -> None:
    rows = [LabelledRow("a", None, ("x", "new", "newer"), 1), LabelledRow("b", None, ("x", "y"), 2)]
    rows.append(LabelledRow("c", None, (), 3))
    unseen = UnseenLabels()
    kept = list(to_ids(rows, {"x": 0, "y": 1}, "", unseen="ignore", unseen_labels=unseen))
    assert [ids for _, ids in kept] == [(0, 1), ()]
    assert unseen.rows.n == 1


def test_reading_keeps_no_rows_in_memory(tmp_path: Path) -> None:
    path = tmp_path / "a.tsv"
    path.write_text("label\ttext\n" + "".join(f"{n % 3}\tsome words {n}\n" for n in range(200_000)))
    tracemalloc.start()
    with open_rows(str(path), Read()) as rows:
        columns = choose_columns(rows.columns, [], text=None, pair=None, label=None, need_label=True, where="")
        n_rows = sum(1 for _ in read_labelled(rows, columns, parse_label))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert n_rows == 200_000
    assert peak < 24e6, "the rows as a list would be 50 MB and more"


def test_labels_end_at_their_letters_whatever_blank_surrounds_them() -> None:
    for word in ("pos ", " pos\xa0", "\ufeffpos", "pos\u200b", "\u3000pos\u2060 "):
        assert parse_label(word) == "pos"
        assert parse_labels(f"{word}|neg", "|") == ("neg", "pos")
    assert parse_label("می\u200cخواهم") == "می\u200cخواهم"
    assert parse_label("\u200b") is None


def test_labels_inside_of_objects_lead_to_their_key() -> None:
    with pytest.raises(BadCell, match=r"the label is an object, not a word; --label COLUMN.name reads its key 'name'"):
        parse_label({"id": 1, "name": "pos"})
    with pytest.raises(BadCell, match=r"not a flat list of words; --label COLUMN.label reads its key 'label'"):
        parse_labels([{"label": "pos", "score": 0.5}], None)


def test_a_decimal_comma_is_read_and_reported_and_an_ambiguous_one_is_refused(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    text = "text;label\na;3,5\nb;4,0\nc;-0,25\n"
    assert labels_of(read(tmp_path, text, kind="regression")) == [3.5, 4.0, -0.25]
    assert "numbers with a decimal comma: '3,5' is read as 3.5" in caplog.text
    with pytest.raises(DataError, match="such as '1,200'") as caught:
        read(tmp_path, "text;label\na;1,200\nb;2,5\n", kind="regression")
    assert "is the comma in 1,200 a decimal comma? Write a decimal point; else remove the comma" in str(caught.value)


@pytest.mark.parametrize(
    ("known", "found", "hint"),
    [
        (["neg", "pos"], ["POS", "Pos"], "--label-map 'POS=pos,Pos=pos' merges them"),
        (["LABEL_0", "LABEL_1"], ["bad", "good"], "--label-map 0=bad,1=good"),
        (["LABEL_0", "LABEL_1", "LABEL_2"], ["bad"], "--label-map 0=bad,..."),
    ],
)
def test_unknown_labels_lead_to_the_map_that_makes_them_known(known: list[str], found: list[str], hint: str) -> None:
    rows = [LabelledRow("a", None, label, line) for line, label in enumerate(found, start=2)]
    with pytest.raises(DataError) as caught:
        list(to_ids(rows, {name: number for number, name in enumerate(known)}, "a.csv", unseen="refuse"))
    assert hint in str(caught.value)
