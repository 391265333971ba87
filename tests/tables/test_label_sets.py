"""The labels of a file are checked as a set; anything unusual is reported with the setting that changes it."""

import pytest

from llmkit.core.errors import DataError
from llmkit.tables.label_sets import describe_contradictions, describe_labels, require_repeats


@pytest.mark.parametrize(
    ("labels", "setting"),
    [
        (["pos"] * 5 + ["Neg"] * 3 + ["NEG"], "'NEG=Neg'"),
        (["0"] * 5 + ["0.0"] * 2 + ["1"] * 2, "'0.0=0'"),
        (["True"] * 4 + ["true"] * 2 + ["1"] + ["0"], "'true=True,1=True'"),
        (["体育。"] * 1 + ["体育"] * 2, None),
        (["Ａ"] + ["A"] * 2, "'Ａ=A'"),
        (["café"] * 2 + ["cafe\u0301"], "'cafe\u0301=café'"),
        (["very  good"] + ["very good"] * 2, "'very  good=very good'"),
        (["👩\u200d🚀"] * 2 + ["👩🚀"], None),
    ],
)
def test_labels_that_differ_only_in_form_are_named_with_the_map_that_merges_them(
    labels: list[str], setting: str | None
) -> None:
    counts = {label: labels.count(label) for label in dict.fromkeys(labels)}
    notes = describe_labels(counts)
    assert len(notes) == (1 if setting else 0)
    assert not setting or f"--label-map {setting} merges them" in notes[0]


def test_labels_with_invisible_characters_are_shown_with_escapes_and_joined_by_a_file() -> None:
    [note] = describe_labels({"pos": 9, "p\u200bos": 3, "neg": 9, "neg\u202e": 2})
    assert r"'pos' (9) and 'p\u200bos' (3); 'neg' (9) and 'neg\u202e' (2)" in note
    assert r'--label-map FILE, a JSON file with {"p\u200bos": "pos", "neg\u202e": "neg"}, merges them' in note


@pytest.mark.parametrize(
    "labels",
    [["C, Inc.", "C", "D"], ["Washington, D.C.", "Washington", "Oregon"], ["R&B", "R"], ["Rock/Pop", "Rock"],
     ["U.S.; foreign", "foreign"]],
)  # fmt: skip
def test_a_name_with_a_separator_beside_its_beginning_is_no_join(labels: list[str]) -> None:
    assert describe_labels(dict.fromkeys(labels, 5)) == []


@pytest.mark.parametrize("word", ["NA", "nan", "NULL", r"\N", "None", "?", "-"])
def test_labels_that_may_stand_for_a_missing_one_are_reported_and_stay(word: str) -> None:
    [note] = describe_labels({"pos": 5, "neg": 5, word: 4})
    assert f"treated as classes: {word!r} (4); remove these rows" in note
    assert describe_labels({"+": 5, "-": 5, "0": 5}) == []


def test_a_label_of_one_row_among_labels_of_many_is_reported() -> None:
    assert describe_labels({"pos": 30, "neg": 20, "40": 1}) == [
        "1 label with a single row: '40'; check for typing errors"
    ]
    assert describe_labels({"pos": 3, "neg": 2, "40": 1}) == []


def test_different_labels_give_no_note() -> None:
    assert describe_labels({"-1": 3, "1": 3, "0": 3, "A": 2, "A-": 2, "A+": 2}) == []
    assert describe_labels({"pos": 3, "neg": 3, "10": 2, "1": 1, "c++": 2, "c": 1, "c#": 1, "R&D": 1, "AC/DC": 1}) == []


@pytest.mark.parametrize(("join", "mark"), [("joy, love", ","), ("joy|love", "|"), ("love;joy", ";")])
def test_labels_that_join_others_are_named_with_the_separator(join: str, mark: str) -> None:
    notes = describe_labels({"joy": 3, join: 2, "sad": 4})
    assert len(notes) == 1
    assert repr(join) in notes[0]
    assert f"-s 'cls.separator={mark}'" in notes[0]


def test_labels_of_one_row_each_are_refused_and_joins_of_others_lead_to_the_separator() -> None:
    with pytest.raises(DataError, match="5 different labels in 5 rows, such as 'a 0'") as caught:
        require_repeats({f"a {n}": 1 for n in range(5)}, 5, "t.csv")
    assert "--label NAME selects another column" in str(caught.value.problems[0].hint)
    with pytest.raises(DataError) as caught:
        require_repeats({"joy, love": 1, "joy,love": 1, "joy": 1, "sad": 1}, 4, "t.csv")
    assert "cls.separator=," in str(caught.value.problems[0].hint)
    with pytest.raises(DataError, match="such as 'n0'"):
        require_repeats({f"n{n}": 1 + n % 2 for n in range(40)}, 60, "t.csv")
    require_repeats({"a": 1, "b": 1}, 2, "t.csv")
    require_repeats({"a": 1, "b": 1, "c": 1, "d": 2}, 5, "t.csv")


def test_equal_texts_with_different_labels_are_counted_with_the_lines_of_one() -> None:
    keys, labels = [7, 8, 7, 9, 7], ["pos", "neg", "neg", "pos", "pos"]
    notes = describe_contradictions(keys, labels, [2, 3, 4, 5, 6])
    assert notes == ["3 rows have a text that occurs with different labels: 'pos' in line 2, 'neg' in line 4"]
    assert describe_contradictions([7, 7, 8], ["pos", "pos", "neg"], [2, 3, 4]) == []
    assert "'a' in row 1" in describe_contradictions([7, 7], ["a", "b"], [1, 2], "row")[0]
    assert "'a, b' in line 1" in describe_contradictions([7, 7], [("a", "b"), ("a",)], [1, 2])[0]


def test_labels_that_are_lists_beside_plain_words_lead_to_several_labels_per_row() -> None:
    (note,) = describe_labels({"joy": 4, "['joy','love']": 4, "love": 4})
    assert note.startswith("1 label may be a list of labels: \"['joy','love']\"")
    assert note.endswith("-s cls.labels=multi_label")
    assert describe_labels({"joy": 4, "[sic]": 4}) == []
