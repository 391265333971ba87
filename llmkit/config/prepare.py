"""What `prepare` does to raw text: reading, cleaning, de-duplication, splitting, tokenizing.

Nothing about models or training: block size, masks and pairs are decided while training.
"""

from typing import Literal

from pydantic import Field, model_validator

from llmkit.config.section import Section


class Read(Section):
    """How files become documents."""

    encoding: str = Field(default="auto", description="`auto` detects; otherwise a Python codec name, such as gb18030.")
    text_column: str | None = Field(default=None, description="Column or key that holds the text in tables and JSON.")
    documents: Literal["file", "line", "paragraph"] = Field(
        default="file", description="What one document is in .txt and .md: the file, a line, a paragraph."
    )
    skip_bad: bool = Field(default=False, description="Skip and count files and rows that cannot be read.")
    strict: bool = Field(default=False, description="Control characters are an error instead of being removed.")
    max_doc_chars: int = Field(
        default=1_000_000, ge=1_000, description="Longer documents are stored in parts, cut at a line end."
    )


class Quality(Section):
    """Rules that drop a whole document; 0 or 1 switches a rule off. They hold for Chinese as for English."""

    min_chars: int = Field(default=0, ge=0, description="Fewest characters that are not white space.")
    max_symbol_share: float = Field(
        default=1.0, ge=0, le=1, description="Neither letters, digits, space nor punctuation."
    )
    max_digit_share: float = Field(default=1.0, ge=0, le=1, description="Share of digits among the characters.")
    max_repeated_line_share: float = Field(default=1.0, ge=0, le=1, description="Characters in lines seen before.")
    max_repeated_ngram_share: float = Field(
        default=1.0, ge=0, le=1, description="Characters in repeated 5-grams: of words, or of characters in Chinese."
    )


class Clean(Section):
    """The cleaning steps, in the order in which they run."""

    mojibake: bool = Field(default=True, description="Repair text decoded with a wrong encoding (ftfy).")
    unicode: Literal["NFC", "NFKC", "none"] = Field(default="NFC", description="Unicode normalization form.")
    gutenberg: bool = Field(default=True, description="Cut off Project Gutenberg's header, footer and licence.")
    whitespace: bool = Field(default=True, description="Trailing spaces, full-width indents, runs of blank lines.")
    lowercase: bool = Field(default=False, description="Lower case, as the classic word-level models want.")
    strip_punctuation: bool = Field(default=False, description="Punctuation becomes a space, Chinese too.")
    simplify_chinese: bool = Field(default=False, description="Traditional to simplified (extra: chinese).")
    quality: Quality = Quality()


class Dedup(Section):
    """Which copies are dropped. Exact means: equal after white space and case are folded away."""

    documents: bool = Field(default=True, description="Drop documents seen before, exactly.")
    paragraphs: bool = Field(default=False, description="Drop long paragraphs seen before, exactly.")
    near: bool = Field(default=False, description="Drop near copies of documents (MinHash; extra: dedup).")
    near_threshold: float = Field(default=0.8, gt=0, le=1, description="Jaccard similarity of 5-grams that is a copy.")


class Split(Section):
    """Which documents are held out. Decided by a hash of the text, before anything is joined."""

    by: Literal["auto", "document", "position"] = Field(
        default="auto",
        description="Whole documents by hash, or a contiguous tail of each; auto: the tail below 100 documents.",
    )
    validation: float = Field(default=0.05, ge=0, lt=1, description="Share of the text for validation.")
    test: float = Field(default=0.05, ge=0, lt=1, description="Share of the text for the final test.")
    seed: int = Field(default=0, ge=0, description="Another seed holds other documents out.")

    @model_validator(mode="after")
    def _leaves_something_to_train_on(self) -> "Split":
        if self.validation + self.test >= 1:
            raise ValueError("validation and test together leave nothing to train on")
        return self


class TokenizerSection(Section):
    """The vocabulary: trained on the train split only, or taken from an existing folder or hub model."""

    kind: Literal["byte-bpe", "wordpiece", "char", "word"] = Field(default="byte-bpe", description="What a token is.")
    vocab_size: int = Field(default=8192, ge=16, le=2**31, description="Upper limit; a small text may reach less.")
    path: str | None = Field(default=None, description="Take this tokenizer (folder or hub name) and train none.")
    min_frequency: int = Field(default=2, ge=1, description="Rarer pairs and words get no token of their own.")
    lowercase: bool = Field(default=False, description="wordpiece and word: fold case inside the tokenizer.")
    max_train_bytes: int = Field(
        default=200_000_000, ge=1_000, description="Training reads an even sample of at most so many bytes."
    )

    @property
    def may_mask(self) -> bool:
        """Whether the tokenizer may have [MASK], [CLS] and [SEP]; one that is taken is asked once it is loaded."""
        return self.path is not None or self.kind == "wordpiece"

    @property
    def reads_bytes(self) -> bool:
        """Whether a character of several bytes has several tokens at first."""
        return self.kind == "byte-bpe"


class Prepare(Section):
    """From raw text to a prepared folder."""

    read: Read = Read()
    clean: Clean = Clean()
    dedup: Dedup = Dedup()
    split: Split = Split()
    tokenizer: TokenizerSection = TokenizerSection()
    sentences: Literal["auto"] | bool = Field(
        default="auto", description="Store sentences and words, as pretrain-mlm needs; auto: if there is a mask token."
    )
    chinese_words: Literal["auto", "jieba", "characters"] = Field(
        default="auto", description="Whole Chinese words for masking; auto: jieba where it is installed."
    )
