"""Score a BERT on the fixed masks and pairs of a prepared split or of raw text."""

import math
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from llmkit.config.evaluate import Evaluate
from llmkit.config.mlm import Mlm
from llmkit.config.prepare import Prepare
from llmkit.core import console
from llmkit.core.errors import DataError, UsageError
from llmkit.datasets.pairs import Pairs, check_pairs, make_pairs
from llmkit.datasets.randomness import hash_integers
from llmkit.datasets.rows import encode_rows
from llmkit.datasets.sentences import Sentences
from llmkit.models.masked import sentence_objective_of
from llmkit.tasks.mlm.evaluation import evaluate_masked_lm, to_metrics
from llmkit.tasks.mlm.objective import MaskedLM
from llmkit.tasks.mlm.pseudo_perplexity import score_documents
from llmkit.tasks.scoring import choose_block_size, read_as_is
from llmkit.text.words import choose_word_cutter
from llmkit.tokens.prepared import Prepared
from llmkit.tokens.store import Split, write_split
from llmkit.tokens.tokenizer import ensure_special_tokens, id_dtype

SHORTEST_BLOCK = 8
DEFAULT_BLOCK_SIZE = 512
"""For models without a longest context."""
EVALUATION_KEY = 0x6576616C
"""So that held-out masks are never those of a training epoch with the same seed."""


def evaluation_seed(settings: Evaluate) -> int:
    """The seed of the fixed masks and pairs."""
    return hash_integers(EVALUATION_KEY, settings.seed)


def where_from(sentences: Sentences) -> str:
    """Where what is not next is taken from."""
    return "from another document" if sentences.n_documents > 1 else "from a distant passage"


def pairs_of(split: Split, tokenizer: PreTrainedTokenizerBase, mlm: Mlm, block_size: int, seed: int) -> Pairs:
    """The examples of a split, as the recipe wants them.

    Raises:
        UsageError: no room for two segments.
        DataError: the split has no sentences.
    """
    if block_size < SHORTEST_BLOCK:
        hint = f"take {SHORTEST_BLOCK} or more; 128 is usual"
        what = f"block_size {block_size} has no room for two segments and their [CLS] and [SEP]"
        raise UsageError(what, where="block_size", hint=hint)
    sentences = Sentences(split)
    check_pairs(sentences, block_size, mlm.sentence_objective)
    return make_pairs(
        sentences, tokenizer, block_size, seed,
        sentence_objective=mlm.sentence_objective, mlm_probability=mlm.mlm_probability,
        whole_words=mlm.whole_words, short_share=mlm.short_share,
    )  # fmt: skip


def score_prepared(
    network: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prepared: Prepared, split: str, settings: Evaluate,
    mlm: Mlm, block_size: int | None = None, share: float = 1.0,
) -> dict[str, Any]:  # fmt: skip
    """Metrics over a whole split of a prepared folder, or over a share of its examples, spread evenly."""
    mlm = mlm.with_updates(
        sentence_objective=sentence_objective_of(network)
    )  # what the model can judge, whatever the recipe says
    metrics = _score(network, tokenizer, prepared.split(split), settings, mlm, block_size, share)
    kept = prepared.manifest["sentences"]["chinese_words"]
    metrics["method"] |= {"data": prepared.path.name, "split": split, "chinese_words": kept}
    totals = prepared.manifest["splits"][split]
    return _with_unknown(metrics, totals["unknown_tokens"], totals["tokens"])


def score_text(
    network: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, files: Sequence[str], prepare: Prepare,
    settings: Evaluate, mlm: Mlm,
) -> dict[str, Any]:  # fmt: skip
    """Metrics over text files as they are, uncleaned.

    Raises:
        DataError: no text.
    """
    ensure_special_tokens(tokenizer)  # as `prepare` does: a BERT's own has no end of text
    with tempfile.TemporaryDirectory() as folder:
        totals: Counter[str] = Counter()
        cutter = choose_word_cutter(prepare.chinese_words)
        rows = encode_rows(read_as_is(files, prepare.read), tokenizer, totals, cutter)
        write_split(Path(folder) / "text", rows, id_dtype(tokenizer), sentences=True)
        if not totals["sentences"]:
            raise DataError("there is no text to score", where=", ".join(files), hint="give files with text in them")
        split = Split(Path(folder) / "text")
        sentence_objective = sentence_objective_of(network)
        try:
            check_pairs(
                Sentences(split),
                1 if sentence_objective == "none" else _block_size(network, settings, None),
                sentence_objective,
            )
        except DataError as error:
            console.info(f"{error.problems[0].what}: only masked tokens are scored")
            sentence_objective = "none"
        metrics = _score(
            network, tokenizer, split, settings, mlm.with_updates(sentence_objective=sentence_objective), None
        )
    metrics["method"] |= {"data": ", ".join(Path(file).name for file in files), "chinese_words": cutter}
    return _with_unknown(metrics, totals["unknown_tokens"], totals["tokens"])


def _block_size(network: PreTrainedModel, settings: Evaluate, own: int | None) -> int:
    return choose_block_size(network, settings, own, DEFAULT_BLOCK_SIZE)


def _with_unknown(metrics: dict[str, Any], n_unknown: int, n_tokens: int) -> dict[str, Any]:
    """Unknown tokens are never guessed, so the figures leave out what is hardest."""
    if n_unknown:
        share = f"{n_unknown:,} tokens ({n_unknown / n_tokens:.1%})"
        console.info(f"{share} are unknown to the tokenizer: they are not guessed, and no figure counts them")
    return metrics | {"n_unknown_tokens": n_unknown}


def _score(
    network: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, split: Split, settings: Evaluate, mlm: Mlm,
    block_size: int | None, share: float = 1.0,
) -> dict[str, Any]:  # fmt: skip
    block = _block_size(network, settings, block_size)
    pairs = pairs_of(split, tokenizer, mlm, block, evaluation_seed(settings))
    objective = MaskedLM(tokenizer.pad_token_id, mlm.sentence_objective)
    how: dict[str, Any] = {"batch_size": settings.batch_size, "precision": settings.precision}
    metrics = to_metrics(
        evaluate_masked_lm(network, pairs, objective, max_examples=math.ceil(share * pairs.samples_per_epoch), **how),
        objective.relation,
    )
    if metrics["n_examples"] < pairs.samples_per_epoch:
        metrics["n_held_out_examples"] = pairs.samples_per_epoch
    if settings.pseudo_perplexity:
        records = score_documents(network, pairs, max_tokens=settings.pseudo_perplexity, **how)
        nats, n_tokens = (sum(record[key] for record in records) for key in ("nats", "n_tokens"))
        if n_tokens:
            metrics["pseudo_perplexity"] = math.exp(min(700.0, nats / n_tokens))
        metrics["documents"] = records
    examples = {"nsp": "pairs", "sop": "ordered pairs", "none": "full sentences"}[mlm.sentence_objective]
    method: dict[str, Any] = {"examples": examples}
    method |= {"block_size": block, "mlm_probability": mlm.mlm_probability, "whole_words": mlm.whole_words}
    if mlm.sentence_objective == "nsp":
        method["not_next"] = where_from(pairs.sentences)
    return metrics | {"method": method | {"seed": settings.seed, "precision": settings.precision}}
