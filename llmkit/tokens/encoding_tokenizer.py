"""A tokenizer without transformers: what turning text into ids needs, as one JSON file that workers load in no time."""

import hashlib
import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

from tokenizers import Tokenizer

from llmkit.core.files import write_json
from llmkit.tokens.tokenizer import backend_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True, eq=False)
class EncodingTokenizer:
    """What turning text into ids needs of a tokenizer, which workers load without transformers."""

    backend_tokenizer: Tokenizer
    state: str
    """The backend as JSON; it neither cuts nor pads a text."""
    is_byte_level_bpe: bool
    """Whether the tokenizer is of GPT-2's kind."""
    n_tokens: int
    """Added ones too."""
    eos_token_id: int | None
    unk_token_id: int | None
    all_special_tokens: list[str]
    name_or_path: str

    def __len__(self) -> int:
        return self.n_tokens


def make_encoding_tokenizer(tokenizer: "PreTrainedTokenizerBase") -> EncodingTokenizer:
    """The same tokenizer, as it is now. ModelError if it has no fast backend."""
    backend = backend_of(tokenizer)
    state = json.loads(backend.to_str()) | {"truncation": None, "padding": None}
    steps = state["pre_tokenizer"] or {}
    kinds = {step["type"] for step in steps.get("pretokenizers", [steps]) if step}
    return EncodingTokenizer(
        backend,
        json.dumps(state, ensure_ascii=False),
        bool(state["model"]["type"] == "BPE" and "ByteLevel" in kinds),
        len(tokenizer),
        tokenizer.eos_token_id,
        tokenizer.unk_token_id,
        list(tokenizer.all_special_tokens),
        str(tokenizer.name_or_path),
    )


def save_encoding_tokenizer(tokenizer: "PreTrainedTokenizerBase", folder: Path) -> Path:
    """Write a file in `folder` for `load_encoding_tokenizer`; its name is unique to the tokenizer."""
    bare = make_encoding_tokenizer(tokenizer)
    kept = {field.name: getattr(bare, field.name) for field in fields(bare) if field.name != "backend_tokenizer"}
    path = folder / f"tokenizer-{hashlib.sha256(json.dumps(kept).encode()).hexdigest()[:16]}.json"
    write_json(path, kept)
    _loaded.clear()
    _loaded[path] = bare
    return path


def load_encoding_tokenizer(path: Path) -> EncodingTokenizer:
    """What `save_encoding_tokenizer` wrote; the process that wrote it keeps it, another one reads it once."""
    if path not in _loaded:
        kept = json.loads(path.read_text(encoding="utf-8"))
        _loaded.clear()
        _loaded[path] = EncodingTokenizer(Tokenizer.from_str(kept["state"]), **kept)
    return _loaded[path]


_loaded: dict[Path, EncodingTokenizer] = {}
"""The last one."""
