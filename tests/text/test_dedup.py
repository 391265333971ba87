"""Of several duplicates the first is kept; the others are dropped and counted."""

import random

import pytest

from llmkit.config.prepare import Dedup
from llmkit.text.dedup import EXACT, NEAR, PARAGRAPHS, compute_keys, drop_duplicate_paragraphs, find_unique
from llmkit.text.documents import Document, StepCounts, make_documents


def run(given: list[Document], **settings: object) -> tuple[list[Document], dict[str, StepCounts]]:
    """As `prepare` does it: what stays goes by the keys alone."""
    dedup = Dedup(**settings)  # type: ignore[arg-type]
    counts: dict[str, StepCounts] = {}
    stays = find_unique(list(compute_keys(given, dedup)), dedup, counts)
    kept = []
    stay = False
    for n, document in enumerate(given):
        if not n or given[n - 1].last:
            stay = next(stays)
        kept += [document] * stay
    next(stays, None)  # without any document too, the steps are counted
    if dedup.paragraphs:
        kept = list(drop_duplicate_paragraphs(kept, counts.setdefault(PARAGRAPHS, StepCounts()), set()))
    return kept, counts


def write_words(n_words: int, seed: int, chinese: bool) -> list[str]:
    draw = random.Random(seed)
    if chinese:
        return [chr(draw.randrange(0x4E00, 0x5E00)) for _ in range(n_words)]
    return ["".join(draw.choices("abcdefgh", k=4)) for _ in range(n_words)]


def test_ten_documents_three_times_leave_ten() -> None:
    documents = [Document(f"document {n}", f"{copy}.txt", n) for copy in range(3) for n in range(10)]
    kept, counts = run(documents)
    assert kept == documents[:10]
    assert counts[EXACT].dropped == {"seen before": 20}
    assert (counts[EXACT].documents_in, counts[EXACT].documents_out) == (30, 10)


def test_white_space_and_case_make_no_difference_and_other_changes_do() -> None:
    texts = ["Hello, World", "hello,\n  world ", "Hello　World", "天下大势，\n分久必合", "　天下大势，分久必合"]
    kept, _ = run([Document(text, str(n)) for n, text in enumerate(texts)])
    assert [document.source for document in kept] == ["0", "2", "3"]


@pytest.mark.parametrize("n_lines", [2_000, 400_000])
def test_a_long_document_is_one_copy_however_it_is_cut_into_parts(n_lines: int) -> None:
    text = "".join(f"line {n} of a long text\n" for n in range(n_lines))
    documents = [
        *make_documents([text], "a", 0, 5_000_000),
        *make_documents([text], "b", 0, 20_000),
        *make_documents([text + "more"], "c", 0, 20_000),
    ]
    kept, counts = run(documents)
    assert {document.source for document in kept} == {"a", "c"}
    assert "".join(document.text for document in kept if document.source == "c") == text + "more"
    assert counts[EXACT].dropped == {"seen before": 1}


def test_nothing_is_dropped_when_it_is_switched_off() -> None:
    documents = [Document("x", "a"), Document("x", "b")]
    assert run(documents, documents=False) == (documents, {})


@pytest.mark.parametrize("chinese", [False, True])
def test_near_copies_are_dropped_and_different_documents_are_not(chinese: bool) -> None:
    pytest.importorskip("rensa")
    join = ("" if chinese else " ").join
    words = write_words(1000, 0, chinese)
    near = [*words[:300], *write_words(5, 1, chinese), *words[305:]]
    half = [*words[:500], *write_words(500, 2, chinese)]
    documents = [
        Document(join(each), str(n)) for n, each in enumerate([words, near, half, write_words(1000, 3, chinese)])
    ]
    kept, counts = run(documents, near=True)
    assert [document.source for document in kept] == ["0", "2", "3"]
    assert counts[NEAR].dropped == {"nearly seen before": 1}
    assert run(documents, near=True)[0] == kept


@pytest.mark.parametrize("near", [False, True])
def test_document_in_parts_is_one_copy_and_short_ones_have_no_key_of_near_copies(near: bool) -> None:
    pytest.importorskip("rensa")
    words = write_words(300, 0, False)
    texts = [" ".join(words), " ".join([*words[:290], "other"]), " ".join(words).upper(), "short", "short", "too"]
    documents = [part for n, text in enumerate(texts) for part in make_documents([text], str(n), 0, 500)]
    kept, counts = run(documents, near=near)
    assert {document.source for document in kept} == {"0", "3", "5"} | ({"1"} if not near else set())
    assert counts[EXACT].dropped == {"seen before": 2}
    assert not near or (counts[NEAR].documents_in, counts[NEAR].dropped) == (4, {"nearly seen before": 1})


@pytest.mark.parametrize("chinese", [False, True])
def test_near_copies_are_those_of_a_comparison_of_all_pairs(chinese: bool) -> None:
    pytest.importorskip("rensa")
    draw = random.Random(1)
    texts: list[list[str]] = []
    for n in range(60):
        words = list(texts[draw.randrange(0, n, 3)]) if n % 3 else write_words(400, 100 + n, chinese)
        n_changed = draw.choice([0, 4, 8, 120])  # far from the threshold on both sides: a sketch is an estimate
        start = draw.randrange(0, 400 - n_changed)
        words[start : start + n_changed] = write_words(n_changed, 500 + n, chinese)
        texts.append(words)
    grams = [{tuple(words[i : i + 5]) for i in range(len(words) - 4)} for words in texts]
    expected: list[int] = []
    for n, own in enumerate(grams):
        shares = [len(own & grams[other]) / len(own | grams[other]) for other in expected]
        if all(share < 0.8 for share in shares):
            expected.append(n)
    documents = [Document(("" if chinese else " ").join(words), str(n)) for n, words in enumerate(texts)]
    kept, _ = run(documents, near=True, documents=False)
    assert len(expected) not in (0, 60)
    assert [int(document.source) for document in kept] == expected


def test_near_copies_are_found_across_the_edges_of_parts() -> None:
    pytest.importorskip("rensa")
    text = "\n".join(" ".join(write_words(10, seed, False)) for seed in range(400))
    documents = [*make_documents([text], "a", 0, 1_000_000), *make_documents([text + " end"], "b", 0, 60)]
    assert {document.source for document in run(documents, near=True)[0]} == {"a"}


def test_long_paragraphs_seen_before_go_and_short_ones_stay() -> None:
    long = "这是一个很长的段落，说的是从前有一个国家，国王没有儿子。" * 2
    texts = [f"甲\n\n{long}\n\n好的。\n", f"乙\n\n{long}\n\n好的。\n", long]
    kept, counts = run([Document(text, str(n)) for n, text in enumerate(texts)], paragraphs=True)
    assert [document.text for document in kept] == [texts[0], "乙\n\n好的。\n"]
    assert counts[PARAGRAPHS].removed == {"paragraphs": 2}
    assert counts[PARAGRAPHS].changed == 1
    assert counts[PARAGRAPHS].dropped == {"all paragraphs seen before": 1}


def test_a_document_without_copied_paragraphs_comes_through_unchanged_in_parts() -> None:
    text = "".join(f"paragraph {n} " + " ".join(write_words(20, n, False)) + "\n\n" for n in range(200))
    kept, counts = run(list(make_documents([text], "a", 0, 3000)), paragraphs=True)
    assert len(kept) > 5
    assert "".join(document.text for document in kept) == text
    assert counts[PARAGRAPHS].changed == 0


def test_a_document_that_loses_over_a_third_of_its_paragraphs_is_noted() -> None:
    long = [
        f"Paragraph {n} of the book is long enough to be compared with the others of the corpus. " * 4 for n in range(4)
    ]
    texts = ["\n\n".join(long), "\n\n".join([*long[:2], "An own end of this text. " * 9]), "\n\n".join(long[:1])]
    documents = [Document(text, f"{name}.txt") for name, text in zip("abc", texts, strict=True)]
    count = StepCounts()
    assert [d.source for d in drop_duplicate_paragraphs(documents, count, set())] == ["a.txt", "b.txt"]
    assert count.notes == {"more than a third removed": 1}
    assert "% of b.txt" in count.examples["more than a third removed"]
