"""Pairs agree with a second, plain implementation of the papers, on the rows as `datasets` reads them."""

import pickle
import tracemalloc
from collections import Counter
from pathlib import Path

import datasets
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import make_documents, make_pairs, make_sentence_split, save_bert

from llmkit.config.mlm import Mlm
from llmkit.core.errors import DataError, UsageError
from llmkit.datasets import pairs as pairs_module
from llmkit.datasets.pairs import IS_NEXT, IS_NOT_NEXT, NO_PAIR, Example, SentenceObjective, _truncate, check_pairs
from llmkit.datasets.randomness import draw_uniforms
from llmkit.datasets.sentences import Sentences
from llmkit.tokens.loading import load_tokenizer
from llmkit.tokens.store import Split

CLS, SEP, MASK = 2, 3, 4
CONTINUES = set(range(70, 100))


@pytest.fixture
def split(tmp_path: Path) -> Split:
    """Twelve documents of three parts of thirty sentences."""
    return make_sentence_split(tmp_path / "train", make_documents(12, 3, 30), CONTINUES)


class Plain:
    """The split as plain Python: each token's document and sentence, sentence by sentence."""

    def __init__(self, split: Split) -> None:
        self.tokens: list[int] = []
        self.document: list[int] = []
        self.starts: set[int] = set()
        self.ends: set[int] = set()
        for row in datasets.load_from_disk(str(split.folder)):
            begin = len(self.tokens)
            self.starts |= {begin + end for end in [0, *row["sentence_ends"][:-1]]}
            self.ends |= {begin + end for end in row["sentence_ends"]}
            self.tokens += row["input_ids"]
            self.document += [row["index"]] * len(row["input_ids"])

    def segments(self, example: Example) -> list[list[int]]:
        """The original tokens of each segment, read off the sequence itself."""
        ids = example.input_ids.tolist()
        for place, target in zip(example.masked, example.targets, strict=True):
            ids[place] = int(target)
        assert ids[0] == CLS
        assert ids[-1] == SEP
        first, second = ids[1 : example.n_first - 1], ids[example.n_first : -1]
        assert ids[example.n_first - 1] == SEP
        return [first, second] if second else [first]


def test_two_hundred_examples_equal_a_plain_implementation_of_the_paper(split: Split) -> None:
    plain, pairs = Plain(split), make_pairs(split)
    masked, kinds, n_tokens = 0, Counter[str](), 0
    for number in range(200):
        example = pairs[number]
        segments = plain.segments(example)
        assert len(example.input_ids) <= 64
        assert [plain.tokens[start:end] for start, end in example.spans] == segments
        documents = [set(plain.document[start:end]) for start, end in example.spans]
        assert all(len(document) == 1 for document in documents)
        assert not {SEP, CLS} & {token for segment in segments for token in segment}
        (a, a_end), (b, b_end) = example.spans
        if len(example.input_ids) < 64:  # nothing was cut off, so both are whole sentences
            assert {a, b} <= plain.starts
            assert {a_end, b_end} <= plain.ends
        if example.relation == IS_NEXT:
            assert a < a_end <= b < b_end
            assert documents[0] == documents[1]
            if len(example.input_ids) < 64:
                assert a_end == b
        else:
            assert documents[0].isdisjoint(documents[1])
        ids = [CLS, *segments[0], SEP, *segments[1], SEP]
        chosen = set(example.masked.tolist())
        for place, token in enumerate(ids):
            if token >= 5 and place > 0 and token in CONTINUES and ids[place - 1] >= 5:
                assert (place in chosen) == (place - 1 in chosen)
            if place in chosen:
                assert token >= 5
                seen = int(example.input_ids[place])
                kinds["mask" if seen == MASK else "kept" if seen == token else "random"] += 1
            else:
                assert example.input_ids[place] == token
        masked += len(chosen)
        n_tokens += len(ids) - 3
    assert abs(masked / n_tokens - 0.15) < 0.005
    assert abs(kinds["mask"] / masked - 0.8) < 0.03
    assert abs(kinds["random"] / masked - 0.1) < 0.03
    assert abs(kinds["kept"] / masked - 0.1) < 0.03


def test_half_of_the_pairs_are_next_segments(split: Split) -> None:
    pairs = make_pairs(split)
    relations = [pairs[number].relation for number in range(2000)]
    assert abs(np.mean(relations) - 0.5) < 0.03
    assert set(relations) == {IS_NEXT, IS_NOT_NEXT}


def test_random_pair_never_comes_from_the_same_document_even_of_many_parts(tmp_path: Path) -> None:
    lopsided = [*make_documents(1, 9, 20), *make_documents(2, 1, 2, seed=1)]
    split = make_sentence_split(tmp_path / "train", lopsided)
    plain, pairs = Plain(split), make_pairs(split)
    for number in range(500):
        example = pairs[number]
        if example.relation == IS_NOT_NEXT:
            (a, _), (b, _) = example.spans
            assert plain.document[a] != plain.document[b]


def test_not_next_segments_of_one_document_are_a_quarter_of_it_away(tmp_path: Path) -> None:
    split = make_sentence_split(tmp_path / "train", make_documents(1, 2, 40))
    pairs, total = make_pairs(split), len(split.stream)
    check_pairs(pairs.sentences, 64, "nsp")
    assert pairs.sentences.n_documents == 1
    for number in range(500):
        example = pairs[number]
        if example.relation == IS_NOT_NEXT:
            distance = (example.spans[1][0] - example.spans[0][0]) % total
            assert total / 4 - 64 <= distance <= 3 * total / 4 + 64
            assert not set(range(*example.spans[0])) & set(range(*example.spans[1]))


def test_document_of_one_sentence_has_no_next_segment(tmp_path: Path) -> None:
    split = make_sentence_split(tmp_path / "train", make_documents(40, 1, 1))
    pairs = make_pairs(split)
    assert {pairs[number].relation for number in range(200)} == {IS_NOT_NEXT}


def test_about_a_tenth_of_the_pairs_is_short(split: Split) -> None:
    lengths = np.array([len(make_pairs(split)[number].input_ids) for number in range(2000)])
    always = np.array([len(make_pairs(split, short_share=0.0)[number].input_ids) for number in range(500)])
    assert 0.05 < (lengths < 50).mean() - (always < 50).mean() < 0.11


@given(
    first=st.integers(1, 300),
    second=st.integers(1, 300),
    room=st.integers(2, 120),
    key=st.integers(0, 2**64 - 1),
)
@settings(max_examples=200, deadline=None)
def test_truncation_equals_the_loop_of_berts_script(first: int, second: int, room: int, key: int) -> None:
    lengths = [first, second]
    while sum(lengths) > room:  # truncate_seq_pair of create_pretraining_data.py
        lengths[0 if lengths[0] > lengths[1] else 1] -= 1
    spans = _truncate((1000, 1000 + first), (5000, 5000 + second), room, draw_uniforms(key, 128))
    assert [end - start for start, end in spans] == lengths
    assert spans[0][0] >= 1000
    assert spans[0][1] <= 1000 + first


def test_truncation_removes_tokens_from_both_ends_equally() -> None:
    fronts = [_truncate((0, 60), (100, 140), 64, draw_uniforms(key, 128))[0][0] for key in range(2000)]
    assert abs(np.mean(fronts) - 14) < 0.3  # of the 28 that the first one loses
    assert np.std(fronts) > 2


def test_example_depends_on_its_number_alone(split: Split) -> None:
    def flat(example: Example) -> tuple[object, ...]:
        return (example.input_ids.tolist(), example.masked.tolist(), example.targets.tolist(), example.relation)

    pairs = make_pairs(split, seed=3)
    other = pickle.loads(pickle.dumps(pairs))
    backwards = {number: flat(other[number]) for number in reversed(range(60))}
    assert all(flat(pairs[number]) == backwards[number] for number in range(60))
    assert any(flat(pairs[number]) != flat(make_pairs(split, seed=4)[number]) for number in range(5))


def test_each_epoch_draws_other_pairs_and_masks(split: Split) -> None:
    pairs = make_pairs(split)
    n = pairs.samples_per_epoch
    epochs = [{tuple(pairs[epoch * n + i].input_ids.tolist()) for i in range(n)} for epoch in range(3)]
    assert not epochs[0] & epochs[1]
    assert not epochs[1] & epochs[2]


@pytest.mark.parametrize("sentence_objective", ["nsp", "none", "sop"])
def test_several_epochs_cover_the_whole_text(split: Split, sentence_objective: SentenceObjective) -> None:
    pairs = make_pairs(split, sentence_objective)
    seen = np.zeros(len(split.stream))
    for number in range(20 * pairs.samples_per_epoch):
        for start, end in pairs[number].spans:
            seen[start:end] += 1
    ordinary = split.stream.read(0, len(seen)) >= 5
    assert seen[ordinary].min() > 0
    assert 0.9 < seen[ordinary].mean() / 20 < 1.1


def test_full_sentences_cross_the_ends_of_documents(split: Split) -> None:
    plain, pairs = Plain(split), make_pairs(split, "none")
    crossed = 0
    for number in range(300):
        example = pairs[number]
        assert example.relation == NO_PAIR
        ((start, end),) = example.spans
        assert start in plain.starts
        assert end in plain.ends
        assert example.n_first == len(example.input_ids) == end - start + 2 <= 64
        following = min((e for e in plain.ends if e > end), default=None)
        assert following is None or following - start + 2 > 64  # one more would not have fitted
        crossed += len(set(plain.document[start:end])) > 1
    assert crossed > 5


def test_all_parts_of_a_sentence_longer_than_a_block_are_sampled(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    long = [[[rng.integers(5, 100, 500).tolist()]], [[rng.integers(5, 100, 300).tolist()]]]
    split = make_sentence_split(tmp_path / "train", long)
    for sentence_objective in ("nsp", "none", "sop"):
        pairs = make_pairs(split, sentence_objective)
        seen = np.zeros(len(split.stream))
        for number in range(30 * pairs.samples_per_epoch):
            assert len(pairs[number].input_ids) <= 64
            for start, end in pairs[number].spans:
                seen[start:end] += 1
        # A pair is cut at both ends by chance, as in the original, so that it hardly shows the ends of such a sentence.
        assert sentence_objective == "nsp" or seen[split.stream.read(0, len(seen)) >= 5].min() > 0


def test_sop_swaps_half_of_the_pairs(split: Split) -> None:
    plain, pairs = Plain(split), make_pairs(split, "sop")
    relations = []
    for number in range(1000):
        example = pairs[number]
        (a, a_end), (b, b_end) = example.spans
        assert plain.document[a] == plain.document[b]
        assert (a < a_end <= b < b_end) if example.relation == IS_NEXT else (b < b_end <= a < a_end)
        relations.append(example.relation)
    assert abs(np.mean(relations) - 0.5) < 0.05


def test_sop_makes_no_pair_of_a_single_sentence(tmp_path: Path) -> None:
    pairs = make_pairs(make_sentence_split(tmp_path / "train", make_documents(20, 1, 1)), "sop")
    for number in range(40):
        assert pairs[number].relation == NO_PAIR
        assert len(pairs[number].spans) == 1


def test_documents_without_sentences_are_skipped(tmp_path: Path) -> None:
    empty: list[list[list[list[int]]]] = [[[]]]
    documents = [*empty * 3, *make_documents(1, 1, 9), *empty * 3, *make_documents(1, 1, 9, seed=1), *empty]
    split = make_sentence_split(tmp_path / "train", documents)
    plain = Plain(split)
    for sentence_objective in ("nsp", "none", "sop"):
        pairs = make_pairs(split, sentence_objective)
        for number in range(100):
            example = pairs[number]
            assert plain.segments(example)[0]
            if sentence_objective == "nsp" and example.relation == IS_NOT_NEXT:
                assert plain.document[example.spans[0][0]] != plain.document[example.spans[1][0]]


def test_many_chunks_give_the_same_examples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    documents = make_documents(6, 2, 20)
    whole = make_pairs(make_sentence_split(tmp_path / "whole", documents, CONTINUES))
    monkeypatch.setattr("llmkit.tokens.store.TOKENS_PER_BATCH", 100)
    cut = make_pairs(make_sentence_split(tmp_path / "cut", documents, CONTINUES))
    assert cut.sentences.split.table.column("input_ids").num_chunks > 5
    for number in range(100):
        assert whole[number].input_ids.tolist() == cut[number].input_ids.tolist()


def test_data_without_sentences_is_refused_with_a_hint(tiny_split: Split) -> None:
    with pytest.raises(DataError, match="without sentences") as caught:
        Sentences(tiny_split)
    assert "prepare.sentences=true" in str(caught.value)


def test_documents_of_one_sentence_are_refused_only_if_there_are_pairs(tmp_path: Path) -> None:
    sentences = Sentences(make_sentence_split(tmp_path / "train", make_documents(40, 1, 1)))
    check_pairs(sentences, 64, "none")
    for sentence_objective in ("nsp", "sop"):
        with pytest.raises(DataError, match="no document has two sentences"):
            check_pairs(sentences, 64, sentence_objective)


def test_one_document_too_short_for_distant_passages_is_refused(tmp_path: Path) -> None:
    sentences = Sentences(make_sentence_split(tmp_path / "train", make_documents(1, 1, 30)))
    check_pairs(sentences, 16, "nsp")
    check_pairs(sentences, 64, "sop")
    with pytest.raises(DataError, match="one document of"):
        check_pairs(sentences, 64, "nsp")


@pytest.mark.parametrize("n_sentences", [3, 5, 12])
def test_relation_cannot_be_predicted_from_position_or_length(tmp_path: Path, n_sentences: int) -> None:
    split = make_sentence_split(tmp_path / "train", make_documents(200, 1, n_sentences))
    pairs = make_pairs(split, block_size=128)
    begins = set(pairs.sentences.row_starts.tolist())
    lengths, relations = [], []
    for number in range(3000):
        example = pairs[number]
        assert example.spans[1][0] not in begins
        lengths.append(len(example.input_ids))
        relations.append(example.relation)
    order = np.argsort(lengths, kind="stable")
    sign = np.where(np.array(relations)[order] == IS_NEXT, 1, -1)
    gained = max(abs(2 * np.cumsum(sign) - sign.sum())) / 2  # correct predictions of the best cut by length, above half
    assert gained / len(relations) < 0.05


def test_range_of_a_document_does_not_copy_the_index(tmp_path: Path) -> None:
    sentences = Sentences(make_sentence_split(tmp_path / "train", make_documents(4, 1, 3)))
    sentences.documents = np.arange(20_000_000, dtype=np.int32)
    sentences.row_starts = np.arange(20_000_001)
    tracemalloc.start()
    assert sentences.range_of(12_345_678) == (12_345_678, 12_345_679)
    assert tracemalloc.get_traced_memory()[1] < 1_000_000
    tracemalloc.stop()


def test_label_zero_means_that_the_second_segment_is_the_next(split: Split) -> None:
    # next_sentence_label of BertForPreTraining: 0 is a continuation, 1 a random sequence.
    pairs = make_pairs(split)
    for number in range(100):
        example = pairs[number]
        rows = pairs.sentences.row_starts.searchsorted([span[0] for span in example.spans], side="right") - 1
        assert example.relation == int(pairs.sentences.documents[rows[0]] != pairs.sentences.documents[rows[1]])


def test_not_next_segments_come_from_all_other_documents_equally(split: Split) -> None:
    plain, pairs = Plain(split), make_pairs(split)
    counts = Counter[int]()
    for number in range(6000):
        example = pairs[number]
        if example.relation == IS_NOT_NEXT:
            counts[plain.document[example.spans[1][0]] - plain.document[example.spans[0][0]]] += 1
    assert set(counts) == {*range(-11, 0), *range(1, 12)}
    assert counts[1] < 2 * counts[2]


def test_block_without_room_for_two_segments_is_refused(tmp_path: Path) -> None:
    split = make_sentence_split(tmp_path / "held", make_documents(3, 1, 5))
    tokenizer = load_tokenizer(save_bert(tmp_path / "bert"))
    with pytest.raises(UsageError, match="block_size 7 is too small"):
        pairs_module.make_pairs(split, tokenizer, Mlm(), 7, 0)
    shortest = pairs_module.make_pairs(split, tokenizer, Mlm(sentence_objective="none"), 8, 0)
    assert len(shortest[0].input_ids) <= 8
