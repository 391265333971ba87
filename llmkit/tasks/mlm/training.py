"""Masked language model pretraining on a prepared folder, or on random tokens to estimate its cost."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from llmkit.architectures import ARCHITECTURES
from llmkit.config.evaluate import Evaluate
from llmkit.core import console
from llmkit.core.errors import DataError, ModelError, UsageError
from llmkit.datasets.pairs import IS_NEXT, NO_PAIR, Example, Pairs, make_pairs
from llmkit.datasets.rows import can_mask
from llmkit.models.loading import embedding_rows, max_context_length
from llmkit.models.masked import build_masked, load_masked, load_masked_for_training, rescale_embeddings
from llmkit.tasks.evaluation import EvaluationData
from llmkit.tasks.mlm.evaluation import (
    describe_not_next,
    describe_pair_failure,
    evaluate_masked_lm,
    evaluation_seed,
    score_split,
    to_metrics,
)
from llmkit.tasks.mlm.fill_in import fill_masks
from llmkit.tasks.mlm.objective import MaskedLM
from llmkit.tasks.pretraining import PretrainingTask
from llmkit.tasks.synthetic import N_TOKENS, RandomPrepared
from llmkit.training.contract import Plan


@dataclass(frozen=True)
class MaskedExamples:
    """Random samples for `plan`: `block_size` random ids, some of them masked; two equal segments with `pairs`."""

    n_ids: int
    block_size: int
    mlm_probability: float
    pairs: bool

    @property
    def samples_per_epoch(self) -> int:
        return N_TOKENS // self.block_size

    def __getitem__(self, sample: int) -> Example:
        rng = np.random.default_rng(sample)
        n_masked = max(1, rng.binomial(self.block_size - 3, self.mlm_probability))
        masked = np.sort(rng.choice(self.block_size, n_masked, replace=False))
        ids = rng.integers(1, self.n_ids, self.block_size)
        n_first = self.block_size // 2 if self.pairs else self.block_size
        return Example(ids, n_first, masked, ids[masked], IS_NEXT if self.pairs else NO_PAIR, ())


@dataclass(frozen=True)
class MlmTraining(PretrainingTask):
    """Training on masked tokens and, unless sentence_objective is none, on pairs of segments."""

    def __post_init__(self) -> None:
        """Raise DataError for an unsuitable tokenizer or split, UsageError for a sample prompt without a mask."""
        if isinstance(self.prepared, RandomPrepared):
            return
        if not can_mask(self.tokenizer):
            hint = "prepare the data with -s prepare.tokenizer.kind=wordpiece, or with the tokenizer of a BERT model"
            what = "the data's tokenizer lacks [MASK], [CLS] or [SEP]"
            raise DataError(what, where=str(self.prepared.tokenizer_path), hint=hint)
        prompt, mask = self.recipe.train.sample_prompt, self.tokenizer.mask_token
        if prompt and mask not in prompt:
            hint = f"put {mask} where a word is missing, or leave the prompt empty"
            raise UsageError(f"the sample prompt {prompt!r} has no {mask}", where="train.sample_prompt", hint=hint)
        if self.prepared.has_split("validation"):
            _ = self.held_out  # to raise errors now and not at the first evaluation

    @property
    def output_fraction(self) -> float:
        return float(self.recipe.mlm.mlm_probability)

    @cached_property
    def objective(self) -> MaskedLM:
        return MaskedLM(self.tokenizer.pad_token_id, self.recipe.mlm.sentence_objective)

    @cached_property
    def samples(self) -> Pairs | MaskedExamples:
        if isinstance(self.prepared, RandomPrepared):
            mlm = self.recipe.mlm
            is_pair = mlm.sentence_objective != "none"
            return MaskedExamples(self.prepared.n_ids, self.recipe.block_size, mlm.mlm_probability, is_pair)
        return self._pairs("train", self.recipe.train.seed)

    @cached_property
    def held_out(self) -> Pairs:
        """Return fixed examples of the validation split."""
        return self._pairs("validation", evaluation_seed(self.recipe.evaluate))

    def _pairs(self, split: str, seed: int) -> Pairs:
        return make_pairs(self.prepared.split(split), self.tokenizer, self.recipe.mlm, self.recipe.block_size, seed)

    def count_scored_logits(self, network: PreTrainedModel) -> float:
        settings = self.recipe.evaluate
        n_tokens = settings.batch_size * (settings.block_size or self.recipe.block_size)
        return float(n_tokens * self.recipe.mlm.mlm_probability * embedding_rows(network))

    def build_model(self) -> PreTrainedModel:
        recipe, objective = self.recipe, self.recipe.mlm.sentence_objective
        return build_masked(
            recipe.model, self.tokenizer, recipe.block_size, recipe.train.seed, sentence_objective=objective
        )

    def open_model(self, path: str) -> PreTrainedModel:
        return load_masked(path)

    def open_start(self, path: str) -> tuple[PreTrainedModel, list[str]]:
        objective = self.recipe.mlm.sentence_objective
        network, notes = load_masked_for_training(path, objective, self.recipe.train.seed)
        if objective != "none" and getattr(network.config, "type_vocab_size", 0) < 2:
            where = f"{path}/config.json, type_vocab_size"
            hint = "set mlm.sentence_objective to none, or use a model with two token types"
            raise ModelError("the model has only one token type, so it cannot read pairs", where=where, hint=hint)
        return network, notes

    def describe(self) -> dict[str, Any]:
        if not ARCHITECTURES[self.recipe.model.family].reads_pairs:
            family = self.recipe.model.family
            console.info(
                f"{family} has no head for pairs, so only masked tokens are trained (mlm.sentence_objective none)"
            )
        facts = {"chinese_words": "characters"}
        if self.recipe.mlm.whole_words:
            facts = {"chinese_words": self.prepared.manifest["sentences"]["chinese_words"]}
        assert isinstance(self.samples, Pairs)
        sentences = self.samples.sentences
        if self.recipe.mlm.sentence_objective == "nsp":
            facts["not_next"] = describe_not_next(sentences)
            if sentences.n_documents == 1:
                console.info(
                    "the text is one document: negative pairs take their second segment from a distant passage"
                )
        if self.recipe.mlm.sentence_objective != "none" and (share := sentences.pair_fraction()) < 0.5:
            console.info(
                f"only {share:.0%} of the text is in documents of two sentences or more; pairs need two sentences"
            )
        return facts

    def evaluate(self, network: PreTrainedModel, plan: Plan) -> dict[str, Any]:
        sums = evaluate_masked_lm(
            network, self.held_out, self.objective, batch_size=plan.batches.micro_batch_size, precision=plan.precision,
            max_examples=plan.max_eval_samples or self.recipe.train.max_eval_samples,
        )  # fmt: skip
        return to_metrics(sums, self.objective.relation)

    def sample(self, network: PreTrainedModel) -> dict[str, Any] | None:
        prompt = self.recipe.train.sample_prompt
        if not prompt:
            return None
        best = [fills[0] for fills in fill_masks(network, self.tokenizer, [prompt], 1)[0].masks]
        return {"prompt": prompt, "text": ", ".join(f"{fill.token} {fill.probability:.1%}" for fill in best)}

    def score_split(
        self, network: PreTrainedModel, data: EvaluationData, settings: Evaluate, share: float
    ) -> dict[str, Any]:
        return score_split(network, self.tokenizer, data, settings, self.recipe.mlm, share)

    def describe_failure(self, metrics: dict[str, Any]) -> str | None:
        accuracy, baseline = metrics["mlm_accuracy"], metrics["mlm_baseline_accuracy"]
        pairs = describe_pair_failure(metrics, self.objective.relation)
        if accuracy > baseline:
            return pairs
        what = f"masked-token accuracy {accuracy:.1%} is no better than always predicting the most frequent token"
        return f"{what}, {baseline:.1%}" + (f"; {pairs}" if pairs else "")

    def finish_model(self, network: PreTrainedModel, share: float) -> None:
        rescale_embeddings(network)

    def finish_tokenizer(self, network: PreTrainedModel) -> PreTrainedTokenizerBase:
        self.tokenizer.model_max_length = max_context_length(network) or self.recipe.block_size
        if not getattr(network.config, "type_vocab_size", 0):
            names = self.tokenizer.model_input_names
            self.tokenizer.model_input_names = [name for name in names if name != "token_type_ids"]
        return self.tokenizer

    def describe_model(self) -> tuple[str, str, str]:
        if self.recipe.mlm.sentence_objective == "none":
            return "fill-mask", "masked language model", "AutoModelForMaskedLM"
        return "fill-mask", "masked language model with a head for sentence pairs", "BertForPreTraining"
