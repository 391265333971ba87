"""Train a tokenizer on text: `byte-bpe`, `wordpiece`, `char` or `word`.

All kinds are saved as folders for `AutoTokenizer` and have a separate pad token. The same texts and settings produce
the same bytes of tokenizer.json in any process and with any number of threads.

Independent of files, splits or sampling: the caller passes text of the train split, at most
`tokenizer.max_train_bytes` of it.
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
from llmkit.tokens.tokenizer_check import BYTE_BPE_PATTERN, LATIN_ACCENTS, UNSPACED_RUN

PAD = "<|pad|>"
UNKNOWN = "<unk>"

JOINERS = (("\u200c", "\ufdd0"), ("\u200d", "\ufdd1"))
"""ZWNJ and ZWJ, and noncharacters that stand for them while BERT's normalizer removes invisible characters."""

_ASCII_WORDS = re.compile(r"[^ \t\n\r]+")


def train_tokenizer(texts: Iterable[str], section: TokenizerSection) -> PreTrainedTokenizerFast:
    """Train a tokenizer of `section.kind` with at most `vocab_size` tokens, special tokens included.

    wordpiece reads the texts twice, so it keeps those of an iterator in memory.

    Raises:
        UsageError: `vocab_size` is too small for the alphabet.
    """
    return _TRAINERS[section.kind](texts, section)


def _train_byte_bpe(texts: Iterable[str], section: TokenizerSection) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE like GPT-2's: it has no unknown tokens, and decoding restores the text."""
    special = [END_OF_TEXT, PAD]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    _require_vocab_size(
        section, len(alphabet) + len(special), f"the {len(alphabet)} bytes and {len(special)} special tokens"
    )
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
    return _to_transformers(tokenizer, bos_token=END_OF_TEXT, eos_token=END_OF_TEXT, pad_token=PAD)


def _train_wordpiece(texts: Iterable[str], section: TokenizerSection) -> PreTrainedTokenizerFast:
    """Train BERT's WordPiece: each Chinese character is a word, other words are split into pieces, and `##` marks
    pieces inside a word.

    [SEP] is the end of a document (eos) for causal models.
    """
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    texts = texts if isinstance(texts, list) else list(texts)
    words = _unique_words(texts)
    letters, inner = _wordpiece_alphabet(words, section)
    excess = len(special) + len(letters) + len(inner) - section.vocab_size
    if excess > 0:
        needed = len(special) + len(inner) + 1
        _require_vocab_size(
            section, needed, f"the {len(special)} special tokens and {len(inner)} letters inside words of this text"
        )
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
            # The trainer numbers `##x` in the order of a hash map, which differs between runs, and breaks ties between
            # merges by these numbers. Special tokens are numbered first and in order, so `##x` are passed as such.
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
    return _to_transformers(
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
    """Return a tokenizer with BERT's normalizer and pre-tokenizer: Chinese characters and punctuation are words.

    There are three differences from BERT. Joiners are kept (Persian, Indic scripts, emoji). `lowercase` strips the
    accents of Latin letters only, while BERT strips vowel signs too. Runs of scripts without spaces are cut into words
    of at most 16 letters, because a word of more than 100 characters is one unknown token.
    """
    tokenizer = Tokenizer(model)
    steps: list[normalizers.Normalizer] = [normalizers.Replace(*pair) for pair in JOINERS]
    if section.lowercase:
        steps += [normalizers.NFD(), normalizers.Replace(Regex(LATIN_ACCENTS), ""), normalizers.NFC()]
    steps.append(
        normalizers.BertNormalizer(
            clean_text=True, handle_chinese_chars=True, strip_accents=False, lowercase=section.lowercase
        )
    )
    steps += [normalizers.Replace(placeholder, joiner) for joiner, placeholder in JOINERS]
    tokenizer.normalizer = normalizers.Sequence(steps)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(UNSPACED_RUN), "isolated"), pre_tokenizers.BertPreTokenizer()]
    )
    return tokenizer


def _unique_words(texts: list[str]) -> list[str]:
    """Return texts of 1000 distinct words each, which suffice to compute an alphabet; words are between white space."""
    words: set[str] = set()
    for text in texts:
        words.update(_ASCII_WORDS.findall(text))
    ordered = list(words)  # the alphabet does not depend on the order of the set
    return [" ".join(ordered[first : first + 1000]) for first in range(0, len(ordered), 1000)]


def _wordpiece_alphabet(
    texts: list[str], section: TokenizerSection, letters: list[str] | None = None
) -> tuple[list[str], list[str]]:
    """Return two sorted lists: `letters`, by default those of the texts, and `##x` for each letter x inside words."""
    tokenizer = _bert_pipeline(models.WordPiece(unk_token="[UNK]"), section)
    trainer = trainers.WordPieceTrainer(
        vocab_size=0,  # no merges: training ends after the alphabet
        initial_alphabet=letters or [],
        limit_alphabet=sys.maxunicode if letters is None else len(letters),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokens = sorted(tokenizer.get_vocab(with_added_tokens=False))
    return [token for token in tokens if len(token) == 1], [token for token in tokens if len(token) > 1]


def _most_frequent(letters: list[str], texts: list[str], section: TokenizerSection, n_letters: int) -> list[str]:
    """Return the `n_letters` most frequent letters in the texts; sorts ties by code point."""
    normalizer = _bert_pipeline(models.WordPiece(unk_token="[UNK]"), section).normalizer
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(normalizer.normalize_str(text))
    return sorted(letters, key=lambda letter: (-counts[letter], letter))[:n_letters]


def _train_char(texts: Iterable[str], section: TokenizerSection) -> PreTrainedTokenizerFast:
    """Train a tokenizer with one token per character, including white space; unseen characters become `<unk>`. The
    vocabulary has the most frequent characters first.

    Decoding restores a text without `<unk>`.
    """
    special = [END_OF_TEXT, PAD, UNKNOWN]
    counts: Counter[str] = Counter()
    for text in texts:
        codes, found = np.unique_counts(np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4"))
        counts.update({chr(code): n for code, n in zip(codes.tolist(), found.tolist(), strict=True)})
    ordered = sorted(counts, key=lambda letter: (-counts[letter], letter))
    vocab = _build_vocab(special, ordered, section.vocab_size)
    # BPE without merges splits text into characters, five times as fast as a WordLevel model after a Split.
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[], unk_token=UNKNOWN))
    tokenizer.add_special_tokens(special)
    tokenizer.decoder = decoders.Fuse()
    return _to_transformers(tokenizer, bos_token=END_OF_TEXT, eos_token=END_OF_TEXT, pad_token=PAD, unk_token=UNKNOWN)


def _train_word(texts: Iterable[str], section: TokenizerSection) -> PreTrainedTokenizerFast:
    """Train a word-level tokenizer: words between white space, `<eos>` for each line end, `<unk>` for rare words.

    A literal `<unk>` in the text becomes the unknown token, as in WikiText and PTB. Decoding joins words with a space.
    """
    special = ["<eos>", "<pad>", UNKNOWN]
    steps: list[normalizers.Normalizer] = [normalizers.Lowercase()] if section.lowercase else []
    # Literal special tokens in the text are split before line ends become <eos>.
    steps += [normalizers.Replace("<eos>", "< eos >"), normalizers.Replace("<pad>", "< pad >")]
    steps += [normalizers.Replace("\n", " <eos> ")]
    normalizer = normalizers.Sequence(steps)

    counted = Tokenizer(models.WordLevel(unk_token=UNKNOWN))
    counted.normalizer = normalizer
    counted.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    counted.train_from_iterator(
        texts,
        trainers.WordLevelTrainer(
            vocab_size=section.vocab_size,  # <eos> and <unk> count as words here, so this is enough
            min_frequency=section.min_frequency,
            show_progress=False,
        ),
    )
    ranks = counted.get_vocab(with_added_tokens=False)
    words = [word for word in sorted(ranks, key=ranks.__getitem__) if word not in special]
    vocab = _build_vocab(special, words, section.vocab_size)

    tokenizer = Tokenizer(models.WordLevel(vocab, unk_token=UNKNOWN))
    tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.add_special_tokens(special)
    return _to_transformers(tokenizer, eos_token="<eos>", pad_token="<pad>", unk_token=UNKNOWN)


def _build_vocab(special: list[str], ordered: list[str], vocab_size: int) -> dict[str, int]:
    return {token: i for i, token in enumerate([*special, *ordered][:vocab_size])}


def _require_vocab_size(section: TokenizerSection, needed: int, for_what: str) -> None:
    if section.vocab_size < needed:
        raise UsageError(
            f"vocab_size {section.vocab_size} is too small for {for_what}, which {section.kind} needs",
            where="prepare.tokenizer.vocab_size",
            hint=f"set it to {needed} or more (8192 suits a few books)",
        )


def _to_transformers(tokenizer: Tokenizer, **settings: str | list[str]) -> PreTrainedTokenizerFast:
    """Return a transformers tokenizer that decodes without cleaning up spaces."""
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, clean_up_tokenization_spaces=False, **settings)


_TRAINERS: dict[str, Callable[[Iterable[str], TokenizerSection], PreTrainedTokenizerFast]] = {
    "byte-bpe": _train_byte_bpe,
    "wordpiece": _train_wordpiece,
    "char": _train_char,
    "word": _train_word,
}
