"""How to use a saved classifier with plain transformers, for its model card. A test runs the code."""

from llmkit.tasks.cls.row_format import RowFormat

SNIPPET = """```python
from transformers import pipeline

predict = pipeline("text-classification", "PATH_OF_THIS_FOLDER", truncation=True{options})
print(predict({row}))
```
"""


def describe_use(row_format: RowFormat, *, is_scaled: bool) -> str:
    """Return a code snippet that reproduces the outputs of `llmkit predict`, and notes on the differences.

    `is_scaled`: whether a regression model's output is in the unit of the labels. If not, config.json has the mean and
    standard deviation to convert it.
    """
    options = ", top_k=None" if row_format.label_type.tunes_thresholds else ""
    row = '{"text": "a text", "text_pair": "another text"}' if row_format.pair else '"a text"'
    notes = []
    if row_format.label_type.tunes_thresholds:
        notes.append(
            "A text has the labels whose score is at least their threshold: `llmkit.thresholds` in config.json."
        )
    if not is_scaled:
        notes.append(
            "The score times `llmkit.target_std` plus `llmkit.target_mean`, both in config.json, is in the unit of "
            "the labels: this architecture has no bias that could hold the mean."
        )
    if row_format.long_texts == "windows":
        notes.append(
            f"`llmkit predict` reads long texts in windows of {row_format.block_size} tokens and averages the scores. "
            "Transformers reads the first window."
        )
    return "\n".join([SNIPPET.format(options=options, row=row), *notes]).strip()
