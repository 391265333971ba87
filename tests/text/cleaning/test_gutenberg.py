"""Project Gutenberg's header and footer are removed, and no text of the book."""

import time

import pytest

from llmkit.config.prepare import Clean
from llmkit.text.cleaning.cleaners import clean_documents
from llmkit.text.documents import Document, StepCounts, make_documents

HEADER = """The Project Gutenberg EBook of A Book, by An Author

This eBook is for the use of anyone anywhere at no cost.

Title: A Book

*** START OF THIS PROJECT GUTENBERG EBOOK A BOOK ***




Produced by One Volunteer and the Online
Distributed Proofreading Team at http://www.pgdp.net


"""
FOOTER = """



End of the Project Gutenberg EBook of A Book, by An Author

*** END OF THIS PROJECT GUTENBERG EBOOK A BOOK ***

***** This file should be named 1-0.txt *****

*** START: FULL LICENSE ***
THE FULL PROJECT GUTENBERG LICENSE
"""
BOOK = "A BOOK\n\nChapter 1\n\nIt was produced by hand. *** They spoke of Project Gutenberg.\n\nTHE END\n"


def strip(text: str, max_chars: int = 1_000_000) -> tuple[str, StepCounts]:
    counts: dict[str, StepCounts] = {}
    documents = make_documents([text], "a.txt", 0, max_chars)
    return "".join(d.text for d in clean_documents(documents, Clean(), False, counts)), counts["gutenberg"]


def test_header_credit_footer_and_licence_go_and_the_book_stays() -> None:
    text, count = strip(HEADER + BOOK + FOOTER)
    assert text == BOOK
    assert set(count.removed) == {"header", "credit", "footer"}
    assert count.changed == 1


@pytest.mark.parametrize("n_lines", [0, 7, 11, 13, 40, 500])
def test_the_frame_is_found_wherever_the_parts_are_cut(n_lines: int) -> None:
    book = "A BOOK\n\n" + "".join(f"Line {n} of the book.\n" for n in range(n_lines)) + "\nTHE END\n"
    for pad in range(0, 900, 50):
        header = HEADER.replace("Title: A Book", "Title: A Book" + " x" * (pad // 2))
        assert strip(header + book + FOOTER, max_chars=1000)[0] == book


@pytest.mark.parametrize(
    ("start", "end"),
    [
        ("*** START OF THE PROJECT GUTENBERG EBOOK 1342 ***", "*** END OF THE PROJECT GUTENBERG EBOOK 1342 ***"),
        (
            "***START OF THE PROJECT GUTENBERG EBOOK A VERY LONG\nTITLE IN TWO LINES***",
            "End of Project Gutenberg's A Book",
        ),
        (
            "*END*THE SMALL PRINT! FOR PUBLIC DOMAIN ETEXTS*Ver.04.29.93*END*",
            "End of The Project Gutenberg Etext of A Book",
        ),
    ],
)
def test_older_and_newer_frames_are_known(start: str, end: str) -> None:
    text = f"Project Gutenberg's A Book\n\n{start}\n\nE-text prepared by Somebody\n\n{BOOK}\n\n{end}\n\nlicence\n"
    assert strip(text)[0] == BOOK


def test_a_transcribers_note_in_brackets_goes_and_one_without_an_end_stays() -> None:
    note = "[Transcriber's Note: This text was produced\nfrom a photo-reprint.]\n\n"
    assert strip(HEADER + "A BOOK\n\n" + note + "Chapter 1\n")[0] == "A BOOK\n\n\nChapter 1\n"
    loose = "Transcriber's Note\n\nItalics are marked.\n\nA BOOK\n"
    assert strip(HEADER + loose)[0] == loose


def test_several_books_in_one_file_all_stay() -> None:
    text, _ = strip((HEADER + BOOK + FOOTER) * 3)
    assert text.count("Chapter 1") == 3
    assert "LICENSE" not in text
    assert "START OF" not in text


@pytest.mark.parametrize("text", [BOOK, "Produced by hand.\n\n* * *\n\nThe end of the project: Gutenberg's press.\n"])
def test_a_text_without_the_frame_is_left_as_it_is(text: str) -> None:
    stripped, count = strip(text)
    assert (stripped, count.changed, count.removed) == (text, 0, {})


def test_a_text_that_only_talks_of_gutenberg_keeps_its_parts() -> None:
    parts = list(make_documents(["Project Gutenberg is a library.\n" * 200], "a.txt", 0, 1000))
    kept = list(clean_documents(parts, Clean(), False, {}))
    assert "".join(d.text for d in kept) == "".join(d.text for d in parts)


def test_documents_after_a_book_are_not_taken_for_its_footer() -> None:
    documents = [Document(HEADER + BOOK + FOOTER, "a"), Document("another\n", "b")]
    assert [d.text for d in clean_documents(documents, Clean(), False, {})] == [BOOK, "another\n"]


TALES = "".join(f"Chapter {n}\n\nThe ferry number {n} left at dawn.\n\n" for n in range(200))
END = "*** END OF THIS PROJECT GUTENBERG EBOOK X ***\n"
SMALL_PRINT = """***START**THE SMALL PRINT!**FOR PUBLIC DOMAIN EBOOKS**START***
lawyers
*END THE SMALL PRINT! FOR PUBLIC DOMAIN EBOOKS*Ver.02/11/02*END*
"""
OLD_HEADER = f"""**The Project Gutenberg Etext of A Book**

Copyright laws are changing all over the world.

{SMALL_PRINT}
"""


@pytest.mark.parametrize("has_start", [True, False])
@pytest.mark.parametrize("has_end", [True, False])
def test_small_print_at_the_end_never_takes_the_book_with_it(has_start: bool, has_end: bool) -> None:
    start = HEADER if has_start else "The Project Gutenberg EBook of A Book\n\n"
    text, count = strip(start + TALES + (END + "\n" if has_end else "") + SMALL_PRINT)
    assert text.removeprefix("The Project Gutenberg EBook of A Book\n\n").strip() == TALES.strip()
    assert count.removed["footer"] >= len(SMALL_PRINT)
    assert not count.notes


@pytest.mark.parametrize("book", [TALES, "A short tale.\n"])
def test_small_print_at_the_start_goes_with_the_header(book: str) -> None:
    text, _ = strip(OLD_HEADER + book + "\nEnd of The Project Gutenberg Etext of A Book\n")
    assert text.strip() == book.strip()


@pytest.mark.parametrize(
    "essay",
    [
        TALES + END + "\nis how such files close, scholars say.\n\n" + TALES,
        TALES + END + "\nis how such files close. Those of gutenberg.org have a licence.\n",
        TALES + "*** START OF THIS PROJECT GUTENBERG EBOOK X ***\n\nis how such files open.\n\n" + TALES,
        "Project Gutenberg closes a file with\n\n" + END + "\nand opens it with\n\n" + OLD_HEADER[-60:] + TALES,
        "Gutenberg files open with\n*** START OF THIS PROJECT GUTENBERG EBOOK X ***\nand end with\n" + END + TALES,
        "End of Project Gutenberg's reign, some say.\n" + TALES,
    ],
)
def test_an_essay_that_quotes_the_lines_of_the_frame_keeps_every_word(essay: str) -> None:
    for max_chars in (1_000_000, 1000):
        text, count = strip(essay, max_chars)
        assert text.split() == essay.split()
        assert count.changed == 0


def test_a_book_that_quotes_an_end_line_ends_at_its_own() -> None:
    book = TALES + END + "\nwas the last line of the file.\n\n" + TALES
    assert strip(HEADER + book + FOOTER)[0].strip() == book.strip()


def test_a_text_after_the_licence_stays() -> None:
    other = "ANOTHER TEXT\n\n" + TALES + "It is read at Project Gutenberg.\n"
    text, _ = strip(HEADER + BOOK + FOOTER + "\n\n" + other)
    assert "LICENSE" not in text
    assert text.split() == (BOOK + other).split()
    text, _ = strip("The Project Gutenberg EBook of A Book\n\n" + TALES + END + "\n" + SMALL_PRINT + "\n" + other)
    assert text.split() == ("The Project Gutenberg EBook of A Book\n\n" + TALES + other).split()


def test_a_header_without_an_end_and_an_end_without_a_header_are_removed() -> None:
    assert strip(HEADER + TALES)[0].strip() == TALES.strip()
    assert strip(TALES + FOOTER)[0].strip() == TALES.strip()
    assert strip(TALES + END)[0].strip() == TALES.strip()


def test_many_quoted_lines_take_no_time() -> None:
    for line in (END, SMALL_PRINT.split("\n")[0] + "\n", "End of the Project Gutenberg Etext\n"):
        start = time.perf_counter()
        strip(HEADER + (line + "word " * 300 + "\n") * 300)
        assert time.perf_counter() - start < 5


def test_text_between_two_end_lines_before_one_licence_stays() -> None:
    between = "".join(f"The well number {i} was deep.\n\n" for i in range(60))
    assert len(between) < 3000
    kept, _ = strip(HEADER + TALES + END + "\n" + between + FOOTER)
    assert between.strip() in kept
    assert "license" not in kept.casefold()


OWN = "My own preface to these tales.\n\nTitle: A Study of Boats\n\nI wrote it at Project Gutenberg's table.\n\n"


@pytest.mark.parametrize("own", [OWN, OWN + "It is long.\n\n" * 400, "One line.\n\n"])
@pytest.mark.parametrize("max_chars", [1_000_000, 1000])
def test_own_text_before_the_header_stays(own: str, max_chars: int) -> None:
    text, count = strip(own + HEADER + TALES + FOOTER, max_chars)
    assert text.split() == (own + TALES).split()
    assert count.removed["header"] < len(HEADER)


@pytest.mark.parametrize(
    ("title", "fields", "start", "end"),
    [
        ("Le livre électronique du Projet Gutenberg: Contes", "Titre : Contes\n\nAuteur : X",
         "*** DÉBUT DU LIVRE ÉLECTRONIQUE DU PROJET GUTENBERG CONTES ***",
         "*** FIN DU LIVRE ÉLECTRONIQUE DU PROJET GUTENBERG CONTES ***"),
        ("Das Projekt Gutenberg eBook von Märchen", "Titel: Märchen\n\nSprache: Deutsch",
         "*** BEGINN DIESES PROJEKT GUTENBERG EBOOKS ***", "*** ENDE DIESES PROJEKT GUTENBERG EBOOKS ***"),
        ("El libro del Proyecto Gutenberg: Cuentos", "Título: Cuentos\n\nIdioma: español",
         "*** START OF THE PROJECT GUTENBERG EBOOK CUENTOS ***", "*** END OF THE PROJECT GUTENBERG EBOOK CUENTOS ***"),
        ("", "Title: Tales\n\nAuthor: X", "*** START OF THE PROJECT GUTENBERG EBOOK TALES ***",
         "*** END OF THE PROJECT GUTENBERG EBOOK TALES ***"),
    ],
)  # fmt: skip
def test_headers_in_other_languages_and_without_a_title_line_are_removed(
    title: str, fields: str, start: str, end: str
) -> None:
    assert strip(f"{title}\n\n{fields}\n\n{start}\n\n{TALES}{end}\n")[0].strip() == TALES.strip()


def test_an_essay_with_a_title_that_quotes_the_start_line_keeps_every_word() -> None:
    start = HEADER[HEADER.index("***") : HEADER.rindex("***") + 4]
    essay = f"Title: My essay on Gutenberg\n\nA file begins so:\n\n{start}\nas one sees.\n\n{TALES}"
    text, count = strip(essay)
    assert (text.split(), count.changed) == (essay.split(), 0)
