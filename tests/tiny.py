"""A tiny split of made-up ids and a tiny GPT-2, for tests of everything above the store."""

from pathlib import Path

import numpy as np
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from llmkit.tokens.store import Row, Split, write_split


def make_split(folder: Path, n_documents: int, length: int, seed: int = 0) -> Split:
    """A split of random ids from 1 to 49, each document ended by id 0."""
    rng = np.random.default_rng(seed)
    rows = [
        Row(np.append(rng.integers(1, 50, length - 1), 0).astype(np.uint16), "made up", n, 0, length, length, "")
        for n in range(n_documents)
    ]
    write_split(folder, rows, np.dtype(np.uint16))
    return Split(folder)


def make_gpt2(seed: int = 0, vocab_size: int = 50, n_positions: int = 16, dropout: float = 0.0) -> GPT2LMHeadModel:
    """Two layers, 32 wide."""
    torch.manual_seed(seed)
    config = GPT2Config(
        vocab_size=vocab_size,
        n_positions=n_positions,
        n_embd=32,
        n_layer=2,
        n_head=2,
        bos_token_id=0,
        eos_token_id=0,
        pad_token_id=0,
        resid_pdrop=dropout,
        embd_pdrop=dropout,
        attn_pdrop=0.0,
    )
    return GPT2LMHeadModel(config)
