"""A header is distinguished from a first row by the cells below it."""

import pytest

from llmkit.text.records.table_header import count_title_rows, is_header

NOT_HEADERS = [
    (["Tale 1, a ferry."], [["Tale 2, a ferry."], ["Tale 3, a ferry."]]),
    (["Tale 1"], [["Tale 2"], ["Tale 3"]]),
    (["hello"], [["world"]]),
    (["good"], [["bad"], ["good"]]),
    (["Only one tale, here."], []),
    (["A ferry left the harbour."], [["The lamp burned."], ["Nobody knew."]]),
    (["从前有一座山。"], [["庙里有一个老和尚。"], ["他在讲故事。"]]),
    (["1", "Once upon a time"], [["2", "There was a boat"]]),
    (["Anna", "She went home early"], [["Bob", "He stayed at home"], ["Carl", "They left the house"]]),
    (["ham", "Hello there"], [["ham", "first"], ["spam", "second"]]),
    (["Tale 1", "good"], [["Tale 2", "bad"], ["Tale 3", "fine"]]),
    (["2024-01-01", "Rain"], [["2024-01-02", "Sun"]]),
    (["服务态度太差了", "差评"], [["这家店的菜很好吃", "好评"], ["环境还可以吧", "差评"]] * 4),
    (["这家店关门了", "中评"], [["这家店的菜很好吃", "好评"], ["服务态度太差了", "差评"]]),
    (["a text that is longer than any name of a column could be, surely", "x"], [["b", "y"]]),
]
HEADERS = [
    (["text", "label"], [["a", "b"]]),
    (["Text, frei", "Label"], [["ja, nein", "pos"], ["nein, ja", "neg"]]),
    (["words", "kind"], [["first text", "a"], ["second text", "b"]]),
    (["story"], [["A ferry left."]]),
    (["Märchen"], [["Es war einmal ein König, der hatte drei Söhne."], ["Da kam ein Wolf aus dem tiefen Wald."]]),
    (["Quote"], [["Be yourself."], ["Stay hungry."], ["Know thyself!"]]),
    (["n", "remark"], [["1", "x"], ["2", "y"]]),
    (["How satisfied are you with the product?", "When did you buy it?"], [["2", "2024/01/02"], ["3", "2024/01/03"]]),
    (["编号", "说明"], [["1", "好"], ["2", "不好"]]),
    (["", "words"], [["0", "a b"], ["1", "c d"]]),
    (["评论内容", "情感倾向"], [["这家店的菜很好吃", "好评"], ["服务态度太差了", "差评"]] * 4),
]


@pytest.mark.parametrize(("first", "below"), NOT_HEADERS)
def test_a_first_row_like_the_others_is_a_row(first: list[str], below: list[list[str]]) -> None:
    assert not is_header(first, below)


@pytest.mark.parametrize(("first", "below"), HEADERS)
def test_a_first_row_unlike_the_others_is_a_header(first: list[str], below: list[list[str]]) -> None:
    assert is_header(first, below)


def test_a_column_that_the_user_named_makes_a_header() -> None:
    assert is_header(["ham", "x"], [["ham", "y"]], wanted=["ham"])


@pytest.mark.parametrize(
    ("records", "n"),
    [
        ([["Survey"], ["text", "label"], ["a", "b"]], 1),
        ([["Survey", ""], ["by me", ""], ["text", "label"], ["a", "b"]], 2),
        ([["text"], ["a", "b"], ["c", "d"]], 0),
        ([["My column"], ["a", "b"], ["c", "d"]], 0),
        ([["Survey"], ["a", "b"], ["c", ""], ["d", ""]], 0),
        ([["Survey"], ["a", "b"]], 0),
        ([["a"], ["b"], ["c"]], 0),
        ([], 0),
        (
            [
                ["Survey"],
                ["Date", "2024-05-01"],
                ["n", "text", "label", "x"],
                ["1", "a", "b", "c"],
                ["2", "d", "e", "f"],
            ],
            2,
        ),
        ([["Exported", "2024-05-01"], ["text", "label", "x"], ["a", "b", "c"], ["d", "e", "f"]], 0),
        ([["text", "label"], ["n", "a", "b", "x"], ["1", "c", "d", "y"]], 0),
        ([["1", "a", "", ""], ["2", "b", "c", ""], ["3", "d", "", ""], ["4", "e", "f", "g"]], 0),
    ],
)
def test_only_lone_cells_without_a_known_name_above_wider_rows_are_titles(records: list[list[str]], n: int) -> None:
    assert count_title_rows(records, ["my column"]) == n
