"""Marks of typesetting and of other formats are removed on request, else counted."""

from collections import Counter

import pytest

from llmkit.text.cleaning.marks import (
    ENTITIES,
    HYPHENS,
    OPTIONS,
    SOFT_HYPHENS,
    count_marks,
    decode_entities,
    find_front_matter,
    remove_soft_hyphens,
    remove_subtitle_times,
    strip_front_matter,
)
from llmkit.text.documents import StepCounts


def test_soft_hyphens_are_removed_and_counted() -> None:
    removed: Counter[str] = Counter()
    assert remove_soft_hyphens("Unter\xadneh\xadmen", removed) == "Unternehmen"
    assert removed == {"soft hyphens": 2}


def test_a_word_broken_at_a_soft_hyphen_is_one_word() -> None:
    text = "Unter\xad\nnehmen und\nTür\xad\n  en.\nEnde\xad\n"
    assert remove_soft_hyphens(text, Counter()) == "Unternehmen\nund\nTüren.\nEnde\n"


def test_numbers_that_are_no_characters_stay() -> None:
    text = "&#0; &#1114112; &#x110000; &#xD800; &#99999999; &#xFFFF; &#xFFFD;"
    count = StepCounts()
    assert "".join(decode_entities([text], count)) == text.replace("&#xFFFD;", "\ufffd")
    assert count.removed == {"HTML entities": 1}


def test_entities_are_decoded_once_and_unknown_names_stay() -> None:
    count = StepCounts()
    text = "a &amp; b &lt;x&gt; &#146; &#x4f60; &amp;lt; AT&T; &notit; R&D &amp"
    assert "".join(decode_entities([text], count)) == "a & b <x> ’ 你 &lt; AT&T; &notit; R&D &amp"
    assert (count.removed[ENTITIES], count.changed) == (6, 1)
    assert count.examples == {ENTITIES: "&amp; is now &"}


def test_an_entity_that_two_parts_share_is_decoded() -> None:
    for cut in range(9):
        parts = ["x &eacute; y"[:cut], "x &eacute; y"[cut:]]
        assert "".join(decode_entities(parts, StepCounts())) == "x é y"


@pytest.mark.parametrize(
    ("text", "body"),
    [
        ("---\ntitle: A tale\ntags:\n  - a\n# c\n---\n\n# Tale\n", "# Tale\n"),
        ("---\ntitle: 故事\n...\nText --- here.\n", "Text --- here.\n"),
        ('+++\ntitle = "x"\n[params]\nb = [\n  1\n]\n+++\nText\n', "Text\n"),
    ],
)
def test_front_matter_goes_with_its_fences(text: str, body: str) -> None:
    count = StepCounts()
    assert "".join(strip_front_matter([text], count)) == body
    assert count.removed["front matter"] == len(text) - len(body)
    assert "".join(strip_front_matter([text[:7], text[7:]], StepCounts())) == body


@pytest.mark.parametrize(
    "text",
    [
        "---\n\nA scene.\n\n---\n\nAnother scene.\n",
        "---\nHe said nothing\n---\n",
        "---\ntitle: no end\n\nText.\n",
        "---\n---\nText\n",
        "Text\n---\na: b\n---\n",
        "--- a: b\n---\n",
        "---\n" + "a: b\n" * 5000 + "---\n",
    ],
)
def test_a_thematic_break_is_no_front_matter(text: str) -> None:
    assert find_front_matter(text) == 0


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "1\n00:00:01,000 --> 00:00:04,000\nAt 10:30.\n\n2\n00:00:05,000 --> 00:00:06,000\n3 boats\n",
            "At 10:30.\n\n3 boats\n",
        ),
        ("WEBVTT\nKind: captions\n\n00:01.000 --> 00:02.000 align:start\nHi\n", "\nHi\n"),
        ("[00:12.34]La la\n0:05\nwords\n[1:02]\n", "La la\nwords\n"),
        ("It is\n10:30 now\n", "It is\n10:30 now\n"),
    ],
)
def test_times_of_subtitles_go_and_times_in_sentences_stay(text: str, words: str) -> None:
    assert remove_subtitle_times(text, Counter()) == words


def test_marks_that_stay_are_counted_with_the_first_line_of_them() -> None:
    count = StepCounts()
    text = "---\na: b\n---\nOne &amp; two &c.\n\n00:01.000 --> 00:02.000\nso\xadft\n"
    assert "".join(count_marks([text, "&lt;"], count, frozenset(OPTIONS), "a.txt")) == text + "&lt;"
    assert count.notes == {"soft hyphens": 1, "HTML entities": 2, "front matter": 1, "subtitle times": 1}
    assert count.examples[ENTITIES] == "'One &amp; two &c.' in a.txt"
    only = StepCounts()
    list(count_marks([text], only, frozenset({SOFT_HYPHENS}), "a.txt"))
    assert only.notes == {"soft hyphens": 1}


def test_hyphens_at_line_ends_are_counted_between_lower_case_letters_only() -> None:
    count = StepCounts()
    text = "an inter-\nnational ferry of the Anglo-\nSaxon kind, 1914-\n1918, and a well-\n  known lamp -\nhere\n"
    list(count_marks([text], count, frozenset(OPTIONS), "a.txt"))
    assert count.notes == {HYPHENS: 2}
    assert count.examples[HYPHENS] == "'an inter-' in a.txt"
