"""Small inputs that were once read wrongly without a message, from the file to the stored text."""

import io
import json
import os
import tarfile
from pathlib import Path
from typing import Any

import pytest
from cli.test_app import run
from datasets import load_from_disk
from transformers import AutoTokenizer

import llmkit
from llmkit.core.errors import DataError
from llmkit.tokens.tokenizer import encode_texts

CZECH = "Když jsme přišli k řece, byla už tma a nikdo nevěděl, kde leží loďka. "
JAPANESE = (
    "私たちが川に着いたとき、もう暗くなっていて、誰も舟がどこにあるのか知らなかった。"
    "泳げる者は一人もいなかったので、夜明けまで待つことにした。"
)
HINDI = "नदी के पास अँधेरा था। किसी को पता नहीं था। नाव {} कहाँ है। हम सुबह तक रुके रहे।\n"
CHAPTERS = "".join(f"Chapter {i}\n\nThe ferry number {i} left at dawn.\n\n" for i in range(200))


class Folder:
    """Prepares files below a folder with characters as tokens and nothing held out; gives the stored texts."""

    def __init__(self, path: Path, caplog: pytest.LogCaptureFixture) -> None:
        self.path = path
        self.caplog = caplog
        self.manifest: dict[str, Any] = {}
        self.output = ""

    def write(self, name: str, data: bytes | str) -> Path:
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data if isinstance(data, bytes) else data.encode())
        return path

    def prepare(self, *inputs: Path, **options: Any) -> list[str]:
        options = {"split__validation": 0, "split__test": 0, "tokenizer__kind": "char"} | options
        keys = {f"prepare__{name}": value for name, value in options.items()}
        self.caplog.clear()
        self.manifest = llmkit.prepare(list(inputs), self.path / "out", overwrite=True, **keys)
        self.output = self.caplog.text
        return self.texts("train")

    def texts(self, split: str) -> list[str]:
        tokenizer = AutoTokenizer.from_pretrained(self.path / "out/tokenizer")
        return [tokenizer.decode(ids[:-1]) for ids in load_from_disk(str(self.path / "out" / split))["input_ids"]]


@pytest.fixture
def folder(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> Folder:
    return Folder(tmp_path, caplog)


@pytest.mark.parametrize(
    ("text", "encoding"),
    [(CZECH, "cp1250"), (JAPANESE, "euc_jp")],
    ids=["Czech", "Japanese"],
)
def test_legacy_text_is_stored_as_it_was_written_and_its_encoding_recorded(
    folder: Folder, text: str, encoding: str
) -> None:
    assert folder.prepare(folder.write("a.txt", (text * 5).encode(encoding))) == [(text * 5).rstrip(" ")]
    (source,) = folder.manifest["sources"]
    assert (source["encoding"], source["example"][:9]) == (encoding, text[:9])


def test_cp1252_around_a_line_of_utf8_is_refused_and_no_apostrophe_is_deleted(folder: Folder) -> None:
    text = ("It’s a long line of plain English text about boats and lamps. " * 40).encode("cp1252")
    path = folder.write("m.txt", text + "\nSœur élève “quoted”.\n".encode() + text)
    with pytest.raises(DataError, match="mixes cp1252 with UTF-8") as caught:
        folder.prepare(path)
    assert "line 2, byte" in caught.value.problems[0].where
    assert "gb18030" not in str(caught.value)


def test_a_stray_byte_in_english_is_named_and_gb18030_is_never_advised(folder: Folder) -> None:
    path = folder.write("u.txt", ("It’s a long line about boats. " * 40).encode() + b"\nit\x92s\n")
    with pytest.raises(DataError, match="byte 0x92 at 1283 is not utf-8") as caught:
        folder.prepare(path)
    assert "cp1252" in caught.value.problems[0].hint
    assert "gb18030" not in str(caught.value)
    folder.prepare(path, read__encoding="gb18030")
    assert "prepare.read.encoding is gb18030, but utf-8 is more likely" in folder.output


def test_members_of_a_tar_are_documents_and_its_headers_are_no_text(folder: Folder) -> None:
    file = io.BytesIO()
    bodies = ["".join(f"The lamp sees boat number {k} of shelf {i}.\n" for k in range(90)) for i in range(3)]
    with tarfile.open(fileobj=file, mode="w:gz") as archive:
        for i, body in enumerate(bodies):
            info = tarfile.TarInfo(f"s/b{i}.txt")
            info.size = len(body)
            archive.addfile(info, io.BytesIO(body.encode()))
    assert folder.prepare(folder.write("b.tar.gz", file.getvalue())) == bodies


def test_rich_text_is_stored_without_its_codes(folder: Folder) -> None:
    rtf = r"{\rtf1\ansi\f0 The ferry left.\par" + "\n" + "\\pard\\plain The lamps burned.\\par\n" * 40 + "}"
    (text,) = folder.prepare(folder.write("n.rtf", rtf))
    assert text.startswith("The ferry left.\n\nThe lamps burned.\n\nThe")
    assert "\\" not in text


def test_small_print_at_the_end_takes_no_book_and_a_quoted_end_line_no_essay(folder: Folder) -> None:
    print_ = "***START**THE SMALL PRINT!**FOR PUBLIC DOMAIN EBOOKS**START***\nlawyers\n"
    end = "*END THE SMALL PRINT! FOR PUBLIC DOMAIN EBOOKS*Ver.02/11/02*END*\n"
    header = "The Project Gutenberg EBook of Own Tales\n\nOWN TALES\n\n"
    book = f"{header}{CHAPTERS}\n*** END OF THE PROJECT GUTENBERG EBOOK, OWN TALES ***\n\n{print_}{end}"
    other = folder.write("other.txt", "Another text stands here.\n")
    first, second = folder.prepare(folder.write("pg2003.txt", book), other)
    assert "The ferry number 199 left at dawn." in first and "Chapter 0\n" in first
    assert "lawyers" not in first and "SMALL PRINT" not in first and second == "Another text stands here.\n"
    line = "*** END OF THIS PROJECT GUTENBERG EBOOK X ***"
    essay = f"{CHAPTERS}\n{line}\n\nis how such files close, scholars say.\n\n{CHAPTERS.replace('ferry', 'well')}"
    (text,) = folder.prepare(folder.write("quote.txt", essay))
    assert line in text and "The well number 199 left at dawn." in text and "The ferry number 0 left" in text


def test_linked_folders_are_read_and_a_dangling_link_is_skipped_by_name(folder: Folder) -> None:
    folder.write("f/a.txt", "One text.\n")
    folder.write("g/b.txt", "Two text.\n")
    inputs = folder.path / "f"
    (inputs / "link").symlink_to("../g")
    assert sorted(folder.prepare(inputs)) == ["One text.\n", "Two text.\n"]
    (inputs / "x.txt").symlink_to("../none")
    with pytest.raises(DataError, match="a broken link to"):
        folder.prepare(inputs)
    assert sorted(folder.prepare(inputs, read__skip_bad=True)) == ["One text.\n", "Two text.\n"]
    assert "x.txt: a broken link" in folder.output


def test_a_name_that_is_no_utf8_is_read_without_a_traceback(
    folder: Folder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder.path / "h").mkdir()
    Path(os.fsdecode(os.fsencode(folder.path / "h") + b"/caf\xe9.txt")).write_text("A text.\n")
    words = ["--out", str(folder.path / "out"), "-s", "prepare.tokenizer.kind=char"]
    words += ["-s", "prepare.split.validation=0", "-s", "prepare.split.test=0"]
    code, _, err = run(monkeypatch, capsys, "prepare", str(folder.path / "h"), *words)
    assert code == 0 and "Traceback" not in err
    assert folder.texts("train") == ["A text.\n"]


def test_all_three_quoted_tales_without_a_header_are_documents(folder: Folder) -> None:
    tales = [f"Tale {n}, a ferry." for n in (1, 2, 3)]
    assert folder.prepare(folder.write("t.csv", "".join(f'"{tale}"\n' for tale in tales))) == tales


def test_blank_lines_with_white_space_separate_four_paragraphs(folder: Folder) -> None:
    path = folder.write("p.txt", "One.\nTwo.\n \nThree.\n\t\nFour.\n")
    texts = folder.prepare(path, read__documents="paragraph")
    assert [text.strip() for text in texts] == ["One.\nTwo.", "Three.", "Four."]


@pytest.mark.parametrize("lowercase", [False, True])
def test_240_dandas_are_240_sentences_and_vowel_signs_survive(folder: Folder, lowercase: bool) -> None:
    path = folder.write("hi.txt", "".join(HINDI.format(i) for i in range(60)))
    folder.prepare(path, tokenizer__kind="wordpiece", tokenizer__vocab_size=2000, clean__lowercase=lowercase)
    assert folder.manifest["splits"]["train"]["sentences"] == 240
    tokenizer = AutoTokenizer.from_pretrained(folder.path / "out/tokenizer")
    ids = encode_texts(tokenizer, ["नदी के पास अँधेरा था।"])[0]
    assert tokenizer.decode(ids).replace(" ", "") == "नदीकेपासअँधेराथा।"


def test_short_documents_are_held_out_whole(folder: Folder) -> None:
    texts = [f"Sentence number {i} stands alone." for i in range(1, 31)]
    path = folder.write("t.jsonl", "".join(json.dumps({"text": text}) + "\n" for text in texts))
    folder.prepare(path, split__validation=0.1, split__test=0.1)
    stored = [text for split in folder.manifest["splits"] for text in folder.texts(split)]
    assert sorted(stored) == sorted(texts)
    assert folder.texts("validation") and folder.texts("test")


def test_a_page_is_stored_as_its_reader_sees_it(folder: Folder) -> None:
    page = (
        "<p><ruby>静<rt>しず</rt></ruby> Unter&shy;nehmen 1931<sup>2</sup><span hidden>SECRET</span></p>"
        "<pre>\nif x:\n\tif y:\n\t\treturn\n</pre>"
    )
    (text,) = folder.prepare(folder.write("a.html", page))
    assert text == "静 Unternehmen 1931²\n\nif x:\n\tif y:\n\t\treturn\n"


def test_200_marks_between_documents_stay_text_and_are_reported_with_the_setting(folder: Folder) -> None:
    path = folder.write("s.txt", "Story & is short.\n<|endoftext|>\n" * 200)
    assert len(folder.prepare(path)) == 1
    assert (
        "<|endoftext|> stays in the text; -s prepare.read.documents=separator splits documents there" in folder.output
    )
    assert "it occurs 200 times" in folder.output
    assert len(folder.prepare(path, read__documents="separator", dedup__documents=False)) == 200


@pytest.fixture(scope="module")
def char_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("char")
    (path / "a.txt").write_text("the cook of the island left at dawn.\n" * 60)
    llmkit.prepare(path / "a.txt", path / "data", prepare__tokenizer__kind="char", prepare__split__test=0)
    llmkit.pretrain(
        data=path / "data", out=path / "run", model__n_embd=32, model__n_layer=1, model__n_head=2,
        train__block_size=32, train__max_steps=2, train__global_batch_size=2, train__compile="none",
    )  # fmt: skip
    return path / "run"


def test_generate_reports_unknown_characters_of_a_prompt(char_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    llmkit.generate(char_run, "café 火", max_new_tokens=2)
    output = capsys.readouterr().err
    assert "2 of 5 characters (40%) are unknown to the tokenizer, such as é, 火" in output


def test_rows_of_unknown_characters_are_named_by_predict(
    char_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = "".join(f"the cook {n},a\nthe island {n},b\n" for n in "123456789")
    (tmp_path / "rows.csv").write_text(f"text,label\n{rows}")
    llmkit.finetune(data=tmp_path / "rows.csv", out=tmp_path / "cls", model=char_run, train__max_steps=2)
    capsys.readouterr()
    llmkit.predict(tmp_path / "cls", ["😀😀😀", "𠮷𠮷𠮷"])
    output = capsys.readouterr().err
    assert "such as 😀, 𠮷" in output and "mostly unknown: 2 of 2 (rows 1, 2)" in output
