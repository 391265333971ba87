"""How to use a saved model with plain transformers, for its model card. A test runs the code."""

from llmkit.tasks.qa.answer_format import AnswerFormat

SNIPPET = """```python
import torch
from transformers import AutoModelForQuestionAnswering, AutoTokenizer

folder = "PATH_OF_THIS_FOLDER"
model, tokenizer = AutoModelForQuestionAnswering.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)


def answer(question, context):
    windows = tokenizer(
        question, context, truncation="only_second", max_length={block_size}, stride={stride},
        return_overflowing_tokens=True, return_offsets_mapping=True,
    )
    best, nothing = (float("-inf"), 0, 0), float("inf")
    for number, offsets in enumerate(windows["offset_mapping"]):
        inputs = {{name: torch.tensor([windows[name][number]]) for name in tokenizer.model_input_names}}
        with torch.no_grad():
            outputs = model(**inputs)
        starts, ends = outputs.start_logits[0], outputs.end_logits[0]
        nothing = min(nothing, float(starts[{null_index}] + ends[{null_index}]))
        inside = [
            token for token, part in enumerate(windows.sequence_ids(number))
            if part == 1 and context[slice(*offsets[token])].strip()
        ]
        for first in inside:
            for last in inside:
                if first <= last < first + {max_answer_length}:
                    score = float(starts[first] + ends[last])
                    best = max(best, (score, -offsets[first][0], offsets[last][1]))
    score, start, end = best
{decline}    return context[-start:end].strip()


print(answer("a question", "a context that contains the answer"))
```
"""
DECLINE = """    if nothing - score > {threshold!r}:
        return ""  # the question has no answer in the context
"""


def describe_use(answer_format: AnswerFormat) -> str:
    """Return a code snippet that gives the answers of `llmkit predict`, and notes."""
    decline = DECLINE.format(threshold=answer_format.no_answer_threshold) if answer_format.may_decline else ""
    snippet = SNIPPET.format(
        block_size=answer_format.block_size, stride=answer_format.stride, null_index=answer_format.null_index,
        max_answer_length=answer_format.max_answer_length, decline=decline,
    )  # fmt: skip
    notes = [
        "Transformers 5 has no pipeline for question answering. A long context is read in overlapping windows; the "
        "answer is the best span of all windows.",
        f"`llmkit predict` cuts questions to {answer_format.max_question_length} tokens.",
    ]
    if answer_format.may_decline:
        notes.append("The threshold for giving no answer was tuned on the validation questions.")
    return "\n".join([snippet, *notes]).strip()
