"""The section prepare: reading, cleaning, de-duplicating, splitting and tokenizing raw text.

Block size, masks and pairs are settings of training.
"""

import re
from typing import Literal

from pydantic import Field, field_validator, model_validator

from llmkit.config.section import Section

END_OF_TEXT = r"<\|endoftext\|>"


class Read(Section):
    """Conversion of files to documents."""

    encoding: str = Field(
        default="auto", description="auto: detect it; else the name of a Python codec, such as gb18030."
    )
    field: str | None = Field(
        default=None,
        description="Column or key that holds the text in tables and JSON; a.b is the key b inside of a, and a,b joins "
        "two columns with a newline.",
    )
    header: Literal["auto"] | bool = Field(
        default="auto",
        description="Whether the first row of a .csv, .tsv or .xlsx is a header; otherwise columns are 1, 2, ...",
    )
    delimiter: str = Field(
        default="auto", description="Delimiter of .csv and .tsv files: auto, a character, tab, or none."
    )
    sheet: str | None = Field(
        default=None, description="Sheet of an .xlsx workbook; default: the first visible sheet that is not empty."
    )
    documents: Literal["file", "line", "paragraph", "separator"] = Field(
        default="file",
        description="Unit of text that becomes one document in .txt and .md files; line also splits lists of strings "
        "in JSON.",
    )
    separator: str = Field(
        default=END_OF_TEXT,
        description="Regular expression that separates documents, if documents is separator; ^ and $ "
        "match at every line.",
    )
    skip_bad: bool = Field(default=False, description="Skip and count files and rows that cannot be read.")
    strict: bool = Field(default=False, description="Refuse control characters instead of removing them.")
    max_doc_chars: int = Field(
        default=1_000_000,
        ge=1_000,
        le=10**9,
        description="Maximum characters per stored part; longer documents are split, if possible between lines.",
    )

    @field_validator("field", mode="before")
    @classmethod
    def _number_to_text(cls, value: object) -> object:
        return str(value) if type(value) is int else value  # YAML reads the column 2 as a number

    @field_validator("delimiter")
    @classmethod
    def _one_character(cls, value: str) -> str:
        value = {"tab": "\t", r"\t": "\t"}.get(value, value)
        if value not in ("auto", "none") and (len(value) != 1 or value in '\r\n"'):
            raise ValueError("a delimiter is one character, tab, none, or auto")
        return value

    @field_validator("separator")
    @classmethod
    def _matches_something(cls, value: str) -> str:
        try:
            matches_nothing = re.compile(value, re.MULTILINE).fullmatch("") is not None
        except re.error as error:
            raise ValueError(f"not a regular expression: {error}") from None
        if matches_nothing:
            raise ValueError("the regular expression matches an empty text; it must match a character")
        return value

    @model_validator(mode="after")
    def _separator_is_used(self) -> "Read":
        if self.separator != END_OF_TEXT and self.documents != "separator":
            raise ValueError("separator applies only if documents is separator; set documents, or remove it")
        return self


class Quality(Section):
    """Rules that drop a document. By default all are off: 0 for a minimum, 1 for a maximum."""

    min_chars: int = Field(
        default=0, ge=0, le=10**9, description="Minimum number of characters other than white space."
    )
    max_symbol_share: float = Field(
        default=1.0,
        ge=0,
        le=1,
        description="Maximum fraction of symbols (characters other than letters, digits, spaces and punctuation).",
    )
    max_digit_share: float = Field(default=1.0, ge=0, le=1, description="Maximum fraction of digits.")
    max_repeated_line_share: float = Field(
        default=1.0, ge=0, le=1, description="Maximum fraction of characters in repeated lines."
    )
    max_repeated_ngram_share: float = Field(
        default=1.0,
        ge=0,
        le=1,
        description="Maximum fraction of characters in repeated 5-grams of words (Chinese: of characters).",
    )


class Clean(Section):
    """The cleaning steps, in the order in which they run."""

    html_entities: bool = Field(default=False, description="Decode HTML entities (&amp;, &#8217;) in plain text.")
    mojibake: bool = Field(default=True, description="Repair text decoded with a wrong encoding (ftfy).")
    front_matter: bool = Field(
        default=False, description="Remove a block of YAML (---) or TOML (+++) at the start of a document."
    )
    soft_hyphens: bool = Field(
        default=False, description="Remove soft hyphens (U+00AD). They are always removed from HTML pages."
    )
    unicode: Literal["NFC", "width", "NFKC", "NFKC_keep_cjk", "none"] = Field(
        default="NFC",
        description="Unicode form. width: NFC, with full-width letters, digits and spaces converted to ASCII; "
        "NFKC_keep_cjk: NFKC, but Chinese punctuation stays full-width.",
    )
    gutenberg: bool = Field(default=True, description="Remove Project Gutenberg's header, footer and licence.")
    subtitle_times: bool = Field(
        default=False, description="Remove the times of subtitles and transcripts (00:00:01,000 --> 00:00:04,000)."
    )
    join_lines: bool = Field(default=False, description="Join lines that were wrapped to a width.")
    join_hyphens: bool = Field(default=False, description="Join lower-case words that are hyphenated across two lines.")
    whitespace: bool = Field(
        default=True, description="Remove trailing spaces, full-width indents and repeated blank lines."
    )
    lowercase: bool = Field(default=False, description="Convert to lower case, as for classic word-level models.")
    strip_punctuation: bool = Field(
        default=False, description="Replace punctuation, including Chinese punctuation, with a space."
    )
    simplify_chinese: bool = Field(
        default=False, description="Convert traditional to simplified characters (extra: chinese)."
    )
    languages: list[str] = Field(
        default=[],
        description="Keep documents in these languages (ISO 639-1 codes such as zh) and documents too short to classify"
        "; empty: keep all (extra: languages).",
    )
    quality: Quality = Quality()

    @field_validator("languages", mode="before")
    @classmethod
    def _split_at_commas(cls, value: object) -> object:
        codes = value.split(",") if isinstance(value, str) else value if isinstance(value, list) else [value]
        # YAML reads the code of Norwegian, no, as false.
        texts = ["no" if code is False else code.strip() if isinstance(code, str) else code for code in codes]
        return [code for code in texts if code != ""]


class Dedup(Section):
    """De-duplication. Exact duplicates are equal apart from white space and case."""

    documents: bool = Field(default=True, description="Drop exact duplicates of documents.")
    paragraphs: bool = Field(default=False, description="Drop exact duplicates of long paragraphs.")
    near: bool = Field(default=False, description="Drop near-duplicates of documents (MinHash; extra: dedup).")
    near_threshold: float = Field(
        default=0.8, gt=0, le=1, description="Minimum Jaccard similarity of 5-grams for near-duplicates."
    )


class Split(Section):
    """Held-out text: documents chosen by a hash of their text, or the end of each document."""

    by: Literal["auto", "document", "tail", "position"] = Field(
        default="auto",
        description="Held-out text. document: complete documents; tail: the end of each document, cut at a paragraph, "
        "sentence or line; position: the same, cut at the exact character; auto: tail for fewer than 100 long "
        "documents, else document.",
    )
    validation: float = Field(default=0.05, ge=0, lt=1, description="Fraction of the text for validation.")
    test: float = Field(default=0.05, ge=0, lt=1, description="Fraction of the text for the test split.")
    seed: int = Field(default=0, ge=0, lt=2**32, description="Random seed of the split.")

    @model_validator(mode="after")
    def _train_split_is_not_empty(self) -> "Split":
        if self.validation + self.test >= 1:
            raise ValueError("validation and test leave nothing for training; their sum must be below 1")
        return self


class TokenizerSection(Section):
    """The tokenizer: trained on the train split, or loaded from a folder or the hub."""

    kind: Literal["byte-bpe", "wordpiece", "char", "word"] = Field(default="byte-bpe", description="Type of tokenizer.")
    vocab_size: int = Field(
        default=8192, ge=16, le=10**7, description="Maximum vocabulary size; a small text may give fewer tokens."
    )
    path: str | None = Field(
        default=None, description="Use this tokenizer (folder, run or hub name) instead of training one."
    )
    min_frequency: int = Field(default=2, ge=1, le=10**9, description="Minimum frequency of a merged pair or a word.")
    lowercase: bool = Field(default=False, description="wordpiece, word: lower-case the text in the tokenizer.")
    max_train_bytes: int = Field(
        default=200_000_000,
        ge=1_000,
        le=10**13,
        description="Maximum size of the sample that the tokenizer is trained on.",
    )

    @property
    def may_mask(self) -> bool:
        """Whether the tokenizer may have [MASK], [CLS] and [SEP]; with `path`, the loaded tokenizer decides."""
        return self.path is not None or self.kind == "wordpiece"

    @property
    def reads_bytes(self) -> bool:
        """Whether the tokenizer splits characters into bytes."""
        return self.kind == "byte-bpe"


class Prepare(Section):
    """All steps from raw text to a prepared folder."""

    read: Read = Read()
    clean: Clean = Clean()
    dedup: Dedup = Dedup()
    split: Split = Split()
    tokenizer: TokenizerSection = TokenizerSection()
    sentences: Literal["auto"] | bool = Field(
        default="auto",
        description="Store sentence ends and words, which pretrain-mlm needs; auto: if the tokenizer has a mask token.",
    )
    chinese_words: Literal["auto", "jieba", "characters"] = Field(
        default="auto",
        description="Segmenter of Chinese words for masking; auto: jieba if it is installed, else characters.",
    )
