"""Training of causal language models on a prepared folder."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from tokenizers import processors
from transformers import PreTrainedModel, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from llmkit.architectures import ARCHITECTURES
from llmkit.config.evaluate import Evaluate
from llmkit.datasets.blocks import Blocks, Streams
from llmkit.models.families import build_causal, has_plain_lm_head, is_recurrent
from llmkit.models.loading import embedding_rows, load_causal_lm
from llmkit.tasks.clm.evaluation import (
    LOGITS_PER_CHUNK,
    count_windows,
    evaluate_causal_lm,
    evaluate_recurrent_lm,
    score_split,
    to_metrics,
)
from llmkit.tasks.clm.generation import generate_texts
from llmkit.tasks.clm.objective import CausalLM, RecurrentLM
from llmkit.tasks.evaluation import EvaluationData
from llmkit.tasks.pretraining import PretrainingTask
from llmkit.training.contract import Plan

SAMPLE_TOKENS = 80
OWN_LOSS_FAMILIES = ("gru", "lstm", "transformer")
EVAL_STREAMS = 16
"""Number of parallel streams in evaluations during training; the final evaluation reads one stream."""


@dataclass(frozen=True)
class ClmTraining(PretrainingTask):
    """Training on next tokens over blocks of the token stream."""

    output_fraction: float = 1.0

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
        block_size: int = settings.block_size or self.recipe.block_size
        n_logits = count_windows(config, rows, block_size, settings.batch_size) * block_size * rows
        return min(n_logits, LOGITS_PER_CHUNK) if has_plain_lm_head(config) else n_logits

    def open_model(self, path: str) -> PreTrainedModel:
        return load_causal_lm(path)

    def open_start(self, path: str) -> tuple[PreTrainedModel, list[str]]:
        return load_causal_lm(path), []

    def evaluate(self, network: PreTrainedModel, plan: Plan) -> dict[str, Any]:
        block_size, stream = self.recipe.block_size, self.prepared.split("validation").stream
        n_blocks = plan.max_eval_samples or self.recipe.train.max_eval_samples
        if is_recurrent(network.config):
            sums = evaluate_recurrent_lm(
                network, stream, n_streams=EVAL_STREAMS, precision=plan.precision, max_tokens=n_blocks * block_size
            )
        else:
            sums = evaluate_causal_lm(
                network, stream, block_size=block_size, batch_size=plan.batches.micro_batch_size,
                precision=plan.precision, max_windows=n_blocks,
            )  # fmt: skip
        return to_metrics(sums, self.prepared.manifest["splits"]["validation"])

    def sample(self, network: PreTrainedModel) -> dict[str, Any] | None:
        prompt = self.recipe.train.sample_prompt
        if prompt is None:
            return None
        n_least = min(self.recipe.generate.min_new_tokens, SAMPLE_TOKENS)
        settings = self.recipe.generate.with_updates(
            max_new_tokens=SAMPLE_TOKENS, min_new_tokens=n_least, num_samples=1
        )
        return {"prompt": prompt, "text": generate_texts(network, self.tokenizer, [prompt], settings)[0][0].text}

    def score_split(
        self, network: PreTrainedModel, data: EvaluationData, settings: Evaluate, share: float
    ) -> dict[str, Any]:
        return score_split(network, data, settings, share)

    def describe_failure(self, metrics: dict[str, Any]) -> str | None:
        baseline = self.prepared.split("validation").stream.unigram_nats()
        if metrics["loss"] < baseline:
            return None
        loss = f"the held-out loss {metrics['loss']:.3f}"
        return f"{loss} is no better than the loss of token frequencies alone, {baseline:.3f}"

    def finish_tokenizer(self, network: PreTrainedModel) -> PreTrainedTokenizerBase:
        if self.tokenizer.cls_token is not None and isinstance(self.tokenizer, PreTrainedTokenizerFast):
            # The model was not trained on [CLS], and [SEP] ends a text, so prompts must not get BERT's template.
            self.tokenizer.backend_tokenizer.post_processor = processors.Sequence([])
            self.tokenizer.model_input_names = ["input_ids", "attention_mask"]
        return self.tokenizer

    def describe_model(self) -> tuple[str, str, str]:
        return "text-generation", "causal language model", "AutoModelForCausalLM"
