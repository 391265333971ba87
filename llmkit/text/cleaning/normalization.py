"""Record the cleaning steps that change spelling, so that later inputs of the model are cleaned in the same way.

`prepare` records these settings, and they are saved with the model's tokenizer (tokens/normalization.py). Line ends and
control characters are normalized for every model that has a record. Steps that repair or select the files of a corpus
are not recorded; docs/recipes.md gives the reason for each step.

Independent of tokenizers; cleaners.py implements the steps.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pydantic import ValidationError

from llmkit.config.prepare import Clean
from llmkit.core.errors import EnvironmentFault, ModelError
from llmkit.text.cleaning.cleaners import STEPS, clean_documents
from llmkit.text.documents import Document, StepCounts, emit_document, group_documents, replay_texts

TRAVELLING = ("html_entities", "soft_hyphens", "unicode", "lowercase", "strip_punctuation", "simplify_chinese")
"""Fields of `prepare.clean` that are recorded."""
_RECORDED_IF_SET = ("html_entities", "soft_hyphens")  # earlier versions of llmkit reject records with these fields
_OTHERS_OFF = {"mojibake": False, "gutenberg": False, "whitespace": False}
_NOT_RECORDED = Clean(unicode="none")
_CHINESE = re.compile("[\u2e80-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")
_NAMES = {
    "html_entities": "HTML entities decoded",
    "soft_hyphens": "no soft hyphens",
    "lowercase": "lower case",
    "strip_punctuation": "no punctuation",
    "simplify_chinese": "simplified Chinese",
}


def record_normalization(clean: Clean) -> dict[str, Any]:
    """Return the recorded fields of `clean`, for a manifest."""
    fields = clean.model_dump(mode="json", include=set(TRAVELLING))
    return {name: value for name, value in fields.items() if value or name not in _RECORDED_IF_SET}


def read_normalization(record: Mapping[str, Any], where: str) -> Clean:
    """Return cleaning settings with the fields of a record; all steps that it does not name are disabled.

    Raises:
        ModelError: a field or value that this version of llmkit does not know.
    """
    unknown = sorted(set(record) - set(TRAVELLING))
    try:
        if not unknown:
            return Clean.model_validate(_OTHERS_OFF | dict(record))
    except ValidationError as error:
        unknown = sorted({str(each["loc"][0]) for each in error.errors()})
    what = f"the model's text normalization has settings unknown to this version of llmkit: {', '.join(unknown)}"
    raise ModelError(what, where=where, hint="use the version that trained the model, or a newer one")


def normalize_text(text: str, normalization: Clean) -> str:
    """Normalize the text as `prepare` does.

    Raises:
        EnvironmentFault: `simplify_chinese` is set, the text is Chinese, and OpenCC is not installed.
    """
    if normalization.simplify_chinese and not _CHINESE.search(text):
        normalization = normalization.with_updates(simplify_chinese=False)
    try:
        for _, wanted, step in STEPS:
            if wanted(normalization):
                text = "".join(step([text], StepCounts()))
    except EnvironmentFault as error:
        what, hint = "the model was trained on simplified Chinese, which needs OpenCC here too", error.problems[0].hint
        raise EnvironmentFault(what, where="the model's tokenizer_config.json", hint=hint.split(", or")[0]) from None
    return text


def find_changing_steps(text: str, normalization: Clean) -> list[str]:
    """Return the names of the steps that change the text, as `prepare` counts them."""
    counts: dict[str, StepCounts] = {}
    for _ in normalize_documents([Document(text, "")], normalization, counts):
        pass
    return [name for name, count in counts.items() if count.changed]


def normalize_documents(
    documents: Iterable[Document], normalization: Clean, counts: dict[str, StepCounts]
) -> Iterator[Document]:
    """Like `normalize_text`, for documents in parts; `counts` gets one entry per step."""
    return clean_documents(documents, normalization, False, counts)


def count_uncleaned(documents: Iterable[Document], counts: dict[str, StepCounts]) -> Iterator[Document]:
    """Pass the documents through unchanged; `counts` counts what the default steps of `prepare` would change.

    Only steps that are not recorded are counted: mojibake, Project Gutenberg, white space.
    """
    for first, texts in group_documents(documents):
        with replay_texts(texts) as replay:
            for _ in clean_documents(emit_document(replay(), first), _NOT_RECORDED, False, counts):
                pass
            yield from emit_document(replay(), first)


def name_normalization(normalization: Clean) -> list[str]:
    """Return the enabled settings in words, such as `NFC` and `lower case`."""
    form = [] if normalization.unicode == "none" else [normalization.unicode]
    return form + [name for field, name in _NAMES.items() if getattr(normalization, field)]
