"""What each kind of tokenizer does to text, its vocabulary size, and that training is reproducible."""

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from tokenizers import normalizers
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from llmkit.config.prepare import TokenizerSection
from llmkit.core.errors import UsageError
from llmkit.tokens.tokenizer import encode_texts, end_of_text_id
from llmkit.tokens.training_tokenizers import train_tokenizer

KINDS = ["byte-bpe", "wordpiece", "char", "word"]
ENGLISH = "First Citizen:\nBefore we proceed any further, hear me speak.\n\nAll:\n  Speak,  speak.\n"
CHINESE = "却说曹操见了关公,大喜曰:「云长真义士也!」遂令人取酒来。\n\n    第三回 议温明董卓叱丁原 馈金珠李肃说吕布\n"
EMOJI = "naïve café 👨‍👩‍👧 ❤️ 🇨🇳\t\r\n 你好 hello世界 1234567\u3000 🤖\n"
TEXTS = [ENGLISH * 5, CHINESE * 5, EMOJI * 5]


def train(kind: str, texts: list[str] = TEXTS, vocab_size: int = 500, **settings: object) -> PreTrainedTokenizerFast:
    return train_tokenizer(iter(texts), TokenizerSection(kind=kind, vocab_size=vocab_size, **settings))


def ids_of(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    ids: list[int] = encode_texts(tokenizer, [text])[0].tolist()
    return ids


@pytest.mark.parametrize("text", [ENGLISH, CHINESE, EMOJI, "", " ", "  a", "a  ", "\n\n\n", "don't  stop", "ab\u0301c"])
def test_byte_bpe_decodes_to_the_very_text(text: str) -> None:
    tokenizer = train("byte-bpe", [ENGLISH, CHINESE])
    assert tokenizer.decode(ids_of(tokenizer, text)) == text
    assert tokenizer.decode(tokenizer(text).input_ids) == text


@pytest.mark.parametrize("text", [ENGLISH, CHINESE, EMOJI, "", " ", "  \n\n "])
def test_char_decodes_to_the_very_text_of_characters_it_has_seen(text: str) -> None:
    tokenizer = train("char")
    ids = ids_of(tokenizer, text)
    assert len(ids) == len(text)
    assert tokenizer.decode(ids) == text


def test_char_makes_each_character_never_seen_one_unknown_token() -> None:
    tokenizer = train("char", ["abc"])
    ids, _ = encode_texts(tokenizer, ["a龘🤖b"])
    assert tokenizer.convert_ids_to_tokens(ids.tolist()) == ["a", "<unk>", "<unk>", "b"]
    assert ids.tolist().count(tokenizer.unk_token_id) == 2


def test_char_omits_the_rarest_characters_if_the_vocabulary_is_full() -> None:
    letters = "".join(chr(ord("a") + i) * (30 - i) for i in range(26))
    tokenizer = train("char", [letters], vocab_size=16)
    assert len(tokenizer) == 16
    assert tokenizer.decode(ids_of(tokenizer, "abcm")) == "abcm"
    assert ids_of(tokenizer, "mnz").count(tokenizer.unk_token_id) == 2


def test_word_ends_each_line_in_eos_and_joins_words_by_spaces() -> None:
    tokenizer = train("word", ["the cat sat\nthe  cat ran\n"], min_frequency=1)
    ids = ids_of(tokenizer, "the cat\n\nthe dog")
    assert tokenizer.convert_ids_to_tokens(ids) == ["the", "cat", "<eos>", "<eos>", "the", "<unk>"]
    assert tokenizer.decode(ids) == "the cat <eos> <eos> the <unk>"
    assert tokenizer.eos_token == "<eos>"


def test_word_keeps_the_most_frequent_words_within_the_limit() -> None:
    words = [f"w{i:02}" for i in range(40)]
    tokenizer = train("word", ["\n".join(" ".join(words[: i + 1]) for i in range(40))], vocab_size=20)
    assert len(tokenizer) == 20
    assert set(tokenizer.get_vocab()) == {"<eos>", "<pad>", "<unk>", *words[:17]}
    assert sorted(tokenizer.get_vocab().values()) == list(range(20))


@pytest.mark.parametrize("kind", ["word", "wordpiece"])
def test_lowercase_folds_case_inside_the_tokenizer(kind: str) -> None:
    tokenizer = train(kind, ["The THE the tHe\n" * 5], lowercase=True, min_frequency=1)
    assert ids_of(tokenizer, "THE") == ids_of(tokenizer, "the")
    assert ids_of(train(kind, ["The the\n" * 5]), "The") != ids_of(train(kind, ["The the\n" * 5]), "the")


HINDI = "नदी के पास अँधेरा था। हिन्दी में किसी को पता नहीं था।\n"
PERSIAN = "او می\u200cرود و کتاب\u200cها را می\u200cخواند\n"
THAI = "เมื่อวานนี้แม่ไปตลาดซื้อผักและปลาเพราะว่าที่บ้านไม่มีอะไรกินเลยแม้แต่น้อยและทุกคนก็หิวมากจนทนไม่ไหวอีกต่อไปแล้วแม่จึงต้องรีบกลับมา\n"


@pytest.mark.parametrize("lowercase", [False, True])
@pytest.mark.parametrize("text", [HINDI, PERSIAN, "مُحَمَّد\n", "ещё мой\n", "がぎ 한국어\n", "👩\u200d👩\u200d👧\n"])
def test_wordpiece_keeps_vowel_signs_and_joiners_with_and_without_lower_case(text: str, lowercase: bool) -> None:
    tokenizer = train("wordpiece", [text * 20], lowercase=lowercase)
    decoded = tokenizer.decode(ids_of(tokenizer, text)).replace(" ", "")
    assert decoded == text.replace(" ", "").strip()


def test_wordpiece_with_lower_case_strips_accents_of_latin_letters_as_bert_does() -> None:
    tokenizer = train("wordpiece", ["cafe ete angstrom istanbul o = naive\n" * 20], lowercase=True)
    bert = normalizers.BertNormalizer(strip_accents=None, lowercase=True)
    for text in ("Café", "ÉTÉ", "e\u0301te\u0301", "Ångström", "İstanbul", "ộ", "≠", "naïve"):
        assert tokenizer.backend_tokenizer.normalizer.normalize_str(text) == bert.normalize_str(text)
        assert tokenizer.unk_token_id not in ids_of(tokenizer, text)
    assert tokenizer.backend_tokenizer.normalizer.normalize_str("Été हिन्दी") == "ete हिन्दी"
    assert (
        "é" in train("wordpiece", ["café\n" * 20]).get_vocab()
        or "##é" in train("wordpiece", ["café\n" * 20]).get_vocab()
    )


def test_wordpiece_cuts_a_long_thai_run_and_leaves_no_letter_unknown() -> None:
    assert len(THAI) > 100
    tokenizer = train("wordpiece", [THAI * 20])
    ids = ids_of(tokenizer, THAI)
    assert tokenizer.unk_token_id not in ids
    assert tokenizer.decode(ids).replace(" ", "") == THAI.strip()


def test_wordpiece_cuts_chinese_characters_and_marks_pieces_inside_words() -> None:
    tokenizer = train("wordpiece", ["却说曹操 unhappily happy unhappy " * 20], vocab_size=60)
    assert tokenizer.convert_ids_to_tokens(ids_of(tokenizer, "却说")) == ["却", "说"]
    pieces = tokenizer.convert_ids_to_tokens(ids_of(tokenizer, "unhappyhappily"))
    assert pieces[0] == "unhappy" or not pieces[0].startswith("##")
    assert all(piece.startswith("##") for piece in pieces[1:])


def test_wordpiece_puts_cls_and_sep_around_a_text_and_a_pair_as_bert_does() -> None:
    tokenizer = train("wordpiece")
    pair = tokenizer("hear me", "speak")
    tokens = tokenizer.convert_ids_to_tokens(pair.input_ids)
    assert (tokens[0], tokens[-1], tokens.count("[SEP]")) == ("[CLS]", "[SEP]", 2)
    assert pair.token_type_ids == sorted(pair.token_type_ids) and pair.token_type_ids[-1] == 1
    assert "token_type_ids" not in train("byte-bpe")("hear me")  # GPT-2 would add them to its embeddings


def test_wordpiece_alphabet_larger_than_the_vocabulary_keeps_the_most_frequent_characters() -> None:
    text = "".join(chr(0x4E00 + i) * (100 - i) for i in range(90))
    tokenizer = train("wordpiece", [text], vocab_size=50)
    assert len(tokenizer) <= 50
    assert tokenizer.unk_token_id not in ids_of(tokenizer, text[: sum(range(56, 101))])
    assert ids_of(tokenizer, chr(0x4E00 + 89)) == [tokenizer.unk_token_id]


@pytest.mark.parametrize("kind", KINDS)
def test_vocabulary_never_exceeds_vocab_size_and_a_tiny_text_reaches_less(kind: str) -> None:
    texts = [" ".join(f"word{i} x{i % 7}" for i in range(3000)) + CHINESE]
    assert len(train(kind, texts, vocab_size=400)) <= 400
    assert len(train(kind, ["hello"], vocab_size=10_000)) < 300


@pytest.mark.parametrize(("kind", "least"), [("byte-bpe", 258), ("wordpiece", 32)])
def test_vocab_size_too_small_for_the_alphabet_is_a_usage_error_that_says_what_is_enough(kind: str, least: int) -> None:
    texts = ["abcdefghijklmnopqrstuvwxyz" * 2 + " "] * 3
    with pytest.raises(UsageError) as caught:
        train(kind, texts, vocab_size=16)
    problem = caught.value.problems[0]
    assert problem.where == "prepare.tokenizer.vocab_size"
    assert "16" in problem.what and str(least) in problem.hint
    assert len(train(kind, texts, vocab_size=least)) <= least


def test_long_chinese_without_space_or_punctuation_is_cut_into_short_pieces() -> None:
    rng = random.Random(0)
    text = "".join(rng.choices([chr(0x4E00 + i) for i in range(3000)], k=700_000))  # 2.1 MB
    tokenizer = train("byte-bpe", [text], vocab_size=1000)
    pieces = tokenizer.backend_tokenizer.pre_tokenizer.pre_tokenize_str(text[:10_000])
    assert max(end - start for _, (start, end) in pieces) <= 16
    assert tokenizer.decode(ids_of(tokenizer, text)) == text


@pytest.mark.parametrize("run", ["a" * 5000, "ー" * 5000, "=" * 5000, " " * 5000, "7" * 5000, "e" + "\u0301" * 5000])
def test_no_piece_grows_with_the_length_of_a_run(run: str) -> None:
    pieces = train("byte-bpe").backend_tokenizer.pre_tokenizer.pre_tokenize_str(run)
    assert max(end - start for _, (start, end) in pieces) <= 33


def test_byte_bpe_cuts_chinese_at_punctuation_and_numbers_at_three_digits() -> None:
    pre_tokenizer = train("byte-bpe").backend_tokenizer.pre_tokenizer
    text = "大喜曰:「云长GPT真义士也!」 共12345人"
    pieces = [text[start:end] for _, (start, end) in pre_tokenizer.pre_tokenize_str(text)]
    assert pieces == ["大喜曰", ":「", "云长", "GPT", "真义士也", "!」", " ", "共", "123", "45", "人"]


@pytest.mark.parametrize("kind", KINDS)
def test_pad_is_a_token_of_its_own_and_every_id_is_below_the_length(kind: str) -> None:
    tokenizer = train(kind)
    assert tokenizer.pad_token_id is not None
    assert tokenizer.pad_token_id not in (tokenizer.eos_token_id, tokenizer.unk_token_id, tokenizer.bos_token_id)
    assert end_of_text_id(tokenizer) == tokenizer.eos_token_id
    assert sorted(tokenizer.get_vocab().values()) == list(range(len(tokenizer)))


TRAIN_EVERY_KIND = """
import random, sys
from llmkit.config.prepare import TokenizerSection
from llmkit.tokens.tokenizer import fingerprint_tokenizer
from llmkit.tokens.training_tokenizers import train_tokenizer
rng = random.Random(7)
words = ["".join(rng.choices("abcdefghijklmnopqrstuvwxyzéü", k=rng.randint(1, 9))) for _ in range(800)]
words += ["".join(chr(0x4E00 + int(rng.paretovariate(0.4)) % 900) for _ in range(9)) + "。" for _ in range(300)]
texts = [" ".join(rng.choices(words, k=40)) for _ in range(400)]
for kind, vocab_size in [("byte-bpe", 900), ("wordpiece", 1400), ("wordpiece", 500), ("char", 300), ("word", 300)]:
    tokenizer = train_tokenizer(texts, TokenizerSection(kind=kind, vocab_size=vocab_size))
    tokenizer.save_pretrained(f"{sys.argv[1]}/{kind}-{vocab_size}")
    print(fingerprint_tokenizer(tokenizer))
"""


def test_same_texts_give_the_same_files_in_every_process(tmp_path: Path) -> None:
    runs = []
    for n in range(2):
        environment = os.environ | {"PYTHONHASHSEED": str(n), "RAYON_NUM_THREADS": str(n + 1)}
        command = [sys.executable, "-c", TRAIN_EVERY_KIND, str(tmp_path / str(n))]
        runs.append(subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True))
    prints = [run.communicate(timeout=600)[0] for run in runs]
    assert [run.returncode for run in runs] == [0, 0]
    assert prints[0] == prints[1] and len(prints[0].split()) == 5
    files = [sorted(path for path in (tmp_path / str(n)).rglob("*") if path.is_file()) for n in range(2)]
    assert len(files[0]) == 10
    for same in zip(*files, strict=True):
        assert len({path.read_bytes() for path in same}) == 1, same[0].relative_to(tmp_path)
