"""What an objective must bring to runs/train.py."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from llmkit.config.evaluate import Evaluate
from llmkit.tokens.prepared import Prepared
from llmkit.training.contract import Objective, Plan, Samples


@dataclass(frozen=True)
class TrainingData:
    """What the road must know of the data, whatever it is made of."""

    path: Path | None
    """The prepared folder, where there is one."""
    manifest: dict[str, Any]
    """For the run's own manifest and its report."""
    fingerprint: dict[str, str]
    """What must be the same on resume."""
    n_train_tokens: int
    sequence_length: float
    """Tokens of a sequence, on average."""
    n_held_out: int
    """Sequences that an evaluation while training goes through, at most; 0: there is no validation split."""
    n_final: int
    """Sequences that the score at the end goes through, of all held-out splits."""

    def describe(self) -> str:
        """For the model card."""
        train = self.manifest["splits"]["train"]
        unit = "bytes of text" if "bytes" in train else "rows"
        return f"{self.n_train_tokens:,} tokens ({train.get('bytes', train.get('rows')):,} {unit})"


def data_of(prepared: Prepared, block_size: int) -> TrainingData:
    """A prepared folder, read in blocks."""
    held_out = len(prepared.split("validation").stream) if prepared.has_split("validation") else 0
    return TrainingData(
        prepared.path,
        {name: value for name, value in prepared.manifest.items() if name != "request"},
        prepared.fingerprint,
        len(prepared.split("train").stream),
        block_size,
        -(-held_out // block_size),
        -(-held_out // block_size),
    )


class Task(Protocol):
    """One objective on one set of data, as a recipe wants it."""

    @property
    def data(self) -> TrainingData: ...
    @property
    def objective(self) -> Objective: ...
    @property
    def samples(self) -> Samples: ...
    @property
    def output_share(self) -> float:
        """The share of tokens that go through the output layer."""

    def open_model(self, path: str) -> PreTrainedModel:
        """One that this task saved in a checkpoint."""

    def describe(self) -> dict[str, Any]:
        """What else the run's manifest should say."""

    def evaluate(self, network: PreTrainedModel, plan: Plan) -> dict[str, Any]:
        """Held-out figures while training, on a bounded part of the validation split."""

    def cost(self, metrics: dict[str, Any]) -> tuple[float, ...]:
        """By what of these figures the best weights are chosen, the lower the better, the first before the next."""

    def sample(self, network: PreTrainedModel) -> dict[str, Any] | None:
        """What the model writes now; None where the recipe asks for nothing."""

    def finish_model(self, network: PreTrainedModel, share: float) -> None:
        """The last touch before the best weights are saved; what is chosen on held-out data takes `share` of it."""

    def score(self, network: PreTrainedModel, settings: Evaluate, share: float = 1.0) -> dict[str, dict[str, Any]]:
        """Figures over whole held-out splits by their names, or over a share of each, spread evenly."""

    def describe_failure(self, metrics: dict[str, Any]) -> str | None:
        """A warning if the model is no better than a constant guess, with both figures, else None. `metrics` are those
        of `score` for one split."""

    def finish_tokenizer(self, network: PreTrainedModel) -> PreTrainedTokenizerBase:
        """The tokenizer as it is saved with the model."""

    def describe_model(self) -> tuple[str, str, str]:
        """For the model card: pipeline tag, what the model is, which class loads it."""
