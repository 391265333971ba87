"""Documents of tables: every cell is a text, a bad row is named by its line, and what is left out is said."""

from pathlib import Path

import pyarrow
import pyarrow.parquet
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


def test_na_and_null_stay_text_and_empty_cells_are_counted(tmp_path: Path) -> None:
    texts, source = read_rows(tmp_path / "a.csv", "label,text\n0,NA\n1,null\n0,\n1,None\n0,1.5\n")
    assert texts == ["NA", "null", "None", "1.5"]
    assert source.skipped == {"empty": 1}


def test_line_ends_and_quotes_inside_quotes_belong_to_the_text(tmp_path: Path) -> None:
    texts, _ = read_rows(tmp_path / "a.csv", 'id,text\r\n1,"two\r\nlines, ""quoted"""\r\n2,next\r\n')
    assert texts == ['two\nlines, "quoted"', "next"]


@pytest.mark.parametrize(
    ("rows", "line", "problem"),
    [
        ("1,a\n2,b,c\n3,d\n", 3, "3 cells where the header has 2"),
        ("1,a\n2\n3,d\n", 3, "1 cells where the header has 2"),
        ('1,a\n2,"b\n3,d\n', 3, "unclosed quote"),
        ('1,a\n2,"b" c\n3,d\n', 3, "bad quoting"),
        ('1,"a\nb"\n2\n3,d\n', 4, "1 cells"),
    ],
)
def test_a_bad_row_is_an_error_with_its_line_and_skipping_it_loses_no_other_row(
    tmp_path: Path, rows: str, line: int, problem: str
) -> None:
    with pytest.raises(DataError) as caught:
        read_rows(tmp_path / "a.csv", "id,text\n" + rows)
    assert caught.value.problems[0].where.endswith(f"a.csv:{line}")
    assert problem in caught.value.problems[0].what
    texts, source = read_rows(tmp_path / "a.csv", "id,text\n" + rows, skip_bad=True)
    assert texts[-1] == "d"
    assert len(texts) == 2
    assert source.skipped.total() == 1


def test_an_undecodable_byte_costs_its_row_only_when_bad_rows_are_skipped(tmp_path: Path) -> None:
    data = "id,text\n1,一个很好的句子\n2,第二".encode() + b"\xff" + "个\n3,最后一个句子\n".encode()
    with pytest.raises(DataError, match="not utf-8"):
        read_rows(tmp_path / "a.csv", data)
    texts, source = read_rows(tmp_path / "a.csv", data, skip_bad=True)
    assert texts == ["一个很好的句子", "最后一个句子"]
    assert source.skipped.total() == 1


@pytest.mark.parametrize("name", ["text", "Content", "正文", "内容", "anything"])
def test_the_text_column_is_found_by_name_or_as_the_only_one_with_text(tmp_path: Path, name: str) -> None:
    assert read_rows(tmp_path / "a.csv", f"id,{name}\n1,hello\n2,3\n")[0] == ["hello", "3"]


def test_a_missing_text_column_lists_the_columns_and_the_nearest_name(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        read_rows(tmp_path / "a.csv", "id,review\n1,x\n", field="reveiw")
    assert "'id', 'review'" in caught.value.problems[0].what
    assert "'review'" in caught.value.problems[0].hint


def test_two_columns_of_text_are_not_guessed_between(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="found: 'title', 'review'"):
        read_rows(tmp_path / "a.csv", "title,review\nx,y\n")


def test_a_quote_in_a_tsv_is_a_character_like_others(tmp_path: Path) -> None:
    assert read_rows(tmp_path / "a.tsv", 'label\ttext\npos\t" cremaster 3 " is\n')[0] == ['" cremaster 3 " is']


def test_a_cell_longer_than_the_csv_modules_limit_is_read(tmp_path: Path) -> None:
    assert [len(text) for text in read_rows(tmp_path / "a.csv", f"id,text\n1,{'x' * 300_000}\n")[0]] == [300_000]


def test_gb18030_tables_are_read(tmp_path: Path) -> None:
    data = "编号,正文\n1,这是一个很长的句子，说的是从前的事情\n".encode("gb18030")
    texts, source = read_rows(tmp_path / "a.csv", data)
    assert (texts, source.encoding) == (["这是一个很长的句子，说的是从前的事情"], "gb18030")


def test_parquet_gives_its_text_column_and_counts_missing_texts(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"id": [1, 2, 3], "text": ["一", None, "null"]}), path)
    texts, source = read_rows(path, path.read_bytes())
    assert (texts, source.skipped["empty"], source.n_bytes) == (["一", "null"], 1, path.stat().st_size)


def test_a_damaged_parquet_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not a valid parquet file"):
        read_rows(tmp_path / "a.parquet", b"PAR1 and then nothing of the kind")
