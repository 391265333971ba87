"""Read files of questions into encoded train, validation and test splits.

Questions that are held out of the train file have other articles than the train questions, or other contexts if there
are few articles. Questions of the train file without a context, or whose answers are not in their contexts, are left
out and counted. All questions of validation and test files are scored.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from llmkit.config.prepare import Read
from llmkit.config.qa import Qa
from llmkit.core import console
from llmkit.core.console import count
from llmkit.core.errors import DataError
from llmkit.metrics.answers import RULES, Language, choose_language, choose_rules
from llmkit.tables.label_splits import TEST, TRAIN, VALIDATION, assign_folds, hash_row, split_rows
from llmkit.tables.questions import Question, open_questions
from llmkit.tables.rows import describe_left_out, open_rows
from llmkit.tables.train_sample import TrainSample
from llmkit.tasks.qa.answer_format import DEFAULT_MAX_ANSWER_LENGTH, AnswerFormat
from llmkit.tasks.qa.request import known_columns, named_columns
from llmkit.tasks.qa.windows import Windows, WindowSettings, align_labels, encode_windows
from llmkit.tokens.normalization import describe_normalization
from llmkit.tokens.unknown import UnknownCount, count_unknown_rows, unknown_id

SPLITS = ("train", "validation", "test")
MIN_ARTICLES = 10
"""Minimum number of articles to hold out whole articles; with fewer, contexts are held out."""
LONG_ANSWER_QUANTILE = 0.99


@dataclass(frozen=True)
class QuestionSplit:
    """Questions of one split with their windows."""

    questions: list[Question]
    windows: Windows
    labels: NDArray[np.int64]
    """(windows, 2): positions of the first and last token of the answer."""
    keys: NDArray[np.uint64]
    """Hash of each question and its context, see `hash_row`."""
    path: str

    def __len__(self) -> int:
        return len(self.questions)

    def take(self, rows: NDArray[np.int64]) -> "QuestionSplit":
        """Return the questions at these indices, in this order."""
        chosen = [np.array(self.windows.windows_of(int(row)), np.int64) for row in rows]
        labels = self.labels[np.concatenate([np.zeros(0, np.int64), *chosen])]
        questions = [self.questions[int(row)] for row in rows]
        return QuestionSplit(questions, self.windows.take(rows), labels, self.keys[rows], self.path)

    def take_evenly(self, n_rows: int) -> "QuestionSplit":
        """Return at most `n_rows` questions, evenly spaced."""
        return self if len(self) <= n_rows else self.take(np.arange(n_rows) * len(self) // n_rows)

    def take_fraction(self, share: float) -> "QuestionSplit":
        """Return a fraction of the questions, rounded up and evenly spaced."""
        return self.take_evenly(int(np.ceil(share * len(self))))

    @property
    def n_unanswerable(self) -> int:
        return sum(not question.answers for question in self.questions)

    def hash_rows(self) -> str:
        """Return the SHA-256, in hex, of questions, contexts and reference answers, independent of their order."""
        rows = sorted(
            hashlib.blake2b(key.tobytes() + repr(each.references).encode("utf-8", "replace"), digest_size=16).digest()
            for key, each in zip(self.keys.astype("<u8"), self.questions, strict=True)
        )
        return hashlib.sha256(b"".join(rows)).hexdigest()


@dataclass(frozen=True)
class QuestionData:
    """All splits, the format of the model, and notes on the files."""

    splits: dict[str, QuestionSplit]
    format: AnswerFormat
    language: Language
    files: dict[str, str]
    columns: dict[str, str]
    notes: list[str] = field(default_factory=list)

    def fingerprint(self) -> str:
        """Return the SHA-256, in hex, of the windows and labels of all splits."""
        digest = hashlib.sha256()
        for name, split in self.splits.items():
            digest.update(f"{name} {split.windows.hash()} {split.hash_rows()}".encode())
            digest.update(np.ascontiguousarray(split.labels).tobytes())
        return digest.hexdigest()

    def describe(self) -> dict[str, Any]:
        """Return entries for the run's manifest: questions, windows and tokens per split, the columns, the notes."""
        return {
            "splits": {
                name: {
                    "rows": len(split),
                    "unanswerable": split.n_unanswerable,
                    "windows": len(split.windows),
                    "tokens": int(split.windows.lengths.sum()),
                    "rows_hash": split.hash_rows(),
                }
                for name, split in self.splits.items()
            },
            "columns": self.columns,
            "language": self.language,
            "files": self.files,
            "notes": self.notes,
        }


@dataclass
class _Read:
    """The questions of a file."""

    questions: list[Question]
    columns: dict[str, str]
    """By role; empty for a file of SQuAD's form."""
    notes: list[str]
    unit: str


def read_questions(
    path: str, section: Qa, read: Read, *, keep_all: bool, trained: Mapping[str, str] = MappingProxyType({})
) -> _Read:
    """Read the questions of a file; without `keep_all`, those without a question or a context are left out.

    `trained` are the columns of the train file; the same names are used here if the file has them.

    Raises:
        DataError: the file cannot be read, or has no questions.
    """
    given = named_columns(section)
    with open_rows(path, read, wanted=[name for name in (*given.values(), *trained.values()) if name]) as rows:
        file = open_questions(rows, known_columns(rows, given, trained), need_answers=True, separator=section.separator)
        questions = [replace(each, cells={}) for each in file]
        notes = [f"{rows.path}: {file.columns.describe()}"] if not file.is_nested else []
        notes += file.counts.describe(rows.path, rows.unit)
        notes += describe_left_out(sum(rows.source.skipped.values()), rows.path, "that cannot be read")
        unit = rows.unit
    kept = [each for each in questions if keep_all or (each.question.strip() and each.context.strip())]
    if n_left_out := len(questions) - len(kept):
        notes.append(f"left out of {path}: {count(n_left_out, 'question')} without a text or without a context")
    if not kept:
        raise DataError("there is no question to use", where=path, hint="give questions with contexts and answers")
    roles = () if file.is_nested else ("question", "context", "answers", "answer_start")
    return _Read(kept, {role: name for role in roles if (name := getattr(file.columns, role))}, notes, unit)


def load_questions(
    section: Qa, read: Read, files: Mapping[str, str], tokenizer: PreTrainedTokenizerBase, block_size: int, *,
    fold: tuple[int, int] | None = None, sample: TrainSample | None = None, quiet: bool = False,
) -> QuestionData:  # fmt: skip
    """Read `files` (`train`, and `validation` and `test` if given); splits without a file are held out of train.

    `fold` (index, number of folds) uses that fold of the train questions for validation. `sample` is applied after the
    held-out questions are chosen.

    Raises:
        DataError: a file cannot be read, or has no question to train on.
    """
    train = read_questions(files["train"], section, read, keep_all=False)
    notes = train.notes
    may_decline = section.unanswerable
    n_without = sum(not each.answers for each in train.questions)
    if n_without == len(train.questions):
        hint = "give answers, or name their column with --answer"
        raise DataError("no train question has an answer", where=files["train"], hint=hint)
    if may_decline == "auto":
        may_decline = n_without > 0
    if n_without:
        of = f"{n_without:,} of {len(train.questions):,} questions of {files['train']} have no answer"
        if may_decline:
            notes.append(f"{of}: the model learns to give no answer (qa.unanswerable=false leaves them out)")
        else:
            train.questions = [each for each in train.questions if each.answers]
            notes.append(f"{of} and are left out (qa.unanswerable=false)")
    default = AnswerFormat.for_block(block_size).with_settings(section, None)
    whole, n_lost, lengths = _encode(train.questions, files["train"], tokenizer, default.windows)
    usable, more = _leave_out_lost(whole, n_lost, files["train"])
    notes += more
    sides, by = _choose_sides(usable, section, files, fold)
    if sample is not None:
        notes += sample.leave_out(sides, usable.keys, [()] * len(usable))
    splits = {}
    for number, name in enumerate(SPLITS):
        if name in files and name != "train":
            splits[name], more = _read_other(
                name, files[name], section, read, tokenizer, default.windows, usable, train.columns
            )
            notes += more
        elif (indices := np.flatnonzero(sides == number)).size:
            splits[name] = usable.take(indices)
    if "train" not in splits:
        hint = "lower qa.validation and qa.test, or give more questions"
        raise DataError("no question is left to train on", where=files["train"], hint=hint)
    if "validation" not in splits and section.validation:
        notes.append(f"too few {by}s to hold any out, so there are no metrics on held-out questions")
    longest, more = _choose_max_answer_length(section, lengths)
    answer_format = replace(
        default, max_answer_length=longest, may_decline=bool(may_decline), null_index=whole.windows.null_index,
        columns=train.columns,
    )  # fmt: skip
    notes += [*_describe_windows(whole, files["train"], default.windows, tokenizer, train.unit), *more]
    notes += _describe_splits(splits, by if len(splits) > len(set(files) & set(SPLITS)) else "")
    language = section.language if section.language != "auto" else _find_language(splits)
    if section.language == "auto":
        rules = choose_rules(language, has_unanswerable=any(split.n_unanswerable for split in splits.values()))
        notes.append(f"answers are compared by {RULES[rules]} does; qa.language sets the rules")
    if not quiet:
        for note in notes:
            console.info(note)
    return QuestionData(splits, answer_format, language, dict(files), train.columns, notes)


def _find_language(splits: Mapping[str, QuestionSplit]) -> Language:
    split = splits.get("validation", splits["train"])
    return choose_language(each.question for each in split.questions)


def _encode(
    questions: list[Question], path: str, tokenizer: PreTrainedTokenizerBase, settings: WindowSettings
) -> tuple[QuestionSplit, list[int], NDArray[np.int64]]:
    """Return the split, the questions whose answers are not in their contexts, and the tokens of each answer."""
    windows = encode_windows(tokenizer, questions, settings)
    labels, lost, lengths = align_labels(windows, questions)
    keys = np.array([hash_row(each.question, each.context) for each in questions], np.uint64)
    return QuestionSplit(questions, windows, labels, keys, path), lost, lengths


def _leave_out_lost(whole: QuestionSplit, lost: Sequence[int], path: str) -> tuple[QuestionSplit, list[str]]:
    if not lost:
        return whole, []
    kept = np.setdiff1d(np.arange(len(whole)), lost)
    if not len(kept):
        hint = "answers must be parts of their contexts, with the same words; name other columns with --answer"
        raise DataError("no answer is in its context", where=path, hint=hint)
    example = whole.questions[lost[0]]
    note = f"left out of {path}: {count(len(lost), 'question')} whose answers are not in their contexts, for example "
    return whole.take(kept), [f"{note}{example.answers[0].text[:60]!r}"]


def _choose_sides(
    whole: QuestionSplit, section: Qa, files: Mapping[str, str], fold: tuple[int, int] | None
) -> tuple[NDArray[np.int8], str]:
    """Return the split of each question, and what is held out as a whole: `article` or `context`."""
    articles = {each.article for each in whole.questions}
    by = "article" if len(articles) >= MIN_ARTICLES else "context"
    groups = [each.article if by == "article" and each.article else each.context for each in whole.questions]
    keys = np.array([hash_row(group) for group in groups], np.uint64)
    strata = np.zeros(len(keys), np.int64)
    test = 0.0 if "test" in files else section.test
    validation = 0.0 if "validation" in files or fold is not None else section.validation
    sides = split_rows(keys, strata, validation=validation, test=test, seed=section.split_seed)
    if fold is not None:
        rest = np.flatnonzero(sides != TEST)
        folds = assign_folds(keys[rest], strata[rest], fold[1], section.split_seed)
        sides[rest[folds == fold[0]]] = VALIDATION
    assert TRAIN == 0
    return sides, by


def _read_other(
    name: str, path: str, section: Qa, read: Read, tokenizer: PreTrainedTokenizerBase, settings: WindowSettings,
    train: QuestionSplit, trained: Mapping[str, str],
) -> tuple[QuestionSplit, list[str]]:  # fmt: skip
    """Read a validation or test file."""
    found = read_questions(path, section, read, keep_all=True, trained=trained)
    split, _, _ = _encode(found.questions, path, tokenizer, settings)
    notes = [*found.notes, *_describe_windows(split, path, settings, tokenizer, found.unit)]
    known = {each.context for each in train.questions}
    if n_known := sum(each.context in known for each in found.questions):
        notes.append(f"{n_known:,} of {len(split):,} {name} questions have a context that train questions have too")
    return split, notes


def _choose_max_answer_length(section: Qa, lengths: NDArray[np.int64]) -> tuple[int, list[str]]:
    """Return the maximum number of tokens of an answer, and notes."""
    longest = section.max_answer_length or DEFAULT_MAX_ANSWER_LENGTH
    notes = []
    if section.max_answer_length is None and len(lengths):
        usual = int(np.ceil(np.quantile(lengths, LONG_ANSWER_QUANTILE)))
        if usual > longest:
            longest = usual
            notes.append(f"qa.max_answer_length {longest}: 99% of the train answers have at most this number of tokens")
    n_longer = int((lengths > longest).sum())
    if n_longer and section.max_answer_length is not None:
        of = f"{n_longer:,} of {len(lengths):,} train answers"
        notes.append(f"{of} are longer than qa.max_answer_length {longest}: the model cannot give them in full")
    return longest, notes


def describe_unknown(
    windows: Windows, questions: Sequence[Question], path: str, unit: str, tokenizer: PreTrainedTokenizerBase
) -> list[str]:
    """Return notes on questions and contexts with many characters that the tokenizer does not know."""
    lines: dict[str, int] = {}
    for each in questions:
        lines.setdefault(each.context, each.line)
    token = unknown_id(tokenizer)
    notes = []
    for kind, texts, parts, numbers in (
        ("questions", [each.question for each in questions], windows.questions, [each.line for each in questions]),
        ("contexts", windows.texts, windows.contexts, [lines.get(text, 0) for text in windows.texts]),
    ):
        counted = UnknownCount()
        has_unknown = np.array([token is not None and bool((parts[n] == token).any()) for n in range(len(parts))], bool)
        count_unknown_rows(tokenizer, [text[:100_000] for text in texts], has_unknown, numbers, counted)
        notes += counted.describe_rows(f"{path}, {kind}", unit)
    return notes


def _describe_windows(
    split: QuestionSplit, path: str, settings: WindowSettings, tokenizer: PreTrainedTokenizerBase, unit: str
) -> list[str]:
    """Return notes on cut questions, normalized texts and unknown characters of a file."""
    windows = split.windows
    notes = describe_unknown(windows, split.questions, path, unit, tokenizer)
    if windows.n_cut_questions:
        of = f"{windows.n_cut_questions:,} of {len(split):,} questions of {path}"
        notes.append(f"{of} are cut to qa.max_question_length {settings.max_question_length} tokens")
    if windows.n_normalized:
        of = f"{windows.n_normalized:,} of {len(split):,}"
        notes.append(
            f"{path}: questions normalized like the model's training text: {of} ({describe_normalization(tokenizer)})"
        )
    return notes


def _describe_splits(splits: Mapping[str, QuestionSplit], by: str) -> list[str]:
    parts = []
    for name, split in splits.items():
        without = f", {split.n_unanswerable:,} without an answer" if split.n_unanswerable else ""
        parts.append(f"{name} {len(split):,} ({count(len(split.windows), 'window')}{without})")
    return [f"questions: {'; '.join(parts)}" + (f"; held out by {by}" if by else "")]
