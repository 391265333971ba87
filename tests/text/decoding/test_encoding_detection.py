"""Every language is detected correctly in every encoding, or refused as unclear."""

import pytest
from languages import TEXTS, encode, encode_texts

from llmkit.text.decoding.encoding_detection import (
    CANDIDATES,
    decode_mixed,
    detect_legacy,
    find_utf8_word,
    rank_encodings,
    rank_stray_byte,
    sample_words,
)


def test_every_language_is_read_rightly_in_every_encoding_or_refused() -> None:
    outcomes = []
    for language, encoding, data in encode_texts():
        if not encoding.startswith("iso2022"):
            guess = detect_legacy(data, complete=True)
            is_right = data.decode(guess.encodings[0], "replace") == data.decode(encoding)
            outcomes.append((is_right, guess.rival is not None, language, encoding))
    assert len(outcomes) > 150
    assert not [each for each in outcomes if not each[0] and not each[1]]
    assert sum(is_refused for _, is_refused, *_ in outcomes) <= 0.05 * len(outcomes)


def test_titles_in_capitals_are_read_rightly_or_refused() -> None:
    wrong, n_refused, n_all = [], 0, 0
    for language, text in TEXTS.items():
        for encoding in ("cp1250", "cp1251", "cp1252", "cp1253", "cp1254", "cp1257", "koi8-r", "cp866", "cp852"):
            data = encode(text.upper()[:120], encoding)
            if data is not None and not data.isascii():
                guess = detect_legacy(data, complete=True)
                n_all += 1
                n_refused += guess.rival is not None
                if guess.rival is None and data.decode(guess.encodings[0], "replace") != data.decode(encoding):
                    wrong.append((language, encoding))
    assert len(wrong) <= 0.01 * n_all and n_refused <= 0.1 * n_all, wrong


def test_a_row_of_names_is_read_rightly_or_refused() -> None:
    rows = {
        "cp1250": "id;imię;miasto\n1;Łukasz Żółkiewski;Łódź\n2;Małgorzata Wójcik;Gdańsk\n",
        "iso8859-2": "név;város\nŐri Ödön;Győr\nTűz Éva;Pécs\n",
        "cp852": "jméno,město\nŽofie Černá,Plzeň\nJiří Růžička,Děčín\n",
        "cp1251": "имя;город\nЩукина Ольга;Москва\nЖуков Пётр;Тверь\n",
        "cp1252": "name,city\nJosé Núñez,Málaga\nBjörn Åström,Malmö\n",
        "cp1254": "ad;şehir\nİpek Yıldız;Eskişehir\nOğuz Çağlar;Iğdır\n",
    }
    for encoding, text in rows.items():
        guess = detect_legacy(text.encode(encoding), complete=True)
        assert text.encode(encoding).decode(guess.encodings[0]) == text or guess.rival, encoding


def test_encodings_that_give_the_same_text_do_not_rival_each_other() -> None:
    guess = detect_legacy("un café très noir".encode("latin-1"), complete=True)
    assert {"cp1252", "latin-1", "iso8859-15"} <= {*guess.encodings} and guess.rival is None


def test_a_hundred_repetitions_are_no_more_evidence_than_one() -> None:
    row = "Dvořák wrote the New World symphony.\n".encode("cp1250")
    assert detect_legacy(row * 100, complete=True).rival == detect_legacy(row, complete=True).rival is not None


def test_a_sample_has_each_word_once_and_words_without_accents_too() -> None:
    assert sample_words("žába a žába b a".encode("cp1250")) == "žába a b\n".encode("cp1250")


def test_only_the_encodings_asked_for_are_ranked() -> None:
    found = rank_encodings("přišli\n".encode("cp1250"), ["cp1250", "cp1252"])
    assert [reading.encodings for reading in found] == [("cp1250",), ("cp1252",)]


@pytest.mark.parametrize("encoding", ["cp1252", "mac-roman"])
def test_a_line_of_utf8_in_another_encoding_is_found(encoding: str) -> None:
    data = ("Le garçon était très fatigué. " * 20).encode(encoding) + "\nSœur élève\n".encode()
    guess = detect_legacy(data, complete=True)
    assert guess.utf8_word in ("Sœur".encode(), "élève".encode()) and guess.encodings[0] == encoding


def test_words_that_happen_to_be_utf8_do_not_make_a_mixture() -> None:
    for language, encoding, data in encode_texts():
        if encoding in CANDIDATES:
            assert find_utf8_word(data, encoding) is None, (language, encoding)


@pytest.mark.parametrize(
    ("text", "stray", "encoding"),
    [
        ("It’s a long line about boats. ", "it’s", "cp1252"),
        ("Když jsme přišli k řece, byla tma. ", "přišli", "cp1250"),
        ("Когда мы пришли к реке, было темно. ", "ъ", None),
    ],
)
def test_a_stray_byte_is_read_as_the_text_around_it_supports(text: str, stray: str, encoding: str | None) -> None:
    before = text.encode() * 10
    data = before + (b"\xff\xfe" if encoding is None else stray.encode(encoding)) + b" end\n"
    start = len(before) + next((n for n, char in enumerate(stray) if ord(char) > 127), 0)
    reading = rank_stray_byte(data, start, start + 1)
    if encoding is None:
        assert reading is None or "gb18030" not in reading.encodings
    else:
        assert reading is not None and encoding in reading.encodings


def test_mixed_bytes_are_decoded_piece_by_piece() -> None:
    assert decode_mixed("é ".encode() + b"\x92" + " ö".encode(), "cp1252") == "é ’ ö"
