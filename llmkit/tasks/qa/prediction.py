"""Answer questions with a saved model, for `eval` and `predict`; and the `predict` command."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from llmkit.config.evaluate import Evaluate
from llmkit.config.qa import Qa
from llmkit.config.recipe import QaRecipe
from llmkit.core import console
from llmkit.core.batching import batch_by_size
from llmkit.core.console import count
from llmkit.core.distributed import all_reduce_sum, shard
from llmkit.core.errors import DataError, ModelError, UsageError
from llmkit.core.progress import ProgressBar
from llmkit.models.classifier import load_classifier
from llmkit.models.inputs import collate_inputs, group_by_length, reads_token_types, translate_failure
from llmkit.models.loading import max_context_length
from llmkit.models.padding import NO_PAD_TOKEN, describe_padding
from llmkit.models.saved_head import ANSWER_SPANS
from llmkit.tables.questions import Question, QuestionFile, open_questions
from llmkit.tables.rows import describe_left_out, open_rows
from llmkit.tasks.base import PredictionRequest
from llmkit.tasks.evaluation import load_for_inference
from llmkit.tasks.qa.answer_format import AnswerFormat, read_format
from llmkit.tasks.qa.data import describe_unknown
from llmkit.tasks.qa.objective import score_positions
from llmkit.tasks.qa.request import known_columns, named_columns
from llmkit.tasks.qa.spans import Spans, WindowScores, find_spans
from llmkit.tasks.qa.windows import Windows, encode_windows

DEFAULT_BLOCK_SIZE = 384
QUESTIONS_AT_ONCE, CHARACTERS_AT_ONCE = 1024, 2_000_000
COLUMNS = ("answer", "probability", "start", "end")
N_BEST = "n_best"


class Candidate(NamedTuple):
    """A possible answer: its text, probability and character range in the context; for no answer, the text is empty."""

    text: str
    probability: float
    start: int | None = None
    end: int | None = None

    def to_cells(self, names: Sequence[str] = COLUMNS) -> dict[str, Any]:
        """Return the columns of a prediction."""
        return dict(zip(names, (self.text, round(self.probability, 6), self.start, self.end), strict=True))


@dataclass(frozen=True)
class Reading:
    """The best answers of one question."""

    candidates: list[Candidate]
    """Best first."""
    no_answer: Candidate
    no_answer_score: float
    """Score of no answer minus that of the best answer."""

    def choose(self, answer_format: AnswerFormat) -> Candidate:
        """Return the best answer, or no answer if `no_answer_score` exceeds the threshold."""
        declines = answer_format.may_decline and self.no_answer_score > answer_format.no_answer_threshold
        return self.no_answer if declines or not self.candidates else self.candidates[0]


@torch.inference_mode()
def score_windows(
    model: PreTrainedModel, windows: Windows, *, token_types: bool, tokens_at_once: int, precision: str = "fp32"
) -> NDArray[np.float32]:
    """Return the start and end logits (tokens of all windows, 2). The model must be in evaluation mode."""
    lengths, stops = windows.lengths, np.cumsum(windows.lengths)
    scores = np.zeros((int(lengths.sum()), 2), np.float32)
    for numbers, counts in shard(group_by_length(lengths, tokens_at_once)):
        inputs = [windows.read(int(number)) for number in numbers]
        batch = collate_inputs(inputs, model.config.pad_token_id or 0, token_types)
        with translate_failure(model), torch.autocast(model.device.type, torch.bfloat16, enabled=precision == "bf16"):
            logits = score_positions(model, {name: tensor.to(model.device) for name, tensor in batch.items()})
        if counts:
            for number, each in zip(numbers, logits.float().cpu().numpy(), strict=True):
                scores[stops[number] - lengths[number] : stops[number]] = each[: lengths[number]]
    scores = all_reduce_sum({"scores": scores})["scores"]  # windows that other ranks scored are zero
    if n_wrong := int((~np.isfinite(scores).all(1)).sum()):
        what = f"the model's scores of {n_wrong:,} of {len(scores):,} tokens are not finite numbers"
        hint = "the weights are damaged, or too large for the precision: train the model again, or give another one"
        raise ModelError(what, where=model.name_or_path or "model", hint=hint)
    return scores


def read_answers(
    windows: Windows, scores: NDArray[np.float32], answer_format: AnswerFormat, n_best: int
) -> Iterator[Reading]:
    """Yield the best answers of each question from the logits of `score_windows`."""
    stops = np.cumsum(windows.lengths)
    for row in range(windows.n_questions):
        parts = []
        for number in windows.windows_of(row):
            begin = int(stops[number] - windows.lengths[number])
            first = begin + int(windows.context_index[number])
            logits = scores[first : first + int(windows.stops[number] - windows.begins[number])]
            null = float(scores[begin + windows.null_position(number)].sum())
            parts.append(WindowScores(int(windows.begins[number]), logits[:, 0], logits[:, 1], null))
        visible = windows.visible[int(windows.context_of[row])]
        spans = find_spans(parts, visible, answer_format.max_answer_length, n_best)
        yield _to_reading(windows, row, spans, answer_format.may_decline)


def _to_reading(windows: Windows, row: int, spans: Spans, may_decline: bool) -> Reading:
    text = windows.texts[int(windows.context_of[row])]
    found: dict[tuple[int, int], Candidate] = {}
    for span in spans.best:
        place = windows.find_characters(row, span.first, span.last)
        probability = spans.probability(span.score, may_decline=may_decline)
        if place in found:  # tokens that are parts of one character
            probability += found[place].probability
        found[place] = Candidate(text[slice(*place)], probability, *place)
    null = spans.probability(spans.null, may_decline=True) if may_decline else float(not spans.best)
    return Reading(list(found.values()), Candidate("", null), spans.no_answer_score)


@dataclass(frozen=True)
class Reader:
    """A model that answers questions, with its tokenizer and format."""

    network: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    format: AnswerFormat
    settings: Evaluate

    @property
    def token_types(self) -> bool:
        return reads_token_types(self.network.config, self.tokenizer)

    def score(self, windows: Windows) -> NDArray[np.float32]:
        """Return the logits of `score_windows`."""
        return score_windows(
            self.network, windows, token_types=self.token_types,
            tokens_at_once=self.settings.batch_size * self.format.block_size, precision=self.settings.precision,
        )  # fmt: skip

    def read(self, windows: Windows, n_best: int) -> Iterator[Reading]:
        """Yield the best answers of each question."""
        return read_answers(windows, self.score(windows), self.format, n_best)

    def encode(self, questions: Sequence[Question]) -> Windows:
        """Encode questions as in training."""
        return encode_windows(self.tokenizer, questions, self.format.windows)


def open_reader(path: str, settings: Evaluate, section: Qa) -> Reader:
    """Load a model. A model that llmkit did not train reads blocks of up to 384 tokens and, by default, always answers.

    Raises:
        UsageError: a setting does not fit the model.
        ModelError: the model cannot be loaded, or its tokenizer does not fit.
    """
    network, tokenizer = load_for_inference(partial(load_classifier, kind=ANSWER_SPANS), path, path, settings.precision)
    if network.config.pad_token_id is None:
        network.config.pad_token_id = NO_PAD_TOKEN
    for note in describe_padding(network.config):
        console.info(note)
    positions = max_context_length(network)
    longest = min(tokenizer.model_max_length, positions or DEFAULT_BLOCK_SIZE)
    answer_format, is_known = read_format(network.config, min(DEFAULT_BLOCK_SIZE, longest))
    answer_format = answer_format.with_settings(section, settings.block_size)
    if positions is not None and answer_format.block_size > positions:
        what = f"block_size {answer_format.block_size} does not fit the model's {positions} positions"
        raise UsageError(what, where="evaluate.block_size", hint=f"set it to {positions} or less")
    if not is_known and section.unanswerable == "auto":
        console.info(
            "the model was not trained with llmkit: it answers every question; -s qa.unanswerable=true lets it give "
            "no answer"
        )
    return Reader(network, tokenizer, answer_format, settings)


def read_chunks(questions: Iterable[Question]) -> Iterator[list[Question]]:
    """Yield chunks of questions to encode and score together; bounds memory."""
    return batch_by_size(
        questions, lambda each: len(each.question) + len(each.context), CHARACTERS_AT_ONCE, QUESTIONS_AT_ONCE
    )


@dataclass
class _Counts:
    """Counts of predicted questions, and notes on their texts."""

    n_rows: int = 0
    n_declined: int = 0
    n_empty: int = 0
    n_windows: int = 0
    n_cut: int = 0
    unknown: list[str] = field(default_factory=list)


def predict_answers(recipe: QaRecipe, request: PredictionRequest) -> dict[str, Any]:
    """Write each question with its answer, probability and character range in the context; returns counts.

    With `request.all_probabilities` a column `n_best` has the best answers.

    Raises:
        DataError: the file cannot be read, or already has a column that `predict` adds.
        ModelError: the model cannot be used.
    """
    section = recipe.qa
    reader = open_reader(request.path, recipe.evaluate, section)
    given = named_columns(section) | {"answers": None, "answer_start": None}
    trained = {role: reader.format.columns.get(role, "") for role in ("question", "context")}
    wanted = [name for name in (*given.values(), *trained.values()) if name]
    counts = _Counts()
    opened = open_rows(request.data, recipe.prepare.read, wanted=wanted)
    with opened as rows, ProgressBar("predicting", "rows", log=True) as line:
        file = open_questions(rows, known_columns(rows, given, trained), need_answers=False)
        console.info(f"{rows.path}: {file.columns.describe()}")
        names = _name_columns(file, with_n_best=request.all_probabilities)
        emit = request.open_writer([*file.kept, *names])
        for chunk in read_chunks(file):
            windows = reader.encode(chunk)
            counts.unknown = counts.unknown or describe_unknown(windows, chunk, rows.path, rows.unit, reader.tokenizer)
            n_best = section.n_best if request.all_probabilities else 1
            for question, reading in zip(chunk, reader.read(windows, n_best), strict=True):
                cells = _to_cells(reading, reader.format, names, section.n_best)
                emit({name: question.cells.get(name) for name in file.kept} | cells)
                counts.n_declined += not cells[names[0]]
                counts.n_empty += not question.context.strip() or not question.question.strip()
            counts.n_rows += len(chunk)
            counts.n_windows += len(windows)
            counts.n_cut += windows.n_cut_questions
            line.add(len(chunk))
        n_skipped = sum(rows.source.skipped.values())
    for note in [*_describe(counts, rows.path, reader.format, n_skipped), *counts.unknown]:
        console.info(note)
    return {
        "n_rows": counts.n_rows, "n_without_answer": counts.n_declined, "n_windows": counts.n_windows,
        "n_skipped": n_skipped,
    }  # fmt: skip


def _describe(counts: _Counts, path: str, answer_format: AnswerFormat, n_skipped: int) -> list[str]:
    notes = describe_left_out(n_skipped, path, "that cannot be read")
    if counts.n_empty:
        notes.append(f"{path}: {count(counts.n_empty, 'row')} without a question or without a context")
    if counts.n_cut:
        longest = answer_format.max_question_length
        notes.append(f"{path}: {count(counts.n_cut, 'question')} cut to {longest} tokens (qa.max_question_length)")
    return notes


def _name_columns(file: QuestionFile, *, with_n_best: bool) -> list[str]:
    """Return the names of the added columns; a name that the file has gets the prefix `predicted_`.

    Raises:
        DataError: the file has columns of both names.
    """
    names = []
    for name in (*COLUMNS, *([N_BEST] if with_n_best else [])):
        chosen = f"predicted_{name}" if name in file.kept else name
        if chosen in file.kept:
            hint = "rename the column in the file: the output keeps all columns and adds one of this name"
            raise DataError(f"the file already has a column {chosen!r}", where=file.rows.path, hint=hint)
        names.append(chosen)
    if renamed := [name for name in names if name.startswith("predicted_")]:
        console.info(f"{file.rows.path} has columns of the same names, so the added columns are {', '.join(renamed)}")
    return names


def _to_cells(reading: Reading, answer_format: AnswerFormat, names: Sequence[str], n_best: int) -> dict[str, Any]:
    chosen = reading.choose(answer_format)
    cells = chosen.to_cells(names[: len(COLUMNS)])
    if len(names) > len(COLUMNS):
        candidates = [*reading.candidates, *([reading.no_answer] if answer_format.may_decline else [])]
        candidates.sort(key=lambda each: -each.probability)
        cells[names[-1]] = [each.to_cells() for each in candidates[:n_best]]
    return cells
