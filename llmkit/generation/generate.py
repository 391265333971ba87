"""Write text with any causal language model, through transformers' own `generate`.

A text may grow beyond the model's context. It is then written in rounds of an eighth of the context, each of which
reads the last tokens that leave room for it (a leading bos token stays in front). So at least seven eighths of the
context are always in view, and no position runs past the last that a model with learned positions has.

What a text says does not depend on the prompts beside it when decoding is greedy: each row has its own window, and
padding stands on the left behind an attention mask. Settings come from `Generate` alone; the generation_config saved
with a model only says which tokens end a text.

Whether the model is a causal one is for the caller to check.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import batched
from typing import Literal

import torch
from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase, StoppingCriteria

from llmkit.config.generate import Generate
from llmkit.errors import ModelError
from llmkit.generation.text_writer import TextWriter
from llmkit.tokens.tokenizer import encode_texts, end_of_text_id
