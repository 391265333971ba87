"""The cache of a model is found under the name that the installed transformers has for it."""

import torch
from tiny import make_gpt2

from llmkit.models.caches import CACHE, read_cache


def test_cache_of_a_model_of_transformers_is_read_and_taken_under_its_name() -> None:
    model = make_gpt2().eval()
    ids = torch.arange(8)[None]
    with torch.no_grad():
        whole = model(ids).logits
        cache = read_cache(model(ids[:, :5], use_cache=True))
        rest = model(ids[:, 5:], use_cache=True, **{CACHE: cache}).logits
    assert cache.get_seq_length() == 8
    assert torch.allclose(rest, whole[:, 5:], atol=1e-5)
