"""Each cleaning step does what it documents, counts it, and does not depend on where parts are cut."""

import random

import pytest

from llmkit.config.prepare import Clean, Quality
from llmkit.core.errors import DataError, UsageError
from llmkit.preparing.shards import as_json
from llmkit.text.cleaning.cleaners import clean_documents, describe_notes
from llmkit.text.documents import Document, StepCounts, make_documents

NOTHING = Clean(unicode="none", mojibake=False, gutenberg=False, whitespace=False)


def clean(text: str, settings: Clean = NOTHING, strict: bool = False) -> tuple[str, dict[str, StepCounts]]:
    counts: dict[str, StepCounts] = {}
    documents = list(clean_documents([Document(text, "a.txt")], settings, strict, counts))
    assert len(documents) <= 1
    return "".join(document.text for document in documents), counts


def with_step(**steps: object) -> Clean:
    return NOTHING.model_copy(update=steps)


@pytest.mark.parametrize("end", ["\r\n", "\r", "\n", "\u2028", "\f"])
def test_every_line_end_becomes_one_line_feed(end: str) -> None:
    assert clean(f"一{end}二{end}")[0] == "一\n二\n"


def test_control_characters_are_removed_and_counted_by_kind() -> None:
    text, counts = clean("a\0b\x07c\x9fd\ufeffe\ud800f\ufffeg\th\n")
    assert text == "abcdefg\th\n"
    assert counts["controls"].removed == {
        "NUL": 1,
        "control character": 2,
        "byte order mark": 1,
        "lone surrogate": 1,
        "noncharacter": 1,
    }
    assert counts["controls"].changed == 1


def test_other_characters_than_controls_stay() -> None:
    text = "tab\tsoft\xadhyphen zero\u200bwidth 👩\u200d💻 full－width　space，。\ufffd"
    assert clean(text)[0] == text


@pytest.mark.parametrize("bad", ["\0", "\x07", "\ud800", "\ufeff"])
def test_strict_makes_a_control_character_an_error_that_names_its_place(bad: str) -> None:
    with pytest.raises(DataError) as caught:
        clean(f"fine so far{bad}", strict=True)
    assert "a.txt, document 0, character 11" in caught.value.problems[0].where


def test_strict_lets_a_sound_text_through() -> None:
    assert clean("fine\r\n\ttext", strict=True)[0] == "fine\n\ttext"


def test_characters_and_their_marks_are_composed() -> None:
    assert clean("e\u0301 ①Ａ", with_step(unicode="NFC"))[0] == "é ①Ａ"
    assert clean("e\u0301 ①Ａ", with_step(unicode="NFKC"))[0] == "é 1A"


def test_full_width_letters_digits_and_spaces_become_ascii_and_chinese_punctuation_stays() -> None:
    text = "ＡＢｃ　１２３（全角），。～％①ｶﾞe\u0301"
    assert clean(text, with_step(unicode="width"))[0] == "ABc 123（全角），。～％①ｶﾞé"
    assert clean(text, with_step(unicode="NFKC_keep_cjk"))[0] == "ABc 123（全角），。～%1ガé"
    assert clean(text, with_step(unicode="NFKC"))[0] == "ABc 123(全角),。~%1ガé"
    assert clean("你好……！？", with_step(unicode="NFKC_keep_cjk"))[0] == "你好……！？"


def test_broken_lines_are_repaired_where_that_is_asked_for_and_counted() -> None:
    text, counts = clean("sound\nclichÃ©s and cafÃ©", with_step(mojibake=True))
    assert (text, counts["mojibake"].removed) == ("sound\nclichés and café", {"broken lines": 1})
    assert clean("clichÃ©s")[0] == "clichÃ©s"


def test_white_space_is_normalized() -> None:
    text = "\n\n  \n　　话说天下大势，\u3000分久必合。 \n\n\n\n\n\tcode\n    verse   \n   \nend\n\n"
    tidy = "话说天下大势，\u3000分久必合。\n\n\n\tcode\n    verse\n\nend\n"
    assert clean(text, with_step(whitespace=True))[0] == tidy


def test_an_indent_goes_before_chinese_and_stays_before_other_text() -> None:
    text = "    话说天下\n    “却说”\n  \t——调寄\n    verse “话”\n\tcode = '字'\n"
    assert clean(text, with_step(whitespace=True))[0] == "话说天下\n“却说”\n——调寄\n    verse “话”\n\tcode = '字'\n"


@pytest.mark.parametrize(
    "text", ["And  \nTwice being  \nwas\n\n\nSAMPSON:\n", "no final line feed", "  indented start\n"]
)
def test_a_text_that_needs_no_change_is_not_counted_as_changed(text: str) -> None:
    tidied, counts = clean(text, with_step(whitespace=True))
    assert (tidied, counts["whitespace"].changed) == (text, 0)


def test_cleaning_does_not_depend_on_where_the_parts_are_cut() -> None:
    draw = random.Random(0)
    pieces = ["word ", "字。", "\n", "\r\n", "\n\n", "  ", "　　", " \n", "\t", "e\u0301", "\0", "clichÃ©", "x"]
    steps = Clean(lowercase=True, strip_punctuation=True)
    for _ in range(40):
        text = "".join(draw.choices(pieces, k=2000))
        whole = "".join(d.text for d in clean_documents([Document(text, "a")], steps, False, {}))
        parts = list(clean_documents(make_documents([text], "a", 0, 1000), steps, False, {}))
        assert len(parts) > 1
        assert "".join(document.text for document in parts) == whole
        assert [document.part for document in parts] == list(range(len(parts)))
        assert [document.last for document in parts] == [False] * (len(parts) - 1) + [True]


def test_lower_case_and_punctuation_are_right_for_chinese_too() -> None:
    text = "“Hello,” SHE said -- 你好，世界！（再见。）\n《书》 done.\n"
    steps = with_step(lowercase=True, strip_punctuation=True)
    assert clean(text, steps)[0] == "hello she said 你好 世界 再见\n书 done\n"


def test_traditional_characters_become_simplified() -> None:
    pytest.importorskip("opencc")
    assert clean("漢字與國家，頭髮與發展", with_step(simplify_chinese=True))[0] == "汉字与国家，头发与发展"


def test_documents_without_any_text_left_are_dropped_and_counted() -> None:
    counts: dict[str, StepCounts] = {}
    documents = [
        Document(" \n\0", "a"),
        Document("text", "b"),
        Document("\n", "c", 0, 0, False),
        Document(" ", "c", 0, 1),
    ]
    kept = list(clean_documents(documents, Clean(), False, counts))
    assert [document.source for document in kept] == ["b"]
    assert counts["empty"].dropped == {"nothing left after cleaning": 2}
    assert (counts["empty"].documents_in, counts["empty"].documents_out) == (3, 1)


def test_document_that_breaks_a_rule_of_quality_is_dropped_and_counted() -> None:
    settings = with_step(quality=Quality(max_digit_share=0.3))
    assert clean("1949年10月，在北京的天安门广场上举行", settings)[1]["quality"].dropped == {}
    text, counts = clean("１２３４567 年", settings)
    assert (text, counts["quality"].dropped) == ("", {"too many digits": 1})


def test_a_document_in_parts_is_judged_as_a_whole() -> None:
    counts: dict[str, StepCounts] = {}
    parts = list(make_documents(["一行好的文字\n" * 400], "a", 0, 1000))
    settings = with_step(quality=Quality(min_chars=2000))
    assert list(clean_documents(parts, settings, False, counts)) == parts


def test_the_counts_stand_in_the_order_of_the_steps() -> None:
    assert list(clean("text", Clean())[1]) == [
        "line ends", "mojibake", "controls", "unicode NFC", "gutenberg", "whitespace", "marks kept as text", "empty",
    ]  # fmt: skip


def describe(counts: dict[str, StepCounts]) -> list[str]:
    return describe_notes({name: as_json(count) for name, count in counts.items()})


@pytest.mark.parametrize(
    ("text", "settings", "step"),
    [
        ("\0" * 50 + "a few words\n", NOTHING, "controls"),
        ("a\xad" * 50, with_step(soft_hyphens=True), "soft hyphens"),
        ("---\ntitle: A long title of it\n---\nText\n", with_step(front_matter=True), "front matter"),
        ("1\n00:00:01,000 --> 00:00:04,000\nHello\n", with_step(subtitle_times=True), "subtitle times"),
        (
            "Project Gutenberg's Book\n\n*** START OF THIS PROJECT GUTENBERG EBOOK X ***\n\nA few words.\n",
            with_step(gutenberg=True),
            "gutenberg",
        ),
    ],
)
def test_a_step_that_removes_over_a_third_of_a_document_is_noted_once_with_an_example(
    text: str, settings: Clean, step: str
) -> None:
    counts: dict[str, StepCounts] = {}
    documents = [Document(text, f"{name}.txt") for name in "abc"]
    list(clean_documents([*documents, Document("A whole text.\n" * 9, "d.txt")], settings, False, counts))
    assert counts[step].notes == {"more than a third removed": 3}
    (line,) = [line for line in describe(counts) if "third" in line]
    assert line.startswith(f"cleaning step {step!r} removed more than a third of the text of 3 documents: ")
    assert "% of a.txt, document 0" in line


def test_text_that_loses_little_is_not_reported() -> None:
    text = "A whole text.\r\n" * 20 + "\0"
    assert describe(clean(text, Clean())[1]) == []


@pytest.mark.parametrize(
    ("mark", "option"),
    [
        ("Story &amp; is short.\n", "html_entities"),
        ("Unter\xadnehmen\n", "soft_hyphens"),
        ("1\n00:00:01,000 --> 00:00:04,000\nHello\n\n", "subtitle_times"),
    ],
)
def test_many_marks_kept_as_text_are_reported_with_the_option_that_removes_them(mark: str, option: str) -> None:
    (line,) = describe(clean(mark * 200, Clean())[1])
    assert line.startswith("200 ")
    assert f"prepare.clean.{option}=true" in line
    assert "a.txt" in line
    text, counts = clean(mark * 200, Clean(**{option: True}))
    assert not any("stay in the text" in line for line in describe(counts))
    assert text != mark * 200
    assert not describe(clean(mark * 3, Clean())[1])


def test_documents_in_other_languages_are_dropped_and_counted_with_an_example() -> None:
    pytest.importorskip("py3langid")
    counts: dict[str, StepCounts] = {}
    texts = [
        "The ferry left at dawn, and nobody knew where it went.",
        "话说天下大势，分久必合，合久必分。",
        "Die Fähre fuhr bei Tagesanbruch ab, und niemand wusste wohin.",
        "Der alte Mann verkaufte uns Brot und Käse am Ufer des Flusses.",
        "ok",
    ]
    documents = [Document(text, f"{n}.txt") for n, text in enumerate(texts)]
    settings = with_step(languages=["zh", "en"])
    assert [d.source for d in clean_documents(documents, settings, False, counts)] == ["0.txt", "1.txt", "4.txt"]
    count = counts["languages"]
    assert (count.documents_in, count.documents_out, count.dropped) == (5, 3, {"de": 2})
    assert count.notes == {"en": 1, "zh": 1, "too short to judge": 1}
    dropped, short = describe(counts)
    assert dropped.startswith("2 documents dropped, because 'de' is not in prepare.clean.languages: 'Die Fähre")
    assert short == "1 document kept, because too short to judge the language: 'ok' in 4.txt"
    assert "empty" in counts and not counts["empty"].dropped


def test_an_unknown_language_is_refused_before_anything_is_read() -> None:
    pytest.importorskip("py3langid")
    with pytest.raises(UsageError):
        clean_documents(iter(()), with_step(languages=["zz"]), False, {})


def test_all_new_steps_are_off_by_default_and_run_in_the_order_of_the_settings() -> None:
    text = "---\na: b\n---\nA&amp;B &shy; Ｃ\n\n0:05\nrun-\nning\n"
    assert clean(text, Clean())[0] == text
    on = Clean(html_entities=True, front_matter=True, soft_hyphens=True, unicode="width", subtitle_times=True,
               join_lines=True, join_hyphens=True)  # fmt: skip
    assert clean(text, on)[0] == "A&B  C\n\nrunning\n"
    assert list(clean(text, on)[1]) == [
        "html entities", "line ends", "mojibake", "controls", "front matter", "soft hyphens", "unicode width",
        "gutenberg", "subtitle times", "joined lines and hyphens", "whitespace", "marks kept as text", "empty",
    ]  # fmt: skip
