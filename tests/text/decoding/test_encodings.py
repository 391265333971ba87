"""The same text in any encoding is read as the same text, and nothing is dropped silently."""

import io
import random

import pytest

from llmkit.core.errors import DataError, UsageError
from llmkit.text.decoding.declared_encodings import detect_encoding
from llmkit.text.decoding.encodings import TextStream
from llmkit.text.sources import Source

CHINESE = (
    "却说曹操引军至官渡，与袁绍相拒。绍军势大，操兵少粮乏，欲弃官渡退回许昌，迟疑未决，乃作书遣人赴许昌问荀彧。"
    "彧以书报之，书略曰：承尊命，使决进退之疑。愚以袁绍悉众聚于官渡，欲与明公决胜负，公以至弱当至强，若不能制，必为所乘。\n"
)
TRADITIONAL = "這是一個很長的故事，說的是從前有一個國家，國王沒有兒子。他問大臣們應當怎麼辦，大臣們都不知道。\n" * 2


def read(data: bytes, encoding: str = "auto") -> tuple[str, str]:
    stream = TextStream(io.BytesIO(data), encoding, "a.txt")
    return "".join(stream), stream.encoding


@pytest.mark.parametrize(
    "codec", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "gb18030", "gbk"]
)
@pytest.mark.parametrize("repeats", [1, 3000])
def test_chinese_text_is_the_same_from_every_encoding(codec: str, repeats: int) -> None:
    text = CHINESE * repeats
    assert read(text.encode(codec))[0] == text


@pytest.mark.parametrize("codec", ["big5", "gbk", "utf-16-le", "utf-8"])
def test_traditional_text_is_the_same_from_every_encoding(codec: str) -> None:
    assert read(TRADITIONAL.encode(codec))[0] == TRADITIONAL


@pytest.mark.parametrize(("codec", "text"), [("gb18030", CHINESE), ("big5", TRADITIONAL)])
def test_forty_characters_suffice_to_distinguish_gb18030_from_big5(codec: str, text: str) -> None:
    draw = random.Random(0)
    for _ in range(50):
        start = draw.randrange(len(text) - 40)
        piece = text[start : start + 40]
        assert piece.encode(codec).decode(detect_encoding(piece.encode(codec), complete=True)) == piece


@pytest.mark.parametrize(
    ("codec", "text"),
    [
        ("latin-1", "El niño comió una piña en España. ¿Qué pasó?"),
        ("cp1252", "“Don’t,” she said – it’s naïve."),
        ("latin-1", "plain English text with just one é in it, and nothing else that is not ASCII"),
        ("cp1251", "Съешь же ещё этих мягких французских булок, да выпей чаю. Мама мыла раму."),
        ("cp932", "これは日本語のテキストです。文字コードを調べます。"),
        ("cp949", "이것은 한국어 텍스트입니다. 인코딩을 확인합니다."),
    ],
)
def test_other_alphabets_are_decoded_as_they_were_written(codec: str, text: str) -> None:
    assert read(text.encode(codec))[0] == text


def test_gb18030_far_behind_a_long_ascii_stretch_is_found() -> None:
    text = "only ASCII here\n" * 200_000 + CHINESE
    assert read(text.encode("gb18030")) == (text, "gb18030")


def test_ascii_is_named_ascii() -> None:
    assert read(b"hello\n") == ("hello\n", "ascii")


def test_an_empty_file_is_an_empty_text() -> None:
    assert read(b"") == ("", "ascii")


@pytest.mark.parametrize("place", [300, 60_000, 1_500_000])
def test_one_broken_byte_in_utf8_is_named_and_never_makes_it_latin_1(place: int) -> None:
    data = bytearray((CHINESE * 6000).encode())
    data[place] = 0xFF
    with pytest.raises(DataError) as caught:
        read(bytes(data))
    assert f"byte {place}" in caught.value.problems[0].where
    assert "not utf-8" in caught.value.problems[0].what
    assert "--skip-bad" in caught.value.problems[0].hint


def test_a_cut_off_last_character_is_an_error_and_not_a_shorter_text() -> None:
    with pytest.raises(DataError, match="not utf-8"):
        read((CHINESE * 50).encode()[:-2])


def test_gb18030_read_as_utf8_names_the_byte_and_guesses_gb18030() -> None:
    with pytest.raises(DataError) as caught:
        read(b"title\n" + CHINESE.encode("gb18030"), "utf-8")
    assert "byte 10" in caught.value.problems[0].where  # the first four happen to be sound UTF-8
    assert "prepare.read.encoding=gb18030" in caught.value.problems[0].hint


def test_the_users_setting_overrides_the_detection() -> None:
    assert read("é".encode(), "latin-1") == ("Ã©", "latin-1")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-8"])
def test_a_byte_order_mark_is_taken_off_when_the_user_names_the_encoding_too(encoding: str) -> None:
    assert read("\ufeff中文".encode(encoding if encoding == "utf-8" else "utf-16-le"), encoding)[0] == "中文"


@pytest.mark.parametrize("encoding", ["nonsense", "base64"])
def test_an_unknown_encoding_is_a_usage_error(encoding: str) -> None:
    with pytest.raises(UsageError, match="unknown encoding"):
        read(b"x", encoding)


@pytest.mark.parametrize(
    "data",
    [
        random.Random(0).randbytes(10_000),
        b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\1\0" * 20,
        b"text first\n" * 200_000 + random.Random(1).randbytes(1_200_000),
    ],
)
def test_binary_data_is_refused_with_the_offset(data: bytes) -> None:
    with pytest.raises(DataError, match=r"looks binary: \S+ at byte \d+"):
        read(data)


def test_a_few_stray_nuls_do_not_make_a_text_binary() -> None:
    text = "a line of text\n" * 500 + "\0\0" + "another line\n" * 500
    assert read(text.encode())[0] == text


ENGLISH = "It’s a long line of plain English text about boats and lamps. "


def test_czech_and_japanese_are_read_as_they_were_written() -> None:
    czech = "Když jsme přišli k řece, byla už tma a nikdo nevěděl, kde leží loďka. " * 5
    japanese = "私たちが川に着いたとき、もう暗くなっていて、誰も舟がどこにあるのか知らなかった。" * 5
    assert read(czech.encode("cp1250")) == (czech, "cp1250")
    assert read(japanese.encode("euc_jp")) == (japanese, "euc_jp")
    assert read(japanese.encode("iso2022_jp")) == (japanese, "iso2022_jp")


def test_an_unclear_encoding_is_refused_with_a_line_in_both() -> None:
    with pytest.raises(DataError) as caught:
        read("Dvořák wrote the New World symphony in New York in 1893.\n".encode("cp1250"))
    assert "unclear" in caught.value.problems[0].what and "Dvořák" in caught.value.problems[0].what
    assert "prepare.read.encoding=cp1250" in caught.value.problems[0].hint


@pytest.mark.parametrize("repeats", [40, 40_000])
def test_a_file_of_two_encodings_is_refused_with_the_place(repeats: int) -> None:
    legacy = (ENGLISH * repeats + "\n").encode("cp1252")
    with pytest.raises(DataError, match="mixes cp1252 with UTF-8") as caught:
        read(legacy + "Sœur élève “quoted”.\n".encode() + legacy)
    assert "line 2," in caught.value.problems[0].where


def test_a_stray_byte_in_english_utf8_is_named_with_the_encoding_around_it() -> None:
    data = (ENGLISH * 40).encode()
    with pytest.raises(DataError) as caught:
        read(data + b"\nit\x92s\n")
    problem = caught.value.problems[0]
    assert f"byte 0x92 at {len(data) + 3}" in problem.what and "line 2" in problem.where
    assert "cp1252" in problem.hint and "it’s" in problem.hint and "gb18030" not in problem.hint


def test_an_encoding_that_makes_control_characters_is_refused_with_one_that_does_not() -> None:
    with pytest.raises(DataError, match="control character in latin-1") as caught:
        read((ENGLISH * 4).encode("cp1252"), "latin-1")
    assert "cp1252" in caught.value.problems[0].hint


def test_the_guess_follows_the_text_where_encodings_differ_later() -> None:
    text = "né\n" * 500_000 + "Żaden z nas nie przypuszczał, że wrócimy do domu z pustymi rękami.\n" * 4
    assert read(text.encode("cp1250")) == (text, "cp1250")


@pytest.mark.parametrize("codec", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
@pytest.mark.parametrize("text", ["Мы пришли к реке, и было уже темно.\n", "Όταν φτάσαμε είχε ήδη σκοτεινιάσει\n"])
def test_other_scripts_than_latin_are_read_from_utf_16_and_32_without_a_mark(codec: str, text: str) -> None:
    assert read(text.encode(codec)) == (text, codec)


def test_a_legacy_file_has_an_example_line() -> None:
    stream = TextStream(io.BytesIO("plain\nun café noir\n".encode("cp1252")), "auto", "a.txt")
    list(stream)
    assert stream.example == "un café noir"


ENGLISH = "It’s a long line about boats. " * 40
RUSSIAN = "Когда мы пришли к реке, было уже темно, и никто не знал, где лодка. Ждали до утра, пили чай у костра.\n" * 20
CZECH = "Paní Nováková šla do obchodu a koupila chléb, mléko a šest vajec. Potom se vrátila domů za dětmi.\n" * 20


def notes_of(data: bytes, encoding: str = "auto") -> dict[str, str]:
    source = Source("a.txt")
    stream = TextStream(io.BytesIO(data), encoding, "a.txt")
    for _ in stream:
        pass
    stream.record(source)
    return source.notes


@pytest.mark.parametrize("named", ["gb18030", "cp1252", "shift_jis", "koi8-r"])
def test_a_named_encoding_that_makes_unlikely_text_is_noted_with_a_line_in_both(named: str) -> None:
    ((what, example),) = notes_of(ENGLISH.encode() + b"\nit\x92s\n", named).items()
    assert what == f"prepare.read.encoding is {named}, but utf-8 is more likely"
    assert "It’s a long line" in example


@pytest.mark.parametrize(("text", "named"), [(RUSSIAN, "cp1251"), (CZECH, "iso8859-2"), (CHINESE, "gbk")])
def test_a_named_encoding_that_is_right_has_no_note(text: str, named: str) -> None:
    assert notes_of(text.encode(named), named) == {}


def test_replacement_characters_are_counted() -> None:
    ((what, example),) = notes_of("Caf\ufffd, na\ufffdve.\n".encode()).items()
    assert "U+FFFD" in what
    assert example == "number: 2"


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (CZECH.encode("cp1250"), RUSSIAN.encode("cp1251")),
        (RUSSIAN.encode("cp1251") * 1000, RUSSIAN.encode("cp866")),
        (CHINESE.encode("gb18030") * 9, TRADITIONAL.encode("big5") * 9),
    ],
)
def test_a_file_of_two_legacy_encodings_is_refused(first: bytes, second: bytes) -> None:
    with pytest.raises(DataError, match="the encoding changes here"):
        read(first + b"\n" + second)


@pytest.mark.parametrize(
    ("text", "encoding", "other"),
    [(RUSSIAN, "koi8-r", "cp1251"), (CZECH, "cp1250", "iso8859-2"), (CHINESE, "gb18030", "big5hkscs")],
)
@pytest.mark.parametrize("n_lines", [20, 8000])
def test_a_single_line_in_another_legacy_encoding_is_refused_with_its_place(
    text: str, encoding: str, other: str, n_lines: int
) -> None:
    line = text.split("\n")[0]
    lines = [f"{n} {line}".encode(encoding, "ignore") for n in range(n_lines)]
    number = n_lines - 7  # of a large file, a sample of the lines and the most surprising ones are compared
    lines[number] = f"{number} {line}".encode(other, "ignore")
    with pytest.raises(DataError, match="the encoding changes here") as caught:
        read(b"\n".join(lines))
    assert f"line {number + 1}," in caught.value.problems[0].where


def test_a_single_line_of_utf8_in_a_large_legacy_file_is_called_utf8() -> None:
    line = RUSSIAN.split("\n")[0]
    lines = [f"{n} {line}".encode("cp1251", "ignore") for n in range(8000)]
    lines[7000] = line.encode()
    with pytest.raises(DataError, match="mixes cp1251 with UTF-8") as caught:
        read(b"\n".join(lines))
    assert "line 7001," in caught.value.problems[0].where


def test_utf8_behind_the_first_part_of_a_legacy_file_is_refused() -> None:
    with pytest.raises(DataError, match="mixes cp1250 with UTF-8"):
        read(CZECH.encode("cp1250") * 2000 + CZECH.encode() * 300)


def test_degree_signs_and_rare_words_are_no_other_encoding() -> None:
    lines = [f"The water had {n} °C at {n}° north, 20°C less than before.\n" for n in range(300)]
    assert read("".join(lines).encode("cp1252")) == ("".join(lines), "cp1252")


def test_escape_sequences_in_a_legacy_encoding_are_refused() -> None:
    japanese = "私たちが川に着いたとき、もう暗くなっていた。\n"
    with pytest.raises(DataError, match="the encoding changes here"):
        read(japanese.encode("iso2022_jp") + japanese.encode("cp932"))


def test_ascii_behind_utf16_is_refused_and_never_read_as_chinese() -> None:
    with pytest.raises(DataError, match="ASCII bytes in a utf-16-le file"):
        read(
            ENGLISH.encode("utf-16")
            + b"a second part that was appended without converting it to the encoding of the file"
        )


def test_a_stray_byte_before_a_letter_is_no_korean() -> None:
    with pytest.raises(DataError, match="unclear"):
        read(b"\xc3It is a long line about boats and lamps.\n" + b"A plain line of English.\n" * 20)


def test_one_byte_is_no_evidence_for_a_rare_encoding() -> None:
    with pytest.raises(DataError, match="unclear"):
        read(b"A plain line of English.\n" * 20 + b"\xff")


def test_the_hint_for_utf8_that_was_named_latin_1_is_utf8() -> None:
    with pytest.raises(DataError) as caught:
        read(ENGLISH.encode(), "latin-1")
    assert "encoding=utf-8 reads" in caught.value.problems[0].hint


def test_a_byte_that_is_cut_off_utf16_gives_no_other_encoding_as_a_hint() -> None:
    with pytest.raises(DataError) as caught:
        read(ENGLISH.encode("utf-16") + b"a")
    assert "read.encoding" not in caught.value.problems[0].hint


def test_hz_is_read_and_format_strings_of_lisp_stay_ascii() -> None:
    text = "我们到河边的时候，天已经黑了，谁也不知道船在哪里。\n"
    assert read(text.encode("hz")) == (text, "hz")
    code = '(format t "~{~a~^, ~}" list) (format t "~{ab~}")\n'
    assert read(code.encode()) == (code, "ascii")


@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        ("utf-7", "Die Straße führte über den Hügel zu einem kleinen Dorf.\n"),
        ("utf-7", "Старый учитель каждое утро выходил на улицу.\n"),
        ("johab", "늙은 선생님은 매일 아침 거리로 나가 아이들에게 인사를 했다.\n"),
        ("iso2022_kr", "늙은 선생님은 매일 아침 거리로 나가 아이들에게 인사를 했다.\n"),
        ("cp1125", "Старий учитель щоранку виходив на вулицю і вітався з дітьми.\n"),
        ("cp932", "ｿﾚｶﾗ ﾍﾞﾝﾁﾆ ｽﾜｯﾃ ｼﾝﾌﾞﾝｦ ﾖﾐﾏｼﾀ。ﾄｳｷｮｳﾄ ﾁﾖﾀﾞｸ ﾏﾙﾉｳﾁ。\n"),
    ],
)
def test_rare_encodings_are_read_as_they_were_written(encoding: str, text: str) -> None:
    assert read(text.encode(encoding)) == (text, encoding)


@pytest.mark.parametrize("encoding", ["cp500", "cp037", "cp273", "cp424"])
def test_ebcdic_is_refused_by_name(encoding: str) -> None:
    text = (
        "הזקן יצא כל בוקר לרחוב ובירך את הילדים."
        if encoding == "cp424"
        else "Every morning he left, and later he came home."
    )
    with pytest.raises(DataError, match="EBCDIC"):
        read(text.encode(encoding))


def test_bytes_that_are_no_text_in_any_known_encoding_are_refused() -> None:
    # "Ông giáo già mỗi buổi sáng đều ra đường chào hỏi lũ trẻ" in TCVN, of which Python has no codec.
    data = b"\xa4ng gi\xb8o gi\xb5 m\xe7i bu\xe6i s\xb8ng \xae\xd2u ra \xae\xad\xeang ch\xb5o h\xe1i l\xf2 tr\xce. " * 3
    with pytest.raises(DataError, match=r"unknown|unclear"):
        read(data)


@pytest.mark.parametrize(
    "text",
    [
        "x = a+bcd-1; y+=2; z+abc\n",
        "user+tag@mail.org C++ G++Abc+def\n",
        "?q=hello+World+Again+more\n",
        "@@ -1,2 +3,4 @@\n+import os\n",
    ],
)
def test_plus_and_at_signs_of_code_stay_ascii(text: str) -> None:
    assert read((text * 20).encode()) == (text * 20, "ascii")


def test_a_control_character_of_four_bytes_is_refused() -> None:
    with pytest.raises(DataError, match="0x81 is a control character in gb18030"):
        read(b"A line \x810\x810 of text.\n", "gb18030")


def test_bytes_that_no_encoding_reads_are_an_error_without_a_guess(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llmkit.text.decoding.encodings.rank_encodings", lambda _: [])
    with pytest.raises(DataError) as caught:
        read(b"Lines \x9a\xbd and \xff\x81\n" * 3, "latin-1")
    assert "no known encoding reads it" in caught.value.problems[0].hint
