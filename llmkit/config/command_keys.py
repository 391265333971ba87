"""The recipe keys that `eval`, `predict` and `generate` read; other keys on the command line are refused.

A recipe file may contain all keys, because one file serves all commands. A key given with `-s` applies to one command,
so it is an error if that command does not read it.
"""

from collections.abc import Sequence

from llmkit.config.renamed import RENAMED_KEYS
from llmkit.core.errors import Problem, UsageError

_COLUMNS = ("cls.text", "cls.pair", "cls.label", "cls.header", "cls.separator", "cls.label_map")
_QA_COLUMNS = ("qa.question", "qa.context")
_QA_ANSWERS = (
    *("qa.stride", "qa.max_question_length", "qa.max_answer_length", "qa.unanswerable", "qa.no_answer_threshold"),
)
_LONG_TEXTS = ("cls.long_texts", "cls.stride", "cls.max_windows")
_TAGGED = (
    *("ner.format", "ner.tokens", "ner.text", "ner.header", "ner.sentence", "ner.token_column", "ner.words"),
    *("ner.stride", "ner.decoding"),
)
READ_BY: dict[str, tuple[str, ...]] = {
    "eval": (
        *("task", "prepare.read.", "prepare.chinese_words", "evaluate.", "mlm.", "cls.labels", "cls.unseen_labels"),
        *("cls.metrics", *_COLUMNS, *_LONG_TEXTS),
        *("ner.tags", "ner.spans", "ner.tag_column", "ner.scheme", "ner.unseen_labels", *_TAGGED),
        *(*_QA_COLUMNS, "qa.answer", "qa.answer_start", "qa.separator", "qa.language", *_QA_ANSWERS),
    ),
    "predict": (
        *("task", "prepare.read.", "evaluate.block_size", "evaluate.batch_size", "evaluate.precision", "cls.labels"),
        *("cls.text", "cls.pair", "cls.header", "cls.label_map", *_LONG_TEXTS, *_TAGGED),
        *(*_QA_COLUMNS, *_QA_ANSWERS, "qa.n_best"),
    ),
    "generate": ("task", "generate."),
}
"""Keys by command; a key that ends with a dot stands for all keys of its section."""


def reads(command: str, key: str) -> bool:
    """Whether the command reads a key such as `cls.text`."""
    return any(key == known or (known.endswith(".") and key.startswith(known)) for known in READ_BY[command])


def check_overrides(command: str, overrides: Sequence[str | tuple[str, str]]) -> None:
    """Refuse `--set` keys that the command does not read.

    Raises:
        UsageError: lists all refused keys, and keys that the command reads.
    """
    problems = []
    for override in overrides:
        if not isinstance(override, str) or "=" not in override:
            continue  # an option of the command; load_recipe reports a setting without a value
        parts = tuple(override.partition("=")[0].strip().split("."))
        key = ".".join((*parts[:-1], RENAMED_KEYS.get(parts, parts[-1])))
        if not is_key(parts) or reads(command, key):
            continue
        hint = f"remove it; llmkit {command} reads {', '.join(_shown(each) for each in READ_BY[command][1:])}"
        problems.append(Problem(f"llmkit {command} does not read {key}", f"--set {override}", hint))
    if problems:
        raise UsageError.from_problems(problems)


def is_key(parts: tuple[str, ...]) -> bool:
    """Whether a recipe has this key, by its current or an earlier name; load_recipe reports unknown keys."""
    from llmkit.config.recipe import RECIPES

    if parts in RENAMED_KEYS:
        return True
    for recipe in RECIPES.values():
        fields = recipe.model_fields
        for part in parts:
            field = fields.get(part)
            if field is None:
                break
            fields = getattr(field.annotation, "model_fields", {})
        else:
            return True
    return False


def _shown(key: str) -> str:
    return f"{key}*" if key.endswith(".") else key
