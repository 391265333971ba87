"""A tiny split of made-up ids, tiny models and tiny labelled files, for tests of everything above the store."""

import csv
import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import ByteLevelBPETokenizer
from torch import Tensor, nn
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertForPreTraining,
    BertTokenizer,
    GPT2Config,
    GPT2LMHeadModel,
    ModernBertConfig,
    ModernBertForMaskedLM,
    PreTrainedTokenizerFast,
)

from llmkit.config.mlm import Mlm
from llmkit.datasets.masking import MaskVocabulary
from llmkit.datasets.pairs import Pairs, SentenceObjective
from llmkit.datasets.sentences import Sentences
from llmkit.models.recurrent import RecurrentConfig, RecurrentForCausalLM
from llmkit.models.transformer import TransformerConfig, TransformerForCausalLM
from llmkit.tokens.store import Row, Split, write_split

Bert = BertForPreTraining | BertForMaskedLM
SUM_ORDER = {"rel": 10 * 64**0.5 * 2**-23, "abs": 2e-6}
"""For `pytest.approx`: how near two fp32 computations of one figure are that add up in other orders.

The cut of batches, padding, threads and the CPU's instructions decide the order. A tiny model makes about ten sums one
after the other, of at most 64 terms, whose rounding errors add up as a random walk does; logs round to six decimals.
"""


def digests(folder: Path) -> dict[str, str]:
    """SHA-256 of every file, by its path in the folder."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def assert_same_figures(found: Any, expected: Any, where: str = "") -> None:
    """Metrics, nested as they may be: numbers with a point up to the order of their sums, all else exactly."""
    if isinstance(found, dict) and isinstance(expected, dict):
        assert found.keys() == expected.keys(), where
        for name in expected:
            assert_same_figures(found[name], expected[name], f"{where}.{name}")
    elif isinstance(found, list) and isinstance(expected, list):
        assert len(found) == len(expected), where
        for place, (mine, its) in enumerate(zip(found, expected, strict=True)):
            assert_same_figures(mine, its, f"{where}[{place}]")
    elif isinstance(found, float) and isinstance(expected, float):
        assert found == pytest.approx(expected, **SUM_ORDER), where
    else:
        assert found == expected, where


def assert_same_weights(left: dict[str, Tensor], right: dict[str, Tensor]) -> None:
    """Every bit of them."""
    assert left.keys() == right.keys()
    for name in left:
        assert torch.equal(left[name], right[name]), name


def make_split(folder: Path, n_documents: int, length: int, seed: int = 0) -> Split:
    """A split of random ids from 1 to 49, each document ended by id 0."""
    rng = np.random.default_rng(seed)
    rows = [
        Row(np.append(rng.integers(1, 50, length - 1), 0).astype(np.uint16), "made up", n, 0, length, length, "")
        for n in range(n_documents)
    ]
    write_split(folder, rows, np.dtype(np.uint16))
    return Split(folder)


def make_sentence_split(
    folder: Path, documents: list[list[list[list[int]]]], continues: set[int] = frozenset()
) -> Split:
    """A split of documents, each a list of parts, each a list of sentences of ids; 3 ([SEP]) ends each document.

    Ids in `continues` go on with the word before them.
    """
    rows = []
    for index, parts in enumerate(documents):
        for part, sentences in enumerate(parts):
            ids = [token for sentence in sentences for token in sentence] + [3] * (part == len(parts) - 1)
            ends = np.cumsum([len(sentence) for sentence in sentences], dtype=np.int64)
            joints = np.isin(ids, list(continues))
            rows.append(Row(np.array(ids, np.uint16), "made up", index, part, 9, 9, "", ends, joints))
    write_split(folder, rows, np.dtype(np.uint16), sentences=True)
    return Split(folder)


def make_documents(n_documents: int, n_parts: int, n_sentences: int, seed: int = 0) -> list[list[list[list[int]]]]:
    """Documents for `make_sentence_split`: sentences of 3 to 20 ids between 5 and 99."""
    rng = np.random.default_rng(seed)
    return [
        [[rng.integers(5, 100, rng.integers(3, 21)).tolist() for _ in range(n_sentences)] for _ in range(n_parts)]
        for _ in range(n_documents)
    ]


def make_pairs(
    split: Split, sentence_objective: SentenceObjective = "nsp", block_size: int = 64, seed: int = 0, **more: float
) -> Pairs:
    """Examples with [CLS] 2, [SEP] 3, [MASK] 4 and ordinary ids from 5 to 99."""
    vocabulary = MaskVocabulary(4, np.arange(5, 100), np.arange(100) < 5)
    mlm = Mlm(sentence_objective=sentence_objective, **more)
    return Pairs(Sentences(split), vocabulary, 2, 3, block_size, seed, mlm)


def make_bert(kind: type[Bert] = BertForPreTraining, seed: int = 0, dropout: float = 0.0, **more: float) -> Bert:
    """Two layers, 32 wide, 100 ids."""
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=100, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
        max_position_embeddings=64, hidden_dropout_prob=dropout, attention_probs_dropout_prob=0.0, **more,
    )  # fmt: skip
    return kind(config)


def make_modernbert(seed: int = 0, vocab_size: int = 100, **more: Any) -> ModernBertForMaskedLM:
    """Two layers, the second of near tokens, 32 wide; [PAD] 0, [CLS] 2, [SEP] 3."""
    torch.manual_seed(seed)
    config = ModernBertConfig(
        vocab_size=vocab_size, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
        max_position_embeddings=64, pad_token_id=0, bos_token_id=2, eos_token_id=3, cls_token_id=2, sep_token_id=3,
        **more,
    )  # fmt: skip
    return ModernBertForMaskedLM(config)


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


def make_recurrent(cell: str = "gru", seed: int = 0, scale: float = 1.0, **more: object) -> RecurrentForCausalLM:
    """Two layers, 24 wide, 50 ids; `scale` makes its weights larger, so that its texts differ."""
    torch.manual_seed(seed)
    config = RecurrentConfig(cell=cell, vocab_size=50, embedding_size=24, hidden_size=24, pad_token_id=0, **more)
    model = RecurrentForCausalLM(config)
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(scale)
    return model


class PlainRecurrent(nn.Module):
    """The same as `make_recurrent` in a few lines of plain torch: token ids and a state to logits and a state."""

    def __init__(self, model: RecurrentForCausalLM) -> None:
        super().__init__()
        self.embedding = nn.Embedding(50, 24)
        self.cells = (nn.GRU if model.config.cell == "gru" else nn.LSTM)(24, 24, num_layers=2, batch_first=True)
        self.bias = nn.Parameter(model.lm_head.bias.detach().clone())
        self.embedding.weight.data.copy_(model.model.embed_tokens.weight)
        for name, weight in self.cells.named_parameters():
            stem, _, number = name.rpartition("_l")
            weight.data.copy_(model.model.layers[int(number)].get_parameter(f"{stem}_l0"))

    def forward(self, ids: Tensor, state: object = None) -> tuple[Tensor, object]:
        hidden, state = self.cells(self.embedding(ids), state)
        return hidden @ self.embedding.weight.T + self.bias, state

    def gradients(self) -> dict[str, Tensor]:
        """By the names that `RecurrentForCausalLM` has for them."""
        found = {"model.embed_tokens.weight": self.embedding.weight.grad, "lm_head.bias": self.bias.grad}
        for name, weight in self.cells.named_parameters():
            stem, _, number = name.rpartition("_l")
            found[f"model.layers.{number}.{stem}_l0"] = weight.grad
        return found


def make_transformer(seed: int = 0, dropout: float = 0.0, **more: object) -> TransformerForCausalLM:
    """Two layers, 32 wide, 50 ids."""
    torch.manual_seed(seed)
    config = TransformerConfig(
        vocab_size=50, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, max_position_embeddings=64,
        dropout=dropout, pad_token_id=0, **more,
    )  # fmt: skip
    return TransformerForCausalLM(config)


SPAM = ["win", "free", "cash", "prize", "claim", "now"]
HAM = ["home", "dinner", "soon", "love", "meet", "later"]
FILLER = [
    *"ai",
    "the",
    "you",
    "to",
    "and",
    "is",
    "at",
    "on",
    "for",
    "call",
    "day",
    "time",
    "good",
    "please",
    "this",
    "we",
]


def make_messages(n_rows: int, seed: int = 0) -> list[tuple[str, str]]:
    """(text, label), ham and spam in turn: words that tell, among words that do not."""
    rng = np.random.default_rng(seed)
    rows = []
    for row in range(n_rows):
        words = [*rng.choice(SPAM if row % 2 else HAM, 3), *rng.choice(FILLER, rng.integers(2, 8))]
        rows.append((" ".join(rng.permutation(words)) + f" {row}", "spam" if row % 2 else "ham"))
    return rows


def write_table(path: Path, rows: Iterable[Sequence[object]], names: Sequence[str] = ("text", "label")) -> str:
    """A .csv; gives its path as commands take it."""
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([names, *rows])
    return str(path)


def save_bert(folder: Path, seed: int = 0) -> str:
    """`make_bert` with a tokenizer of words and letters, as `--model` takes it."""
    folder.mkdir(parents=True)
    letters = "abcdefghijklmnopqrstuvwxyz0123456789"
    pieces = [*letters, *(f"##{letter}" for letter in letters)]
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *".,!?", *pieces, *SPAM, *HAM]
    (folder / "vocab.txt").write_text("\n".join([*tokens, *(word for word in FILLER if len(word) > 1)]))
    tokenizer = BertTokenizer(str(folder / "vocab.txt"))
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
        max_position_embeddings=64, initializer_range=0.2,
    )  # fmt: skip
    BertForMaskedLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def save_gpt2(folder: Path, seed: int = 0) -> str:
    """A GPT-2 of the same size whose tokenizer of bytes has no token but the end of text."""
    backend = ByteLevelBPETokenizer()
    backend.train_from_iterator([" ".join(["", *SPAM, *HAM, *FILLER])] * 3, 350, special_tokens=["<|endoftext|>"])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend._tokenizer, eos_token="<|endoftext|>", bos_token="<|endoftext|>"
    )
    torch.manual_seed(seed)
    end = tokenizer.eos_token_id
    config = GPT2Config(
        vocab_size=len(tokenizer), n_positions=64, n_embd=32, n_layer=2, n_head=2, bos_token_id=end, eos_token_id=end,
        initializer_range=0.05,
    )  # fmt: skip
    GPT2LMHeadModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def make_tagged(n_rows: int, seed: int = 0) -> list[tuple[list[str], list[str]]]:
    """(words, BIO tags): one or two words of SPAM are a PRIZE, one word of HAM is a PLAN, FILLER is outside."""
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(n_rows):
        words, tags = [], []
        for kind, names in (("PRIZE", SPAM), ("PLAN", HAM)):
            n_outside, n_inside = rng.integers(1, 4), rng.integers(1, 3) if kind == "PRIZE" else 1
            words += [*rng.choice(FILLER, n_outside), *rng.choice(names, n_inside)]
            tags += ["O"] * n_outside + [f"B-{kind}", *[f"I-{kind}"] * (n_inside - 1)]
        rows.append(([str(word) for word in words], tags))
    return rows


def write_conll(path: Path, rows: Iterable[tuple[Sequence[str], Sequence[str]]]) -> str:
    """A file of words and tags; gives its path as commands take it."""
    lines = ["".join(f"{word}\t{tag}\n" for word, tag in zip(*row, strict=True)) for row in rows]
    path.write_text("\n".join(lines), encoding="utf-8")
    return str(path)


class TokenIds(SimpleNamespace):
    """What a model's configuration takes from a tokenizer."""

    def __len__(self) -> int:
        return int(self.n)


def make_token_ids(n: int = 97, bos: int | None = 5) -> Any:
    return TokenIds(n=n, bos_token_id=bos, eos_token_id=5, pad_token_id=6, cls_token_id=None, sep_token_id=None)
