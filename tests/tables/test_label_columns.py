"""Which column is what: by the user's word, by name, by shape, and never by a guess that could be wrong."""

import shlex
from pathlib import Path

import pytest

from llmkit.config.prepare import Read
from llmkit.core.errors import DataError
from llmkit.tables.label_columns import Columns, choose_columns, describe_guess, describe_split_column
from llmkit.tables.rows import open_rows


def choose(
    rows: list[dict[str, object]],
    *,
    text: str | None = None,
    pair: str | None = None,
    label: str | None = None,
    need_label: bool = True,
) -> Columns:
    return choose_columns(list(rows[0]), rows, text=text, pair=pair, label=label, need_label=need_label, where="a.csv")


def table(**columns: list[object]) -> list[dict[str, object]]:
    return [dict(zip(columns, cells, strict=True)) for cells in zip(*columns.values(), strict=True)]


def named(*columns: str) -> list[dict[str, object]]:
    return [dict.fromkeys(columns, "a word")]


def test_a_missing_column_lists_the_columns_and_the_nearest_name() -> None:
    with pytest.raises(DataError, match=r"no column 'lable'; found: 'text', 'label'") as caught:
        choose(named("text", "label"), label="lable")
    assert "did you mean 'label'?" in str(caught.value)


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        (("Label", " Text "), (" Text ", None, "Label")),
        (("id", "review", "sentiment"), ("review", None, "sentiment")),
        (("句子", "标签"), ("句子", None, "标签")),
        (("idx", "sentence1", "sentence2", "label"), ("sentence1", "sentence2", "label")),
        (("premise", "hypothesis", "label"), ("premise", "hypothesis", "label")),
        (("question", "sentence", "label"), ("question", "sentence", "label")),
        (("sentence2", "label", "text"), ("text", None, "label")),  # no partner, no pair
        (("Class Index", "Title", "Description"), ("Description", None, "Class Index")),
        (("text", "label", "label_text"), ("text", None, "label")),
    ],
)
def test_well_known_names_are_taken(columns: tuple[str, ...], expected: tuple[str, str | None, str]) -> None:
    assert choose(named(*columns)) == Columns(*expected)


def test_given_names_win_over_well_known_ones() -> None:
    rows = named("text", "label", "title", "intent")
    assert choose(rows, text="title", label="intent") == Columns("title", None, "intent")
    assert choose(rows, label="text").text == "title"


def test_a_second_text_can_be_named_or_disabled() -> None:
    rows = named("premise", "hypothesis", "label")
    assert choose(rows, pair="") == Columns("premise", None, "label")
    assert choose(rows, pair="hypothesis") == Columns("premise", "hypothesis", "label")
    assert choose(named("text", "context", "label"), pair="context") == Columns("text", "context", "label")


def test_the_last_column_is_the_label_and_not_a_second_text() -> None:
    rows = table(question=["Is it?", "Was it?", "Will it be?"] * 5, answer=["yes", "no", "no"] * 5)
    assert choose(rows) == Columns("question", None, "answer")


def test_two_columns_without_names_are_distinguished_by_repeated_cells() -> None:
    texts: list[object] = [f"text {n}" for n in range(12)]
    assert choose(table(**{"1": ["ham", "spam"] * 6, "2": texts})) == Columns("2", None, "1")
    long_labels: list[object] = ["card_payment_not_recognised", "pending_card_payment"] * 6
    assert choose(table(**{"1": texts, "2": long_labels})) == Columns("1", None, "2")
    assert choose(table(**{"1": ["0"], "2": ["only one row"]})) == Columns("2", None, "1")


def test_numbers_of_rows_and_empty_columns_are_neither_text_nor_label() -> None:
    rows = table(
        a=[str(n) for n in range(12)],
        b=["ham", "spam"] * 6,
        c=[f"some text {n}" for n in range(12)],
        d=["", "x"] + [""] * 10,
    )
    assert choose(rows) == Columns("c", None, "b")


def test_a_column_of_lists_is_the_label() -> None:
    rows = table(a=[f"some text {n}" for n in range(12)], b=[[f"tag{n}", "x"] for n in range(12)])
    assert choose(rows) == Columns("a", None, "b")


def test_columns_are_never_guessed_without_evidence_in_the_cells() -> None:
    texts: list[object] = [f"some text {n}" for n in range(12)]
    with pytest.raises(DataError, match="which one holds the text; found: 'a', 'b', 'label'") as caught:
        choose(table(a=texts, b=texts, label=["x", "y"] * 6))
    assert "--text NAME" in caught.value.problems[0].hint
    with pytest.raises(DataError, match="which one holds the label") as caught:
        choose(table(text=texts, a=["x", "y"] * 6, b=["u", "v"] * 6))
    assert "--label NAME" in caught.value.problems[0].hint
    with pytest.raises(DataError, match="which one holds the label"):
        choose(table(a=[str(n) for n in range(12)], b=texts))


@pytest.mark.parametrize("name", ["标签 label", "标签（label）", "情感/标签", "review_sentiment", "Label (0/1)"])
def test_a_well_known_word_in_a_name_decides_between_columns_that_may_be_labels(name: str) -> None:
    cells: list[object] = ["pos", "neg"] * 6
    rows = table(text=[f"text number {n} of all" for n in range(12)], region=cells, **{name: cells})
    assert choose(rows).label == name
    with pytest.raises(DataError, match="which one holds the label"):
        choose(table(text=[row["text"] for row in rows], region=cells, **{name: cells, "other label": cells}))


def test_without_need_a_label_is_taken_by_name_only() -> None:
    texts: list[object] = [f"some text {n}" for n in range(12)]
    assert choose(table(text=texts, kind=["x", "y"] * 6), need_label=False) == Columns("text", None, None)
    assert choose(table(text=texts, label=["x", "y"] * 6), need_label=False).label == "label"
    assert choose(table(text=texts, label=["x", "y"] * 6), need_label=False, label="").label is None
    assert choose(table(target=["7", "8"]), need_label=False) == Columns("target", None, None)


def test_one_column_for_two_things_is_refused() -> None:
    with pytest.raises(DataError, match="'text' is given twice"):
        choose_columns(
            ["text", "label"], [{"text": "a", "label": "b"}], text="text", pair=None, label="text", need_label=True,
            where="t.csv",
        )  # fmt: skip


@pytest.mark.parametrize(
    ("columns", "chosen", "given", "note"),
    [
        ("id text label", ("text", "label"), (), ""),
        ("text label source", ("text", "label"), (), ""),
        ("id body stars verdict", ("body", "stars"), (), "'stars' is used as the label; --label {}: 'verdict'"),
        ("body category label", ("body", "label"), (), "'label' is used as the label; --label {}: 'category'"),
        ("title review label", ("review", "label"), (), "'review' is used as the text; --text {}: 'title'"),
        ("body stars verdict", ("body", "stars"), ("stars",), ""),
        ("wort art menge", ("wort", "art"), ("wort",), "'art' is used as the label; --label {}: 'menge'"),
    ],
)
def test_a_column_chosen_among_several_is_reported_with_the_others(
    columns: str, chosen: tuple[str, str], given: tuple[str, ...], note: str
) -> None:
    notes = describe_guess(Columns(chosen[0], None, chosen[1]), columns.split(), given)
    assert notes == ([note.format("NAME selects another column")] if note else [])


def hint_for(rows: list[dict[str, object]]) -> str:
    with pytest.raises(DataError) as caught:
        choose(rows)
    return caught.value.problems[0].hint


@pytest.mark.parametrize("mark", ["，", "؛", "、", "^", "\x01"])
def test_a_table_of_one_column_leads_to_its_delimiter(mark: str) -> None:
    assert f"--delimiter {shlex.quote(mark)}" in hint_for(table(**{"1": [f"今天{mark}好", f"a lamp{mark}pos"]}))


def test_a_table_of_one_column_without_a_delimiter_is_reported_to_have_no_labels() -> None:
    assert "the table has only one column" in hint_for(table(text=["a lamp", "a ferry"]))


def test_labels_inside_of_other_keys_are_named_and_never_guessed() -> None:
    rows: list[dict[str, object]] = [{"data": {"text": "a lamp", "meta": {"label": "pos"}}}] * 3
    assert "--text data.text; found: data.text, data.meta.label" in hint_for(rows)
    rows = [{"text": "a lamp", "annotations": [{"label": "pos"}]}] * 3
    assert "nested keys: annotations.label" in hint_for(rows)


def test_a_column_of_splits_is_reported_as_all_rows_are_used(tmp_path: Path) -> None:
    data = [{"text": f"a {n}", "label": "x", "Split": split} for n, split in enumerate(["train", "test", "TRAIN"])]
    with open_rows(data, Read()) as rows:
        [note] = describe_split_column(rows, Columns("text", None, "label"))
        assert describe_split_column(rows, Columns("text", None, "Split")) == []
    assert note.startswith("column 'Split' assigns rows to splits (test, train), but llmkit uses all rows")


def test_names_with_a_full_width_comma_lead_to_the_ascii_one(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        choose(named("title", "description", "label"), text="title，description")
    assert caught.value.problems[0].hint == "write ASCII characters: title,description"
