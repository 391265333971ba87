"""The settings with which a saved model reads and answers questions as in training; stored in config.json.

Training, `eval` and `predict` use the same format. A model of another tool gets the defaults.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from transformers import PreTrainedConfig

from llmkit.config.qa import Qa
from llmkit.core.errors import ModelError
from llmkit.tasks.qa.windows import WindowSettings

CONFIG_KEY = "llmkit"
DEFAULT_STRIDE, DEFAULT_MAX_QUESTION_LENGTH, DEFAULT_MAX_ANSWER_LENGTH = 128, 64, 30


@dataclass(frozen=True)
class AnswerFormat:
    """Sizes of windows, limits of answers, and whether the model may give no answer."""

    block_size: int
    stride: int = DEFAULT_STRIDE
    max_question_length: int = DEFAULT_MAX_QUESTION_LENGTH
    max_answer_length: int = DEFAULT_MAX_ANSWER_LENGTH
    may_decline: bool = False
    """Whether the model may leave a question without an answer."""
    no_answer_threshold: float = 0.0
    null_index: int = 0
    """Position of the token that stands for no answer; negative: from the end."""
    columns: Mapping[str, str] = field(default_factory=dict)
    """Columns of the train file by role, such as `question`."""

    @classmethod
    def for_block(cls, block_size: int) -> "AnswerFormat":
        """Return the default format for blocks of this size."""
        stride, longest = min(DEFAULT_STRIDE, block_size // 3), min(DEFAULT_MAX_QUESTION_LENGTH, block_size // 4)
        return cls(block_size, stride, max(1, longest))

    @property
    def windows(self) -> WindowSettings:
        return WindowSettings(self.block_size, self.stride, self.max_question_length)

    def with_settings(self, section: Qa, block_size: int | None) -> "AnswerFormat":
        """Return a copy with the keys that the user set for `eval` or `predict`."""
        given = section.model_fields_set
        names = ("stride", "max_question_length", "max_answer_length", "no_answer_threshold")
        changes: dict[str, Any] = {
            name: value for name in names if name in given and (value := getattr(section, name)) is not None
        }
        if section.unanswerable != "auto":
            changes["may_decline"] = section.unanswerable
        if block_size is not None:
            changes["block_size"] = block_size
        return replace(self, **changes)


def save_format(config: PreTrainedConfig, answer_format: AnswerFormat) -> None:
    """Store the format in the model's configuration."""
    setattr(config, CONFIG_KEY, asdict(answer_format))


def read_format(config: PreTrainedConfig, block_size: int) -> tuple[AnswerFormat, bool]:
    """Return the format of a model, and whether llmkit trained it; `block_size` is the default.

    Raises:
        ModelError: the saved format is damaged.
    """
    saved = getattr(config, CONFIG_KEY, None)
    if not isinstance(saved, Mapping) or "max_answer_length" not in saved:
        return AnswerFormat.for_block(block_size), False
    default = AnswerFormat.for_block(block_size)
    values = {name: saved[name] for name in AnswerFormat.__dataclass_fields__ if name in saved}
    columns = values.pop("columns", {})
    columns = (
        {role: name for role, name in columns.items() if isinstance(name, str)} if isinstance(columns, dict) else {}
    )
    for name, value in values.items():
        kind = bool if name == "may_decline" else (int, float) if name == "no_answer_threshold" else int
        is_negative = (
            name not in ("no_answer_threshold", "null_index") and value < 0 if isinstance(value, int) else False
        )
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)) or is_negative:
            where, hint = f"config.json, {CONFIG_KEY}.{name}", "restore config.json from the original model"
            raise ModelError(f"{name} has the invalid value {value!r}", where=where, hint=hint)
    return replace(default, columns=columns, **values), True
