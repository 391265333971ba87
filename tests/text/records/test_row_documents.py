"""Documents of tables: every cell is a text, errors name the line of the row, and skipped rows are reported."""

import json
from pathlib import Path

import openpyxl
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
        ("1,a\n2,b,c\n3,d\n", 3, "3 cells, but the header has 2"),
        ("1,a\n2\n3,d\n", 3, "1 cells, but the header has 2"),
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


def read_notes(source: Source) -> str:
    return "; ".join(f"{what}; {example}" for what, example in source.notes.items())


def test_the_first_of_quoted_texts_without_a_header_is_kept(tmp_path: Path) -> None:
    tales = [f"Tale {n}, a ferry." for n in (1, 2, 3)]
    texts, source = read_rows(tmp_path / "t.csv", "".join(f'"{tale}"\n' for tale in tales))
    assert texts == tales
    assert "no header" in read_notes(source)
    assert "Tale 1" in read_notes(source)
    assert read_rows(tmp_path / "t.csv", "".join(f'"{tale}"\n' for tale in tales), header=True)[0] == tales[1:]


@pytest.mark.parametrize(
    ("name", "data", "texts"),
    [
        ("sep.csv", "sep=;\r\ntext;label\r\ngood king;pos\r\nbad knight;neg\r\n", ["good king", "bad knight"]),
        ("semi.csv", "Text, frei;Label\nja, nein;pos\nnein, ja;neg\n", ["ja, nein", "nein, ja"]),
        ("quoted.csv", '"id","text"\n"1","To be, or\nnot"\n"2","That is"\n', ["To be, or\nnot", "That is"]),
        ("years.csv", "name,2019,2020\nAnn went home,1,2\n", ["Ann went home"]),
        ("wide.tsv", "id\ttext\n1\t一盏灯\n".encode("utf-16"), ["一盏灯"]),
        ("nul.csv", f"id,text\n1,a\0b\n2,{'c' * 99}\n", ["a\0b", "c" * 99]),
    ],
)
def test_tables_are_read_by_all_their_rows(tmp_path: Path, name: str, data: str | bytes, texts: list[str]) -> None:
    assert read_rows(tmp_path / name, data)[0] == texts


@pytest.mark.parametrize(
    ("value", "field", "texts"),
    [
        ({"version": 1, "data": [{"text": "a"}, {"text": "b"}]}, None, ["a", "b"]),
        ({"version": 1, "data": [{"text": "a"}, {"text": "b"}]}, "data.text", ["a", "b"]),
        ([{"data": {"text": "a"}}, {"data": {"text": "b"}}], "data.text", ["a", "b"]),
        ({"text": {"0": "a", "1": "b"}, "n": {"0": 1, "1": 2}}, None, ["a", "b"]),
        ({"0": {"text": "a"}, "1": {"text": "b"}}, None, ["a", "b"]),
        ({"columns": ["n", "text"], "index": [0, 1], "data": [[1, "a"], [2, "b"]]}, None, ["a", "b"]),
        ({"schema": {"fields": []}, "data": [{"text": "a"}, {"text": "b"}]}, None, ["a", "b"]),
        (
            {"data": [{"title": "T", "paragraphs": [{"context": "a"}, {"context": "b"}]}]},
            "data.paragraphs.context",
            ["a\nb"],
        ),
        ([{"title": "T", "paragraphs": ["a", "b"]}, {"title": "U", "paragraphs": ["c"]}], None, ["a\nb", "c"]),
        ([["a", "b"], ["c"]], None, ["a\nb", "c"]),
        ([{"text": ["a", "", None, "b"]}, {"text": []}], None, ["a\nb"]),
        ([{"title": "T", "body": "a"}, {"title": None, "body": "b"}], "title,body", ["T\na", "b"]),
        ([{"a.b": "a"}], "a.b", ["a"]),
    ],
)
def test_json_of_many_shapes_gives_its_texts(
    tmp_path: Path, value: object, field: str | None, texts: list[str]
) -> None:
    assert read_rows(tmp_path / "a.json", json.dumps(value), field=field)[0] == texts


def test_each_string_of_a_list_is_a_document_where_lines_are(tmp_path: Path) -> None:
    data = '{"text": ["a", "b\\nc"]}\n{"text": "d\\ne"}\n'
    texts, source = read_rows(tmp_path / "a.jsonl", data, documents="line")
    assert texts == ["a", "b\nc", "d\ne"]
    assert "is a document" in read_notes(source)
    assert "documents=line" in read_notes(read_rows(tmp_path / "a.jsonl", data)[1])


@pytest.mark.parametrize(
    ("messages", "text"),
    [
        ([{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes?"}], "user: Hi\nassistant: Yes?"),
        ([{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Yes?"}], "human: Hi\ngpt: Yes?"),
        ([{"role": "user", "content": [{"type": "text", "text": "Hi"}, {"type": "image_url"}]}], "user: Hi"),
        ([{"role": "user", "content": "Hi"}, {"role": "assistant", "content": None}], "user: Hi"),
    ],
)
@pytest.mark.parametrize("name", ["messages", "conversations"])
def test_chat_messages_are_lines_with_their_roles(tmp_path: Path, name: str, messages: object, text: str) -> None:
    texts, source = read_rows(tmp_path / "a.jsonl", json.dumps({"id": "x", name: messages}))
    assert texts == [text]
    assert "chat messages" in read_notes(source)


def test_texts_in_other_columns_are_named_and_counted(tmp_path: Path) -> None:
    row = {"instruction": "Tell me of the boat", "input": "", "output": "It is old and brown."}
    data = json.dumps(row) + "\n" + json.dumps(row) + "\n"
    with pytest.raises(DataError, match="instruction records") as caught:
        read_rows(tmp_path / "a.jsonl", data)
    assert "prepare.read.field=instruction,output" in caught.value.problems[0].hint
    texts, source = read_rows(tmp_path / "a.jsonl", data, field="output")
    assert texts == [row["output"]] * 2
    assert "left out: 'instruction' (38 characters)" in read_notes(source)
    texts, source = read_rows(tmp_path / "a.jsonl", data, field="instruction,output")
    assert texts == ["Tell me of the boat\nIt is old and brown."] * 2
    assert read_notes(source) == ""


@pytest.mark.parametrize(
    "value",
    [
        {"id": 1, "document": {"text": "a"}},
        {"id": 1, "data": {"text": "a"}},
        {"title": "T", "paragraphs": [{"context": "some words of text"}]},
        {"title": "T", "sections": [{"head": "h", "text": "some words of text"}]},
    ],
)
def test_a_text_inside_of_another_key_is_an_error_that_names_its_path(tmp_path: Path, value: dict[str, object]) -> None:
    with pytest.raises(DataError) as caught:
        read_rows(tmp_path / "a.jsonl", json.dumps(value))
    hint = caught.value.problems[0].hint
    field = hint.rpartition("prepare.read.field=")[2].split()[0]
    assert "." in field
    assert read_rows(tmp_path / "a.jsonl", json.dumps(value), field=field)[0]


def test_the_hint_for_texts_inside_of_other_keys_names_the_longest(tmp_path: Path) -> None:
    squad = {
        "title": "T",
        "paragraphs": [{"context": "The cook left at dawn.", "qas": [{"answers": [{"text": "dawn"}]}]}],
    }
    with pytest.raises(DataError, match=r"prepare.read.field=paragraphs.context .it holds 'The cook left"):
        read_rows(tmp_path / "a.json", json.dumps({"data": [squad]}))


def test_a_table_that_is_a_header_alone_is_counted_as_such(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text,label\n")
    sources: list[Source] = []
    assert list(read_documents([str(tmp_path / "a.csv")], Read(), sources)) == []
    assert sources[0].skipped == {"table without rows": 1}


def test_the_same_column_twice_is_refused_where_it_is_the_text(tmp_path: Path) -> None:
    assert read_rows(tmp_path / "a.csv", "text,n,n\na,1,2\n")[0] == ["a"]
    with pytest.raises(DataError, match="more than one column is called 'text'"):
        read_rows(tmp_path / "a.csv", "text,n,text\na,1,b\n")


def test_sheets_are_read_as_tables(tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    for row in (["id", "text"], [1, "A ferry."], [2, "一盏灯"], [3, None]):
        book.active.append(row)  # type: ignore[union-attr]
    book.save(tmp_path / "a.xlsx")
    texts, source = read_rows(tmp_path / "a.xlsx", (tmp_path / "a.xlsx").read_bytes())
    assert (texts, source.skipped) == (["A ferry.", "一盏灯"], {"empty": 1})


def test_notes_of_many_files_are_one_line_for_each_kind(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for n in range(20):
        (tmp_path / f"{n:02}.csv").write_text(f'"Tale {n}, a ferry."\n"Tale {n + 1}, a ferry."\n', encoding="utf-8")
    list(read_documents([str(tmp_path)], Read(), []))
    [line] = caplog.messages
    assert "00.csv and 19 more: read with one column, no header" in line


def test_chat_messages_without_content_and_chats_without_a_key_are_read(tmp_path: Path) -> None:
    chat = [{"role": "user", "content": "Hi"}, {"role": "assistant", "tool_calls": [{"id": 1}]}]
    chat.append({"role": "assistant", "content": "Yo"})
    for row in ({"messages": chat}, chat):
        texts, _ = read_rows(tmp_path / "a.jsonl", json.dumps(row) + "\n")
        assert texts == ["user: Hi\nassistant: Yo"]


@pytest.mark.parametrize(
    ("data", "hint"),
    [
        ('[{"text": "a b"}, {"text": "c d"}]\n', "name the file .json"),
        ('[\n{"text": "a b"}\n]\n', "name the file .json"),
        ('{\n "text": "a b"\n}\n', "name the file .json"),
        ('["a b", 1]\n', "orient=records"),
        ('{"foo": "one two three", "bar": "four five six"}\n', "such as -s prepare.read.field=foo"),
    ],
)
def test_the_hint_of_a_jsonl_file_of_another_shape_names_the_way_out(tmp_path: Path, data: str, hint: str) -> None:
    with pytest.raises(DataError) as caught:
        read_rows(tmp_path / "a.jsonl", data)
    assert hint in caught.value.problems[0].hint


def test_a_title_above_the_header_of_a_sheet_is_left_out_and_a_wider_row_is_an_error(tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    for row in (["A title"], ["text", "label"], ["a b", 1], ["c d", 2]):
        book.active.append(row)  # type: ignore[union-attr]
    book.save(tmp_path / "a.xlsx")
    texts, source = read_rows(tmp_path / "a.xlsx", (tmp_path / "a.xlsx").read_bytes())
    assert any("rows above the table are skipped" in what for what in source.notes)
    assert len(texts) == 2


CHAT = [{"role": "user", "content": "Where is the boat?"}, {"role": "assistant", "content": "Nobody knows."}]
SHARED = [{"from": "human", "value": "你好"}, {"from": "gpt", "value": "您好"}]


@pytest.mark.parametrize("name", ["a.json", "a.jsonl"])
def test_rows_that_are_the_messages_of_one_chat_are_one_document(tmp_path: Path, name: str) -> None:
    def write(rows: list[dict[str, str]]) -> str:
        return json.dumps(rows) if name == "a.json" else "\n".join(map(json.dumps, rows))

    texts, source = read_rows(tmp_path / name, write(CHAT))
    assert texts == ["user: Where is the boat?\nassistant: Nobody knows."]
    [note] = source.notes
    assert "prepare.read.field=content" in note
    assert read_rows(tmp_path / name, write(CHAT), field="content")[0] == ["Where is the boat?", "Nobody knows."]
    assert read_rows(tmp_path / name, write(SHARED))[0] == ["human: 你好\ngpt: 您好"]
    authors = [{"role": "editor", "content": "A text."}, {"role": "author", "content": "Another."}]
    assert read_rows(tmp_path / name, write(authors))[0] == ["A text.", "Another."]
    many, source = read_rows(tmp_path / name, write(CHAT * 500))
    assert len(many) == 1000
    assert any("messages of chats" in what for what in source.notes)


def test_the_hint_for_a_text_inside_of_another_key_shows_its_beginning(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"read.field=body.text \(it holds 'The ferry left.'\)"):
        read_rows(tmp_path / "a.jsonl", json.dumps({"id": "a1", "body": {"text": "The ferry left."}}))
    with pytest.raises(DataError, match=r"read.field=body.text"):
        read_rows(tmp_path / "a.jsonl", json.dumps({"id": "a1", "body": {"text": "The ferry left."}}), field="body")
    rows = "1\tFerry\tThe ferry left at dawn.\n2\tLamp\tThe lamps burned all night.\n"
    with pytest.raises(DataError, match=r"read.field=3 \(it holds 'The ferry left at dawn.'\)"):
        read_rows(tmp_path / "a.tsv", rows)


def test_the_only_column_with_texts_is_reported_and_known_names_are_not(tmp_path: Path) -> None:
    _, source = read_rows(tmp_path / "a.csv", "id,frage\n1,Wo ist das Boot?\n2,Wer weiß es?\n")
    assert source.notes["the text is 'frage', the only column with texts (prepare.read.field)"]
    texts, source = read_rows(tmp_path / "b.csv", "номер,текст\n1,Паром ушёл.\n2,Фонари горели.\n")
    assert texts == ["Паром ушёл.", "Фонари горели."]
    assert not any("only column" in what for what in source.notes)


def test_blank_lines_with_spaces_are_no_rows(tmp_path: Path) -> None:
    texts, source = read_rows(tmp_path / "a.csv", "text,n\na b,1\n   \n\u3000\nc d,2\n\n")
    assert (texts, dict(source.skipped)) == (["a b", "c d"], {})


def test_bytes_in_utf8_are_texts_and_others_are_refused(tmp_path: Path) -> None:
    pyarrow.parquet.write_table(pyarrow.table({"text": ["一盏灯".encode()]}), tmp_path / "a.parquet")
    assert read_rows(tmp_path / "a.parquet", (tmp_path / "a.parquet").read_bytes())[0] == ["一盏灯"]
    pyarrow.parquet.write_table(pyarrow.table({"text": [b"\xff\xd8"]}), tmp_path / "b.parquet")
    with pytest.raises(DataError, match="not UTF-8"):
        read_rows(tmp_path / "b.parquet", (tmp_path / "b.parquet").read_bytes())


def test_texts_by_id_are_documents_and_it_is_reported(tmp_path: Path) -> None:
    texts, source = read_rows(
        tmp_path / "a.json", '{"a17": "One ferry.", "b18": "", "c19": null, "d20": "Two ferries."}'
    )
    assert texts == ["One ferry.", "Two ferries."]
    assert source.skipped == {"empty": 2}
    assert source.notes == {"the file is one object: one text per key, for example 'a17'": "4 rows"}


def test_texts_under_words_are_refused_with_the_way_to_write_them(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no column has a known name") as caught:
        read_rows(tmp_path / "a.json", '{"Preface": "One ferry left.", "Afterword": "Two boats came."}')
    assert "write one per line to a .jsonl file" in caught.value.problems[0].hint


def test_columns_of_one_name_that_are_not_the_text_are_named(tmp_path: Path) -> None:
    prose = "a long note on it"
    texts, source = read_rows(tmp_path / "a.csv", f"text,note,note\nOne.,{prose},{prose}\nTwo.,{prose},{prose}\n")
    assert texts == ["One.", "Two."]
    assert list(source.notes) == ["2 columns are called 'note' and are not read; give them different names"]


@pytest.mark.parametrize("name", ["a.jsonl", "a.json"])
def test_two_values_of_one_key_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match="'text' occurs twice"):
        read_rows(tmp_path / name, '{"text": "One.", "text": "Two."}\n')


@pytest.mark.parametrize(
    "cell",
    [
        '"[{""role"": ""user"", ""content"": ""Where is it?""}]"',
        "\"[{'role': 'user', 'content': 'It isn\\'t here.'}]\"",
    ],
)
def test_chats_written_as_text_stay_text_and_it_is_reported(tmp_path: Path, cell: str) -> None:
    texts, source = read_rows(tmp_path / "a.csv", f"id,messages\n1,{cell}\n2,{cell}\n")
    assert len(texts) == 2
    assert any("look like lists or objects" in note for note in source.notes)
    _, plain = read_rows(tmp_path / "b.csv", "id,messages\n1,[laughs] Where is it?\n2,{x} It is here.\n")
    assert not any("look like lists" in note for note in plain.notes)


@pytest.mark.parametrize("unit", ["line", "paragraph", "separator"])
def test_a_unit_of_documents_that_rows_do_not_have_is_reported(tmp_path: Path, unit: str) -> None:
    texts, source = read_rows(tmp_path / "a.csv", 'text\n"One.\n\nTwo."\nThree.\n', documents=unit)
    assert len(texts) == 2
    assert f"prepare.read.documents={unit} does not apply to rows: the text of each row is one document" in source.notes
