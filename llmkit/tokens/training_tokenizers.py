"""Train a tokenizer on text: `byte-bpe`, `wordpiece`, `char` or `word`.

Every kind becomes a plain `AutoTokenizer` folder when saved, pad is a token of its own, and the same texts and
settings give the same tokenizer.json, byte for byte, in any process and with any number of threads.

Knows nothing of files, splits or sampling: the caller hands in the text of the train split, and no more of it than
`tokenizer.max_train_bytes`.
"""

import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable

import numpy as np
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from llmkit.config.prepare import TokenizerSection
from llmkit.core.errors import UsageError
from llmkit.tokens.tokenizer import END_OF_TEXT

PAD = "<|pad|>"
UNKNOWN = "<unk>"

# Chinese characters by code point, not as \p{Han}: regex libraries disagree on what that is (in PCRE2 、。「」 are Han
# too), and a faster encoder must cut where this one does.
HAN = "\u3005\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"

# GPT-2's pattern (https://github.com/openai/gpt-2, encoder.py) with four changes. Every run is capped, so that a text
# without spaces or punctuation costs no more than any other. Chinese is cut from other letters and from a space before
# it. Combining marks stay with their letter (Hindi, Arabic, Thai). Numbers are cut into at most 3 digits, as in GPT-4.
BYTE_BPE_PATTERN = (
    r"'(?:[sdmt]|ll|ve|re)"
    rf"|[{HAN}]{{1,16}}"
    rf"| ?(?:[^\P{{L}}{HAN}]\p{{M}}{{0,8}}){{1,32}}"
    r"| ?\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]{1,16}"
    r"|\s{1,32}(?!\S)|\s{1,32}"
)


_ASCII_WORDS = re.compile(r"[^ \t\n\r]+")


def train_tokenizer(texts: Iterable[str], section: TokenizerSection) -> PreTrainedTokenizerFast:
    """Train a tokenizer of `section.kind` whose vocabulary, special tokens included, has at most `vocab_size` tokens.

    wordpiece reads the texts twice and holds them in memory if they are an iterator. UsageError when `vocab_size` is
    too small for the kind's alphabet.
    """
    return _TRAINERS[section.kind](texts, section)


def _train_byte_bpe(texts: Iterable[str], section: TokenizerSection) -> PreTrainedTokenizerFast:
    """GPT-2's kind: every text is a sequence of bytes, so nothing is unknown and decoding gives the text back."""
    special = [END_OF_TEXT, PAD]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    _require_room(section, len(alphabet) + len(special), f"the {len(alphabet)} bytes and {len(special)} special tokens")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(BYTE_BPE_PATTERN), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=section.vocab_size,
        min_frequency=section.min_frequency,
        special_tokens=special,
        initial_alphabet=alphabet,
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return _wrap(tokenizer, bos_token=END_OF_TEXT, eos_token=END_OF_TEXT, pad_token=PAD)


def _train_wordpiece(texts: Iterable[str], section: TokenizerSection) -> PreTrainedTokenizerFast:
    """BERT's kind: Chinese characters stand alone, other words are cut into pieces, `##` marks a piece inside a word.

    [SEP] ends a document (eos) where a causal model uses this tokenizer.
    """
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    texts = texts if isinstance(texts, list) else list(texts)
    words = _different_words(texts)
    letters, inner = _wordpiece_alphabet(words, section)
    excess = len(special) + len(letters) + len(inner) - section.vocab_size
    if excess > 0:
        needed = len(special) + len(inner) + 1
        _require_room(section, needed, f"the {len(special)} special tokens and {len(inner)} inner letters of this text")
        letters = _most_frequent(letters, texts, section, len(letters) - excess)
        letters, inner = _wordpiece_alphabet(words, section, letters)
    trained = _bert_pipeline(models.WordPiece(unk_token="[UNK]"), section)
    trained.train_from_iterator(
        texts,
        trainers.WordPieceTrainer(
            vocab_size=section.vocab_size,
            min_frequency=section.min_frequency,
            initial_alphabet=letters,
            limit_alphabet=len(letters),
            # Training numbers `##x` as a hash map yields them, which differs from run to run, and breaks ties between
            # merges by these numbers. Special tokens are numbered first and in order, so that each run is the same.
            special_tokens=[*special, *inner],
            show_progress=False,
        ),
    )
    vocab = trained.get_vocab(with_added_tokens=False)
    tokenizer = _bert_pipeline(models.WordPiece(vocab, unk_token="[UNK]"), section)
    tokenizer.add_special_tokens(special)
    tokenizer.decoder = decoders.WordPiece(prefix="##", cleanup=False)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(token, vocab[token]) for token in ("[CLS]", "[SEP]")],
    )
    return _wrap(
        tokenizer,
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        eos_token="[SEP]",
        pad_token="[PAD]",
        mask_token="[MASK]",
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    )


def _bert_pipeline(model: models.WordPiece, section: TokenizerSection) -> Tokenizer:
    """BERT's way from text to words: Chinese characters and punctuation stand alone."""
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.BertNormalizer(
        clean_text=True, handle_chinese_chars=True, strip_accents=None, lowercase=section.lowercase
    )
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return tokenizer


def _different_words(texts: list[str]) -> list[str]:
    """What stands between white space that the tokenizer cuts at too, each once: all that an alphabet depends on."""
    words: set[str] = set()
    for text in texts:
        words.update(_ASCII_WORDS.findall(text))
    ordered = list(words)  # a set's order, which no alphabet depends on
    return [" ".join(ordered[first : first + 1000]) for first in range(0, len(ordered), 1000)]


def _wordpiece_alphabet(
    texts: list[str], section: TokenizerSection, letters: list[str] | None = None
) -> tuple[list[str], list[str]]:
    """The letters of the texts (or those of them given), and the `##x` of those that stand inside words; sorted."""
    tokenizer = _bert_pipeline(models.WordPiece(unk_token="[UNK]"), section)
    trainer = trainers.WordPieceTrainer(
        vocab_size=0,  # no room for merges: training ends after the alphabet
        initial_alphabet=letters or [],
        limit_alphabet=sys.maxunicode if letters is None else len(letters),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokens = sorted(tokenizer.get_vocab(with_added_tokens=False))
    return [token for token in tokens if len(token) == 1], [token for token in tokens if len(token) > 1]


def _most_frequent(letters: list[str], texts: list[str], section: TokenizerSection, n_letters: int) -> list[str]:
    """The `n_letters` that stand most often in the texts; equal counts go by code point."""
    normalizer = _bert_pipeline(models.WordPiece(unk_token="[UNK]"), section).normalizer
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(normalizer.normalize_str(text))
    return sorted(letters, key=lambda letter: (-counts[letter], letter))[:n_letters]


def _train_char(texts: Iterable[str], section: TokenizerSection) -> PreTrainedTokenizerFast:
    """One token a character, spaces and line ends too, the most frequent first; `<unk>` for characters never seen.

    Without `<unk>` decoding gives the text back.
    """
    special = [END_OF_TEXT, PAD, UNKNOWN]
    counts: Counter[str] = Counter()
    for text in texts:
        codes, found = np.unique_counts(np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4"))
        counts.update({chr(code): n for code, n in zip(codes.tolist(), found.tolist(), strict=True)})
    ordered = sorted(counts, key=lambda letter: (-counts[letter], letter))
    vocab = _number_tokens(special, ordered, section.vocab_size)
    # BPE without merges cuts text into characters, five times as fast as a WordLevel model behind a Split.
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[], unk_token=UNKNOWN))
    tokenizer.add_special_tokens(special)
    tokenizer.decoder = decoders.Fuse()
    return _wrap(tokenizer, bos_token=END_OF_TEXT, eos_token=END_OF_TEXT, pad_token=PAD, unk_token=UNKNOWN)


def _train_word(texts: Iterable[str], section: TokenizerSection) -> PreTrainedTokenizerFast:
    """The classic word-level kind: words between white space, each line end an `<eos>`, rare words `<unk>`.

    `<unk>` written in the text is the unknown word, as in WikiText and PTB. Decoding joins words by one space.
    """
    special = ["<eos>", "<pad>", UNKNOWN]
    steps: list[normalizers.Normalizer] = [normalizers.Lowercase()] if section.lowercase else []
    # A text that spells a special token must not become one, so it is taken apart before line ends become <eos>.
    steps += [normalizers.Replace("<eos>", "< eos >"), normalizers.Replace("<pad>", "< pad >")]
    steps += [normalizers.Replace("\n", " <eos> ")]
    normalizer = normalizers.Sequence(steps)

    counted = Tokenizer(models.WordLevel(unk_token=UNKNOWN))
    counted.normalizer = normalizer
    counted.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    counted.train_from_iterator(
        texts,
        trainers.WordLevelTrainer(
            vocab_size=section.vocab_size,  # <eos> and <unk> are counted as words here, so this is never too few
            min_frequency=section.min_frequency,
            show_progress=False,
        ),
    )
    ranks = counted.get_vocab(with_added_tokens=False)
    words = [word for word in sorted(ranks, key=ranks.__getitem__) if word not in special]
    vocab = _number_tokens(special, words, section.vocab_size)

    tokenizer = Tokenizer(models.WordLevel(vocab, unk_token=UNKNOWN))
    tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.add_special_tokens(special)
    return _wrap(tokenizer, eos_token="<eos>", pad_token="<pad>", unk_token=UNKNOWN)


def _number_tokens(special: list[str], ordered: list[str], vocab_size: int) -> dict[str, int]:
    return {token: i for i, token in enumerate([*special, *ordered][:vocab_size])}


def _require_room(section: TokenizerSection, needed: int, for_what: str) -> None:
    if section.vocab_size < needed:
        raise UsageError(
            f"vocab_size {section.vocab_size} cannot hold {for_what}, from which {section.kind} starts",
            where="prepare.tokenizer.vocab_size",
            hint=f"set it to {needed} or more (8192 suits a few books)",
        )


def _wrap(tokenizer: Tokenizer, **settings: str | list[str]) -> PreTrainedTokenizerFast:
    """The transformers tokenizer around a trained one. Text is decoded as it was, no spaces are cleaned away."""
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, clean_up_tokenization_spaces=False, **settings)


_TRAINERS: dict[str, Callable[[Iterable[str], TokenizerSection], PreTrainedTokenizerFast]] = {
    "byte-bpe": _train_byte_bpe,
    "wordpiece": _train_wordpiece,
    "char": _train_char,
    "word": _train_word,
}
