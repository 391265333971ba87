"""Held-out text that is also in train is found, however it is wrapped."""

import random

import pytest

from llmkit.text import overlap
from llmkit.text.documents import Document
from llmkit.text.overlap import find_overlap, merge_windows, sample_windows
from llmkit.text.parts import make_documents


def write(n_chars: int, seed: int, chinese: bool) -> str:
    draw = random.Random(seed)
    letters = [chr(code) for code in range(0x4E00, 0x5600)] if chinese else list("abcdefghijklmnop")
    return "".join(draw.choices(letters, k=n_chars))


@pytest.mark.parametrize("chinese", [False, True])
def test_the_share_of_copied_text_is_found_through_other_line_ends_case_and_punctuation(chinese: bool) -> None:
    train = write(20_000, 0, chinese)
    copied = train[5_000:6_000]
    wrapped = "，\n".join(copied[start : start + 17] for start in range(0, 1000, 17)).upper()
    held_out = write(3_000, 1, chinese) + wrapped
    found = find_overlap(make_documents([train], "a", 0, 1_000), [Document(held_out, "b")])
    assert 0.22 < found.share < 0.26
    assert found.n_found / found.n_windows == found.share


def test_different_texts_do_not_overlap() -> None:
    found = find_overlap([Document(write(9000, 0, False), "a")], [Document(write(9000, 1, False), "b")])
    assert (found.share, found.n_found) == (0, 0)


def test_a_text_shorter_than_a_window_has_no_overlap() -> None:
    assert find_overlap([Document("short", "a")], [Document("short", "b")]).share == 0


def test_samples_of_pieces_make_the_sample_of_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [Document(write(n, n % 7, chinese=n % 2 == 0), "a", n) for n in (30, 400, 900, 2_000, 407, 5, 3_000)]
    assert merge_windows([])[1] == 1 and not len(merge_windows([])[0])
    for most in (50, 700, 10**6):
        monkeypatch.setattr(overlap, "_MOST_WINDOWS", most)
        whole, every = sample_windows(texts)
        merged = merge_windows([sample_windows(texts[start : start + 2]) for start in range(0, len(texts), 2)])
        assert merged[1] == every and merged[0].tolist() == whole.tolist()
        assert 0 < len(whole) <= most


def test_no_window_spans_two_documents() -> None:
    text = write(100, 0, False)
    halves = [Document(text[:50], "a"), Document(text[50:], "a", 1)]
    assert find_overlap(halves, [Document(text, "b")]).n_found == 2


def test_the_sample_of_a_large_held_out_text_is_bounded_and_right(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llmkit.text.overlap._MOST_WINDOWS", 1000)
    train = write(30_000, 0, False)
    found = find_overlap([Document(train, "a")], [Document(train[:10_000] + write(10_000, 1, False), "b")])
    assert found.n_windows <= 1000
    assert found.every > 1
    assert 0.4 < found.share < 0.6
