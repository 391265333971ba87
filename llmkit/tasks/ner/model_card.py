"""How to use a saved tagger with plain transformers, for its model card. A test runs the code."""

from llmkit.tasks.ner.row_format import TagFormat

SNIPPET = """```python
from transformers import pipeline

find = pipeline("token-classification", "PATH_OF_THIS_FOLDER", aggregation_strategy="first")
print(find("a text"))
```"""


def describe_use(row_format: TagFormat) -> str:
    """Return a code snippet that gives the entities of `llmkit predict`, and notes on the differences."""
    notes = []
    if row_format.words == "spaces":
        notes.append(
            "The words of the training data keep their punctuation, such as `Paris.`: `llmkit predict` splits texts at "
            "spaces. The pipeline of transformers splits off punctuation with some tokenizers, such as BERT's, and "
            "then tags the punctuation separately."
        )
    if row_format.words == "characters":
        notes.append(
            "The words of the training data are single characters: `llmkit predict` splits texts into characters. The "
            "pipeline of transformers tags the words of the tokenizer, which may be longer."
        )
    if row_format.decoding != "greedy":
        notes.append(
            "`llmkit predict` takes the most probable sequence in which no I- tag follows O or another type; the "
            "pipeline takes the most probable tag of each word."
        )
    notes.append(
        f"`llmkit predict` reads texts longer than {row_format.block_size} tokens in overlapping windows; the pipeline "
        f"needs `stride={row_format.stride}` for that."
    )
    return "\n\n".join([SNIPPET, *notes])
