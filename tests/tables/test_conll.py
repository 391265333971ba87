"""CoNLL files of every layout are read as the same sentences, or refused with their line."""

from pathlib import Path
from typing import Any

import pytest

from llmkit.config.prepare import Read
from llmkit.core.errors import DataError
from llmkit.tables.conll import looks_like_conll, open_conll

WORDS, TAGS = ["New", "York", "wins"], ["B-LOC", "I-LOC", "O"]


def read(path: Path, text: str | bytes, *, token: int | None = None, tag: int | None = None, **options: Any) -> Any:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with open_conll(str(path), Read(**options), token, tag) as rows:
        return [(row.cells["tokens"], row.cells.get("tags")) for row in rows]


@pytest.mark.parametrize(
    "text",
    [
        "New B-LOC\nYork I-LOC\nwins O\n",
        "New\tB-LOC\nYork\tI-LOC\nwins\tO",
        "\ufeffNew  B-LOC\r\nYork   I-LOC\r\nwins O\r\n\r\n\r\n",
        "-DOCSTART- O\n\nNew B-LOC\nYork I-LOC\nwins O\n \n",
        "# id = 1\nNew B-LOC\nYork I-LOC\nwins O\n",
        "New NNP I-NP B-LOC\nYork NNP I-NP I-LOC\nwins VB I-VP O\n",
        "1\tNew\tNNP\tB-LOC\n2\tYork\tNNP\tI-LOC\n3\twins\tVB\tO\n",
        "New B-LOC 0\nYork I-LOC 1\nwins O 2\n",
    ],
)
def test_layouts_give_the_same_sentence(tmp_path: Path, text: str) -> None:
    assert read(tmp_path / "a.conll", text) == [(WORDS, TAGS)]


def test_columns_can_be_set_and_count_from_the_end(tmp_path: Path) -> None:
    text = "New x B-LOC B-X\nYork y I-LOC O\nwins z O O\n"
    assert read(tmp_path / "a", text)[0][1] == ["B-X", "O", "O"]
    assert read(tmp_path / "a", text, tag=3)[0][1] == read(tmp_path / "a", text, tag=-2)[0][1] == TAGS
    assert read(tmp_path / "a", text, token=2)[0][0] == ["x", "y", "z"]
    with pytest.raises(DataError, match="no column 9"):
        read(tmp_path / "a", text, tag=9)
    with pytest.raises(DataError, match="both words and tags"):
        read(tmp_path / "a", text, tag=1)


def test_hash_is_a_word_inside_of_a_sentence_and_with_a_tag(tmp_path: Path) -> None:
    assert read(tmp_path / "a", "#tag O\n# O\nx B-A\n") == [(["#tag", "#", "x"], ["O", "O", "B-A"])]


def test_words_may_have_spaces_if_tabs_separate_the_columns(tmp_path: Path) -> None:
    assert read(tmp_path / "a", "New York\tB-LOC\nwins\tO\n") == [(["New York", "wins"], ["B-LOC", "O"])]


def test_file_without_tags_has_words_only(tmp_path: Path) -> None:
    assert read(tmp_path / "a", "New\nYork\n\nwins\n") == [(["New", "York"], None), (["wins"], None)]


def test_line_with_another_number_of_columns_is_refused_with_its_line_or_skipped(tmp_path: Path) -> None:
    text = "a O\n\nb O\nc\n\nd O\n"
    with pytest.raises(DataError) as error:
        read(tmp_path / "a", text)
    assert "1 columns, but the first line of words has 2" in error.value.problems[0].what
    assert error.value.problems[0].where.endswith("a:4")
    assert read(tmp_path / "a", text, skip_bad=True) == [(["a"], ["O"]), (["d"], ["O"])]


def test_json_and_a_file_without_blank_lines_are_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(DataError, match="this is JSON"):
        read(tmp_path / "a", '{"text": "x y", "entities": []}\n')
    assert len(read(tmp_path / "b", "# made up\n" + "x O\n" * 60)) == 1
    assert "one sentence; 60 words" in caplog.text and "comment lines are left out; number of lines: 1" in caplog.text


def test_file_without_words_is_refused(tmp_path: Path) -> None:
    for text in ("", "\n\n", "-DOCSTART- O\n\n"):
        with pytest.raises(DataError, match="no words"):
            read(tmp_path / "a", text)


def test_other_encodings_are_recognized(tmp_path: Path) -> None:
    text = "我 B-LOC\n们 I-LOC\n在 O\n北 B-LOC\n京 I-LOC\n工 O\n作 O\n学 O\n习 O\n\n" * 20
    assert read(tmp_path / "a", text.encode("gb18030"))[0][0] == list("我们在北京工作学习")


def test_columns_of_words_and_tags_look_like_conll_and_texts_do_not() -> None:
    assert looks_like_conll(["New B-LOC", "York I-LOC", "", "wins O"])
    assert not looks_like_conll(["I saw O", "the text of a line", "two words"])
    assert not looks_like_conll(["", ""])
