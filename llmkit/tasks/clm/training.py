"""Training of causal language models on a prepared folder."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from tokenizers import processors
from transformers import PreTrainedModel, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from llmkit.architectures import ARCHITECTURES
from llmkit.config.evaluate import Evaluate
from llmkit.config.recipe import Recipe
from llmkit.datasets.blocks import Blocks, Streams
from llmkit.metrics.spec import MetricSet
from llmkit.models.families import build_causal, has_plain_lm_head, is_recurrent
from llmkit.models.loading import embedding_rows, load_causal_lm
from llmkit.tasks.base import TrainingData
from llmkit.tasks.clm.evaluation import (
    LOGITS_PER_CHUNK,
    count_windows,
    evaluate_causal_lm,
    evaluate_recurrent_lm,
    score_prepared,
    to_metrics,
)
from llmkit.tasks.clm.generation import generate_texts
from llmkit.tasks.clm.metrics import METRICS
from llmkit.tasks.clm.objective import CausalLM, RecurrentLM
from llmkit.tasks.prepared_folder import describe_data
from llmkit.tasks.starting_model import fit_to_data
from llmkit.tokens.prepared import Prepared
from llmkit.training.contract import Plan

SAMPLE_TOKENS = 80
OWN_LOSS_FAMILIES = ("gru", "lstm", "transformer")
EVAL_STREAMS = 16
"""Parallel streams in evaluations during training; the final evaluation reads one stream."""


@dataclass(frozen=True)
class ClmTraining:
    """Training on next tokens over blocks of the token stream."""

    recipe: Recipe
    prepared: Prepared
    tokenizer: PreTrainedTokenizerBase
    output_share: float = 1.0
    cuts_by_tokens: bool = False
    metrics: MetricSet = METRICS

    @cached_property
    def data(self) -> TrainingData:
        return describe_data(self.prepared, self.recipe.block_size)

    @property
    def carries_state(self) -> bool:
        """Whether the state of a recurrent model is carried from block to block; see datasets/blocks.py."""
        return ARCHITECTURES[self.recipe.model.family].carries_state and self.recipe.train.carry_state

    @cached_property
    def objective(self) -> CausalLM:
        if self.carries_state:
            return RecurrentLM(self.tokenizer.pad_token_id, self.recipe.train.global_batch_size)
        return CausalLM(self.tokenizer.pad_token_id, loss_by_model=self.recipe.model.family in OWN_LOSS_FAMILIES)

    @cached_property
    def samples(self) -> Blocks | Streams:
        split, train = self.prepared.split("train"), self.recipe.train
        if self.carries_state:
            return Streams(split, self.recipe.block_size, train.global_batch_size, train.seed)
        return Blocks(split, self.recipe.block_size, train.seed)

    def build_model(self) -> PreTrainedModel:
        recipe = self.recipe
        return build_causal(recipe.model, self.tokenizer, recipe.block_size, recipe.train.seed)

    def count_scored_logits(self, network: PreTrainedModel) -> float:
        config, rows, settings = network.config, embedding_rows(network), self.recipe.evaluate
        if is_recurrent(config):
            return 0
        block_size = settings.block_size or self.recipe.block_size
        n_logits = count_windows(config, rows, block_size, settings.batch_size) * block_size * rows
        return min(n_logits, LOGITS_PER_CHUNK) if has_plain_lm_head(config) else n_logits

    def open_model(self, path: str) -> PreTrainedModel:
        return load_causal_lm(path)

    def start_from(self, name: str) -> PreTrainedModel:
        return fit_to_data(name, load_causal_lm, self.recipe, self.prepared, self.tokenizer)

    def describe(self) -> dict[str, Any]:
        return {}

    def evaluate(self, network: PreTrainedModel, plan: Plan) -> dict[str, Any]:
        train, block_size = self.recipe.train, self.recipe.block_size
        stream = self.prepared.split("validation").stream
        if is_recurrent(network.config):
            sums = evaluate_recurrent_lm(
                network, stream, n_streams=EVAL_STREAMS, precision=plan.precision,
                max_tokens=(plan.max_eval_samples or train.max_eval_samples) * block_size,
            )  # fmt: skip
        else:
            sums = evaluate_causal_lm(
                network, stream, block_size=block_size, batch_size=plan.batches.micro_batch_size,
                precision=plan.precision, max_windows=plan.max_eval_samples or train.max_eval_samples,
            )  # fmt: skip
        # A part of the split has its share of the bytes, by tokens.
        share = sums["n_tokens"] / len(stream)
        totals = self.prepared.manifest["splits"]["validation"]
        sizes = {f"n_{name}": totals[name] * share for name in ("bytes", "characters", "words") if name in totals}
        return to_metrics(sums, **sizes)

    def selection_key(self, metrics: dict[str, Any]) -> tuple[float, ...]:
        return METRICS.selection_key(metrics)

    def sample(self, network: PreTrainedModel) -> dict[str, Any] | None:
        prompt = self.recipe.train.sample_prompt
        if prompt is None:
            return None
        n_least = min(self.recipe.generate.min_new_tokens, SAMPLE_TOKENS)
        settings = self.recipe.generate.with_updates(
            max_new_tokens=SAMPLE_TOKENS, min_new_tokens=n_least, num_samples=1
        )
        return {"prompt": prompt, "text": generate_texts(network, self.tokenizer, [prompt], settings)[0][0].text}

    def score(self, network: PreTrainedModel, settings: Evaluate, share: float = 1.0) -> dict[str, dict[str, Any]]:
        if not self.data.n_held_out:
            return {}
        block_size = self.recipe.block_size
        metrics = score_prepared(network, self.prepared, "validation", settings, block_size, share)
        return {"validation": metrics}

    def describe_failure(self, metrics: dict[str, Any]) -> str | None:
        baseline = self.prepared.split("validation").stream.unigram_nats()
        if metrics["loss"] < baseline:
            return None
        return (
            f"the held-out loss {metrics['loss']:.3f} is no better than that of token frequencies alone, {baseline:.3f}"
        )

    def finish_model(self, network: PreTrainedModel, share: float) -> None:
        pass

    def finish_tokenizer(self, network: PreTrainedModel) -> PreTrainedTokenizerBase:
        if self.tokenizer.cls_token is not None and isinstance(self.tokenizer, PreTrainedTokenizerFast):
            # The model was not trained on [CLS], and [SEP] ends a text: prompts must not get BERT's template.
            self.tokenizer.backend_tokenizer.post_processor = processors.Sequence([])
            self.tokenizer.model_input_names = ["input_ids", "attention_mask"]
        return self.tokenizer

    def describe_model(self) -> tuple[str, str, str]:
        return "text-generation", "causal language model", "AutoModelForCausalLM"
