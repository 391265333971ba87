"""Splits depend on the text alone, are made before anything is joined, and lose nothing."""

from collections import defaultdict
from pathlib import Path
from typing import Literal

import pytest

from llmkit.config.prepare import Split
from llmkit.core.errors import DataError
from llmkit.text import staging
from llmkit.text.documents import Document, hash_text, make_documents
from llmkit.text.splitting import SplitPlan, SplitShard, plan_cuts, plan_split, split_documents
from llmkit.text.staging import (
    Shard,
    Total,
    find_shards,
    link_shards,
    read_shard,
    read_shard_totals,
    slice_shards,
    stage_documents,
)


def total_of(text: str) -> Total:
    return Total(len(text), len(text.encode()), hash_text(text))


def split_texts(texts: list[str], split: Split, max_chars: int = 10_000) -> tuple[SplitPlan, dict[str, list[Document]]]:
    totals = [total_of(text) for text in texts]
    plan = plan_split(totals, split)
    documents = [part for n, text in enumerate(texts) for part in make_documents([text], str(n), 0, max_chars)]
    plan = plan_cuts(plan, documents, totals)
    found: dict[str, list[Document]] = defaultdict(list)
    for name, document in split_documents(documents, totals, plan):
        found[name].append(document)
    return plan, found


def text_of(documents: list[Document]) -> str:
    return "".join(document.text for document in documents)


TEXTS = [f"document {n} " * (n % 7 + 1) for n in range(1000)]


@pytest.mark.parametrize("max_chars", [1_000, 1_000_000, 2_000_000])
def test_one_book_is_cut_at_ninety_percent_of_its_characters(max_chars: int) -> None:
    text = "0123456789\n" * 101_400
    text = text[:1_115_394]
    plan, found = split_texts([text], Split(by="position", validation=0.1, test=0), max_chars)
    assert plan.by == "position"
    assert plan.names == ("train", "validation")
    assert text_of(found["train"]) == text[:1_003_854]
    assert text_of(found["validation"]) == text[1_003_854:]
    assert "test" not in found


@pytest.mark.parametrize("max_chars", [1_000, 1_000_000])
def test_by_position_train_validation_and_test_follow_one_another_in_each_document(max_chars: int) -> None:
    texts = ["字" * 5003, "ab" * 50, "x"]
    _, found = split_texts(texts, Split(by="position", validation=0.05, test=0.05), max_chars)
    for number, text in enumerate(texts):
        pieces = [[d for d in found[name] if d.source == str(number)] for name in ("train", "validation", "test")]
        assert "".join(map(text_of, pieces)) == text
        assert len(text_of(pieces[0])) == len(text) * 9 // 10  # 1 - 0.05 - 0.05 as floats would be one less for 100
        for piece in pieces:
            assert [document.part for document in piece] == list(range(len(piece)))
            assert [document.last for document in piece] == [n == len(piece) - 1 for n in range(len(piece))]


def test_by_document_the_shares_come_out_and_nothing_is_lost() -> None:
    plan, found = split_texts(TEXTS, Split(validation=0.1, test=0.2))
    assert plan.by == "document"
    assert sorted(map(text_of, ([d] for name in found for d in found[name]))) == sorted(TEXTS)
    assert 70 < len(found["validation"]) < 130
    assert 160 < len(found["test"]) < 240


def test_adding_documents_moves_no_other_document() -> None:
    few, many = (split_texts(texts, Split())[1] for texts in (TEXTS[:500], TEXTS))
    for name in few:
        assert {document.text for document in few[name]} <= {document.text for document in many[name]}


def test_another_seed_holds_other_documents_out() -> None:
    one, two = (split_texts(TEXTS, Split(seed=seed))[1]["validation"] for seed in (0, 1))
    assert [document.text for document in one] != [document.text for document in two]


def test_a_document_in_parts_stays_together() -> None:
    texts = [f"{n} " * 2000 for n in range(120)]
    _, found = split_texts(texts, Split(), max_chars=1000)
    homes = defaultdict(set)
    for name, documents in found.items():
        for document in documents:
            homes[document.source].add(name)
    assert len(homes) == 120
    assert all(len(names) == 1 for names in homes.values())


@pytest.mark.parametrize("n_documents", [3, 4, 10, 150])
def test_every_wanted_split_gets_a_document(n_documents: int) -> None:
    for seed in range(20):
        split = Split(by="document", validation=0.002, test=0.002, seed=seed)
        assert set(split_texts(TEXTS[:n_documents], split)[1]) == {"train", "validation", "test"}


def test_too_few_documents_to_split_whole_is_an_error_that_names_the_way_out() -> None:
    with pytest.raises(DataError) as caught:
        split_texts(["one", "one", "two"], Split(by="document"))
    assert "prepare.split.by=tail" in caught.value.problems[0].hint


def test_without_shares_all_is_train() -> None:
    plan, found = split_texts(TEXTS, Split(validation=0, test=0))
    assert plan.names == ("train",)
    assert list(found) == ["train"]


def test_the_tail_is_held_out_below_a_hundred_long_documents_and_whole_documents_from_there() -> None:
    long = [f"A long document {n}. " * 500 for n in range(100)]
    assert plan_split(map(total_of, long[:99]), Split()).by == "tail"
    assert plan_split(map(total_of, long), Split()).by == "document"
    assert plan_split(map(total_of, [text[:4000] for text in long[:19]]), Split()).by == "tail"
    assert plan_split(map(total_of, [text[:4000] for text in long[:20]]), Split()).by == "document"


@pytest.mark.parametrize("n_documents", [3, 4, 10, 30, 99])
def test_few_one_sentence_documents_are_held_out_whole(n_documents: int) -> None:
    texts = [f"Sentence number {n} stands alone." for n in range(n_documents)]
    plan, found = split_texts(texts, Split())
    assert plan.by == "document"
    assert sorted(document.text for documents in found.values() for document in documents) == sorted(texts)
    held_out = max(1, round(n_documents * 0.05))
    assert {name: len(found[name]) for name in ("validation", "test")} == {"validation": held_out, "test": held_out}


@pytest.mark.parametrize("max_chars", [1_000, 1_000_000])
def test_by_tail_a_book_is_cut_at_sentences_near_its_shares(max_chars: int) -> None:
    text = "".join(f"It was night {n} at the river. Nobody knew where\nboat {n * 7} lay. " for n in range(2000))
    plan, found = split_texts([text], Split(validation=0.05, test=0.05), max_chars)
    assert plan.by == "tail"
    pieces = [text_of(found[name]) for name in ("train", "validation", "test")]
    assert "".join(pieces) == text
    assert [round(len(piece) / len(text), 2) for piece in pieces] == [0.9, 0.05, 0.05]
    assert all(piece.rstrip().endswith(".") and piece[0].isupper() for piece in pieces)


def test_cuts_do_not_depend_on_the_parts_in_which_a_document_is_stored() -> None:
    text = "".join(f"第{n}回说的是江上的船。没有人知道它在哪里。\n" for n in range(3000))
    cut = [
        {name: text_of(found) for name, found in split_texts([text], Split(), size)[1].items()} for size in (500, 10**6)
    ]
    assert cut[0] == cut[1]


@pytest.mark.parametrize("by", ["document", "tail", "position"])
def test_a_shard_gives_what_the_split_of_all_its_documents_gives(
    by: Literal["document", "tail", "position"], tmp_path: Path
) -> None:
    documents = [part for n, text in enumerate(TEXTS) for part in make_documents([text], str(n), 0, 40)]
    stage_documents(documents, tmp_path)
    shard = Shard(tmp_path)
    plan = plan_split(read_shard_totals(shard), Split(by=by, validation=0.1, test=0.1))
    plan = plan_cuts(plan, read_shard(shard), read_shard_totals(shard))
    for name in plan.names:
        pairs = split_documents(documents, read_shard_totals(shard), plan)
        expected = [document for split, document in pairs if split == name]
        assert list(SplitShard(name, shard, plan).read()) == expected


@pytest.mark.slow
@pytest.mark.parametrize("by", ["document", "tail", "position"])
def test_slices_of_a_shard_give_together_what_the_shard_gives(
    by: Literal["document", "tail", "position"], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(staging, "_BATCH_CHARS", 150)
    monkeypatch.setattr(staging, "_BATCHES_PER_SLICE", 2)
    documents = [
        part for n, text in enumerate([*TEXTS, "long " * 900]) for part in make_documents([text], str(n), 0, 40)
    ]
    stage_documents(documents, tmp_path / "one")
    kept = [n % 3 > 0 for n in range(len(TEXTS))] + [True]
    link_shards(tmp_path / "kept", [(tmp_path / "one", kept)])
    for shard in (Shard(tmp_path / "one"), *find_shards(tmp_path / "kept")):
        plan = plan_split(read_shard_totals(shard), Split(by=by, validation=0.1, test=0.1))
        plan = plan_cuts(plan, read_shard(shard), read_shard_totals(shard))
        slices = slice_shards([shard])
        assert len(slices) > 10
        of_test = [SplitShard("test", each, plan) for each in slices]
        assert by == "document" or not all(part.may_have_text() for part in of_test)
        for name in plan.names:
            expected = list(SplitShard(name, shard, plan).read())
            parts = [SplitShard(name, each, plan) for each in slices]
            assert [document for part in parts for document in part.read()] == expected
            for part in parts:
                assert part.may_have_text() or not list(part.read())
                given, more = list(part.read()), list(part.read(with_part_before=True))
                assert more[len(more) - len(given) :] == given
                before = more[: len(more) - len(given)]
                if given and given[0].part:
                    assert before == [expected[expected.index(given[0]) - 1]]


@pytest.mark.parametrize("n_documents", [3, 4, 30])
def test_large_shares_of_a_few_documents_leave_one_to_train_on(n_documents: int) -> None:
    _, found = split_texts([f"Sentence {n}." for n in range(n_documents)], Split(validation=0.5, test=0.49))
    assert all(found[name] for name in ("train", "validation", "test"))
