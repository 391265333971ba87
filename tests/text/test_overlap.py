"""Held-out text that is also in train is found even if it is wrapped differently."""

import random

import numpy as np
import pytest

from llmkit.text import overlap
from llmkit.text.documents import Document, make_documents
from llmkit.text.overlap import Overlap, count_overlap, find_windows, merge_windows, sample_windows


def write(n_chars: int, seed: int, chinese: bool) -> str:
    draw = random.Random(seed)
    letters = [chr(code) for code in range(0x4E00, 0x5600)] if chinese else list("abcdefghijklmnop")
    return "".join(draw.choices(letters, k=n_chars))


def find_overlap(train: list[Document], *held_out: list[Document]) -> list[Overlap]:
    """For each held-out text the share of its windows that the train text has too."""
    sizes = [sum(len(document.text.encode()) for document in documents) for documents in held_out]
    samples = [sample_windows(documents, size) for documents, size in zip(held_out, sizes, strict=True)]
    masks = find_windows(train, samples)
    return [count_overlap(found, every) for found, (_, every) in zip(masks, samples, strict=True)]


@pytest.mark.parametrize("chinese", [False, True])
def test_the_share_of_copied_text_is_found_through_other_line_ends_case_and_punctuation(chinese: bool) -> None:
    train = write(20_000, 0, chinese)
    copied = train[5_000:6_000]
    wrapped = "，\n".join(copied[start : start + 17] for start in range(0, 1000, 17)).upper()
    held_out = write(3_000, 1, chinese) + wrapped
    found = find_overlap(list(make_documents([train], "a", 0, 1_000)), [Document(held_out, "b")])[0]
    assert 0.22 < found.share < 0.26
    assert found.n_found / found.n_windows == found.share


def test_different_texts_do_not_overlap() -> None:
    found = find_overlap([Document(write(9000, 0, False), "a")], [Document(write(9000, 1, False), "b")])[0]
    assert (found.share, found.n_found) == (0, 0)


def test_a_text_shorter_than_a_window_has_no_overlap() -> None:
    assert find_overlap([Document("short", "a")], [Document("short", "b")])[0].share == 0


def test_samples_of_pieces_make_the_sample_of_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [Document(write(n, n % 7, chinese=n % 2 == 0), "a", n) for n in (30, 400, 900, 2_000, 407, 5, 3_000)]
    assert merge_windows([])[1] == 1 and not len(merge_windows([])[0])
    n_bytes = sum(len(text.text.encode()) for text in texts)
    for most in (50, 700, 10**6):
        monkeypatch.setattr(overlap, "_MAX_WINDOWS", most)
        whole, every = sample_windows(texts, n_bytes)
        pieces = [sample_windows(texts[start : start + 2], n_bytes) for start in range(0, len(texts), 2)]
        merged = merge_windows(pieces)
        assert merged[1] == every and merged[0].tolist() == whole.tolist()
        assert 0 < len(whole) <= most


def test_piece_that_was_sampled_more_densely_is_thinned_out_as_the_others() -> None:
    quarter = 1 << 62
    dense, sparse = (np.array([5, quarter - 1, quarter], np.uint64), 1), (np.array([8], np.uint64), 4)
    for samples in ([dense, sparse], [sparse, dense]):
        hashes, every = merge_windows(samples)
        assert (hashes.tolist(), every) == ([5, 8, quarter - 1], 4)


def test_no_window_spans_two_documents() -> None:
    text = write(100, 0, False)
    halves = [Document(text[:50], "a"), Document(text[50:], "a", 1)]
    assert find_overlap(halves, [Document(text, "b")])[0].n_found == 2


def test_the_sample_of_a_large_held_out_text_is_bounded_and_right(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llmkit.text.overlap._MAX_WINDOWS", 1000)
    train = write(30_000, 0, False)
    found = find_overlap([Document(train, "a")], [Document(train[:10_000] + write(10_000, 1, False), "b")])[0]
    assert found.n_windows <= 1000
    assert found.every > 1
    assert 0.4 < found.share < 0.6


def hash_by_hand(window: bytes) -> int:
    words = [int.from_bytes(window[start : start + 8], "little") for start in (*range(0, 48, 8), 42)]
    value = 0
    for word in words:
        value = (value ^ word) * 0xBF58476D1CE4E5B9 % (1 << 64)
        value ^= value >> 29
    return words[0] * 0x9E3779B97F4A7C15 % (1 << 64) >> 40 << 40 | value >> 24


def hash_windows(documents: list[Document], every: int = 1) -> list[int]:
    return sorted(np.concatenate(list(overlap._hash_windows(documents, overlap._below(every)))).tolist())


def test_each_window_has_the_hash_of_its_words_wherever_the_text_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overlap, "_BYTES_AT_ONCE", 64)
    data = "".join(random.Random(0).choices("abcdé中😀", k=300)).encode()
    expected = sorted(hash_by_hand(data[start : start + 50]) for start in range(len(data) - 49))
    text = data.decode()
    assert hash_windows([Document(text, "a")]) == expected
    in_parts = [Document(text[:100], "a", last=False), Document(text[100:], "a", part=1)]
    assert hash_windows(in_parts) == expected


@pytest.mark.parametrize("bytes_at_once", [64, 1 << 16])
def test_documents_hashed_together_have_the_same_windows_as_each_alone(
    bytes_at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(overlap, "_BYTES_AT_ONCE", bytes_at_once)
    draw = random.Random(0)
    documents: list[Document] = []
    expected: list[int] = []
    for number in range(60):
        text = "".join(draw.choices("abcdé中😀", k=draw.randrange(120)))
        data = text.encode()
        expected += [hash_by_hand(data[start : start + 50]) for start in range(len(data) - 49)]
        documents += make_documents([text], "a", number, draw.choice([7, 30, 1000])) if text else []
    assert hash_windows(documents) == sorted(expected)


def test_windows_are_chosen_by_their_hashes() -> None:
    text = [Document(write(20_000, 0, False), "a")]
    for every in (2, 16, 1 << 10):
        assert hash_windows(text, every) == [found for found in hash_windows(text) if found < (1 << 64) // every]


@pytest.mark.parametrize("n_copied", [0, 500, 3_000])
def test_a_small_held_out_text_is_looked_for_in_a_large_train_text_window_by_window(n_copied: int) -> None:
    train = write(300_000, 0, False)
    held_out = [Document(train[70_000 : 70_000 + n_copied] + write(4_000, 1, False), "b")]
    sample, every = sample_windows(held_out, 7_000)
    assert every == 1
    found = count_overlap(find_windows([Document(train, "a")], [(sample, every)])[0], every)
    assert (found.n_windows, found.n_found) == (n_copied + 4_000 - 49, max(0, n_copied - 49))


def test_text_is_folded_to_letters_and_digits_without_case() -> None:
    ranges = ((0x2000, 0x206F), (0x3000, 0x303F), (0xFE30, 0xFE4F), (0xFF1A, 0xFF20))
    marks = [chr(code) for first, last in ranges for code in range(first, last + 1)]
    marks += [chr(code) for code in range(0xC0) if not chr(code).isalnum()]
    draw = random.Random(0)
    letters = "abcXYZ09éÉßµªº中国가ａＺ０ΩЖж\u0301\ufdf0😀"
    for _ in range(300):
        text = "".join(draw.choices([*letters, *marks], k=100))
        kept = "".join(char for char in text if char in letters)
        assert overlap._fold(text).decode() == kept.casefold()


def test_several_held_out_texts_are_found_as_each_alone_and_as_plain_sets_of_windows_say() -> None:
    train = write(3000, 0, False)
    train += train[:2000] + write(500, 3, False)  # again and again
    held_out = [train[100:400] + write(300, n, False) + train[2900:3100] for n in (1, 2)] + [""]
    found = find_overlap([Document(train, "a")], *([Document(text, "b")] if text else [] for text in held_out))
    alone = [find_overlap([Document(train, "a")], [Document(text, "b")] if text else [])[0] for text in held_out]
    assert found == alone
    in_train = {train[start : start + 50] for start in range(len(train) - 49)}
    for text, got in zip(held_out, found, strict=True):
        windows = {text[start : start + 50] for start in range(len(text) - 49)}
        assert (got.n_windows, got.n_found) == (len(windows), len(windows & in_train))


@pytest.mark.parametrize("text", ["“Éa” — «ß» x\xa0y…", "却说，曹操！？ A〇", "\x85\xb5\xba\u2028İ\U0001f600ﬁ！\x00"])
def test_short_text_is_folded_like_a_long_one(text: str) -> None:
    repeats = overlap._FEW_BYTES
    assert overlap._fold(text) * repeats == overlap._fold(text * repeats)
