"""What an objective of pretraining must bring to pipelines/pretrain.py."""

from typing import Any, Protocol

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from llmkit.config.evaluate import Evaluate
from llmkit.training.trainer import Objective, Plan, Samples


class Task(Protocol):
    """One objective on one prepared folder, as a recipe wants it."""

    @property
    def objective(self) -> Objective: ...
    @property
    def samples(self) -> Samples: ...
    @property
    def output_share(self) -> float:
        """The share of tokens that go through the output layer."""

    def build_model(self) -> PreTrainedModel:
        """A new one, by the recipe."""

    def open_model(self, path: str) -> PreTrainedModel:
        """One that this task saved."""

    def start_from(self, name: str) -> PreTrainedModel:
        """The user's, made fit for training here."""

    def describe(self) -> dict[str, Any]:
        """What else the run's manifest should say."""

    def evaluate(self, network: PreTrainedModel, plan: Plan) -> dict[str, Any]:
        """Held-out figures while training, on a bounded part of the validation split."""

    def sample(self, network: PreTrainedModel) -> dict[str, Any] | None:
        """What the model writes now; None where the recipe asks for nothing."""

    def score(self, network: PreTrainedModel, settings: Evaluate) -> dict[str, Any]:
        """Figures over the whole validation split."""

    def finish_tokenizer(self, network: PreTrainedModel) -> PreTrainedTokenizerBase:
        """The tokenizer as it is saved with the model."""

    def describe_model(self) -> tuple[str, str, str]:
        """For the model card: pipeline tag, what the model is, which class loads it."""
