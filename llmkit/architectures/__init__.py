"""The architectures of `model.family`: one file and one entry each."""

from llmkit.architectures.base import Architecture
from llmkit.architectures.bert import BERT
from llmkit.architectures.gpt2 import GPT2
from llmkit.architectures.llama import LLAMA
from llmkit.architectures.modernbert import MODERNBERT
from llmkit.architectures.recurrent import GRU, LSTM
from llmkit.architectures.transformer import TRANSFORMER

ARCHITECTURES: dict[str, Architecture] = {
    each.family: each
    for each in (
        GPT2,
        LLAMA,
        BERT,
        MODERNBERT,
        GRU,
        LSTM,
        TRANSFORMER,
    )
}
"""Architectures by family; the first architecture of a task is the task's default."""


def families_of(task: str) -> tuple[str, ...]:
    """Return the families that a task can train."""
    return tuple(family for family, architecture in ARCHITECTURES.items() if architecture.task == task)
