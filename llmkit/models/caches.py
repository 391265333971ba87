"""What a causal model keeps of what it has read, under the name that the installed transformers has for it.

transformers 5.24 renamed `past_key_values` to `cache`, in every model, its output and `generate`.
"""

from typing import Any

from transformers.modeling_outputs import BaseModelOutputWithPast

CACHE = "cache" if "cache" in BaseModelOutputWithPast.__dataclass_fields__ else "past_key_values"
"""As a keyword argument of models, and as a field of what they return."""


def read_cache(output: Any) -> Any:
    """The cache in a model's output."""
    return getattr(output, CACHE)
