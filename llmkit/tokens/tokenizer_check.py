"""Check the files of a tokenizer before the tokenizers library opens them.

The library checks neither sizes nor patterns: an untrusted file can make it allocate all memory, run without end, or
panic. A panic is a BaseException that Python code does not expect, and prints a stack trace.

Common patterns are listed here; a tokenizer with other patterns is first tried in a process that can be ended
(pipeline_probe.py).
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from llmkit.core.errors import ModelError
from llmkit.text.cleaning.characters import LINE_ENDS
from llmkit.tokens import pipeline_probe

MAX_FILE_BYTES = 256 << 20
"""The largest known tokenizer.json, of 262,000 tokens, has 34 MB."""
MAX_ADDED_TOKENS = 200_000
MAX_IDS = 16_000_000
"""Ids must be below this number. The largest known vocabularies have a million entries."""
MAX_PROBE_SECONDS = 60
"""Wall-clock limit of a probe on a busy machine; its limit in CPU seconds is lower."""
_SUFFIXES = (".json", ".txt", ".model", ".tiktoken", ".jinja")
_STEPS = ("normalizer", "pre_tokenizer", "decoder")
_MAX_KNOWN_CONTENT = 1
"""Maximum number of characters that a step may insert without a probe."""
HINT = "restore the tokenizer's files from their source, or use another tokenizer"

_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_SHORT = (" ", "▁", "``", "''", "\n", " {2,}", r"\s+", r"[\r\n]", r"\p{N}", r"\p{N}{1,3}", r"\d{1,3}", r"\d")
_QWEN2 = _LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
# Chinese characters by code point: regex libraries disagree on \p{Han} (in PCRE2 it includes 、。「」), and a faster
# encoder must split where this one does.
HAN = "\u3005\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
# GPT-2's pattern (https://github.com/openai/gpt-2, encoder.py) with four changes. The length of every run is limited,
# so that text without spaces or punctuation is not slower. Chinese is separated from other letters and from a space
# before it. Combining marks stay with their letter (Hindi, Arabic, Thai). As in GPT-4, numbers are split into at most
# 3 digits.
BYTE_BPE_PATTERN = (
    r"'(?:[sdmt]|ll|ve|re)"
    rf"|[{HAN}]{{1,16}}"
    rf"| ?(?:[^\P{{L}}{HAN}]\p{{M}}{{0,8}}){{1,32}}"
    r"| ?\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]{1,16}"
    r"|\s{1,32}(?!\S)|\s{1,32}"
)
LATIN_ACCENTS = "(?<=\\p{Latin})\\p{Mn}+|\u0338"
"""Combining marks of decomposed text: those on Latin letters, and the stroke of ≠ (U+0338), which is the only mark that
NFC could join to a symbol in another chunk."""
UNSPACED_RUN = "(?:(?=\\p{L})[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff]\\p{M}*){1,16}"
"""1 to 16 letters of Thai, Lao, Burmese or Khmer, each with its marks. A match has no white space or punctuation, so
the next pre-tokenizer does not split it."""
FINAL_SIGMA_PATTERN = r"(?<=[\p{L}\p{M}])Σ(?![\p{L}\p{M}])"
_OWN = (BYTE_BPE_PATTERN, LATIN_ACCENTS, UNSPACED_RUN, LINE_ENDS.pattern, FINAL_SIGMA_PATTERN)
KNOWN_PATTERNS = frozenset({*_SHORT, *_OWN, _GPT2, _LLAMA3, _QWEN2})
"""Patterns that need no probe, which takes a quarter of a second."""


def check_tokenizer_files(find: Callable[[str], Path | None], shown: str) -> None:
    """Check the tokenizer.json of a model, and the sizes of the files beside it; `find` maps a name to its path.

    Raises:
        ModelError: a file is too large, the vocabulary cannot be real, or the pipeline fails or does not end.
    """
    path = find("tokenizer.json")
    if path is None or not path.parent.is_dir():
        return
    for each in path.parent.iterdir():
        if each.suffix in _SUFFIXES and each.is_file() and (n_bytes := each.stat().st_size) > MAX_FILE_BYTES:
            raise _refuse(f"{each.name} has {n_bytes:,} bytes, more than a tokenizer needs", f"{shown}/{each.name}")
    if not path.is_file():
        return
    where = f"{shown}/tokenizer.json"
    try:
        state = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        reason = "it is nested too deep" if isinstance(error, RecursionError) else f"it is not valid JSON: {error}"
        raise _refuse(f"cannot load a tokenizer: {reason}", where) from None
    if not isinstance(state, dict):
        raise _refuse("cannot load a tokenizer: the file holds no JSON object", where)
    added = state.get("added_tokens")
    added = [each for each in added if isinstance(each, dict)] if isinstance(added, list) else []
    if len(added) > MAX_ADDED_TOKENS:
        raise _refuse(f"there are {len(added):,} added tokens; at most {MAX_ADDED_TOKENS:,} are read", where)
    _check_ids(state.get("model"), added, where)
    if unknown := _find_unknown(state):
        contents = [str(each.get("content"))[:1000] for each in added if each.get("normalized")]
        _probe({key: state.get(key) for key in _STEPS}, [*unknown, *contents], where)


def _check_ids(model: Any, added: list[dict[str, Any]], where: str) -> None:
    """Check ids against the number of tokens, because ids are stored in the smallest dtype for this number."""
    vocab = model.get("vocab") if isinstance(model, dict) else None
    ids: list[Any] = [each.get("id") for each in added]
    if isinstance(vocab, dict):
        ids += vocab.values()
    elif isinstance(vocab, list):  # Unigram: the id is the index
        ids += range(len(vocab))
    if wrong := [each for each in ids if type(each) is not int or not 0 <= each < MAX_IDS][:1]:
        raise _refuse(f"{wrong[0]!r} is not the id of a token; ids are whole numbers from 0 to {MAX_IDS - 1:,}", where)
    largest, n_tokens = max(ids, default=0), len(set(ids))
    if largest >= 1 << 8 * _n_bytes(n_tokens - 1):
        raise _refuse(f"the largest id is {largest:,}, but there are only {n_tokens:,} tokens", where)


def _n_bytes(largest: int) -> int:
    return next(n for n in (1, 2, 4) if largest < 1 << 8 * n)


def _find_unknown(state: dict[str, Any]) -> list[str]:
    """Return texts for a probe: the unknown patterns, as texts that they may match. Empty if all steps are known."""
    found: list[str] = []
    for step in _walk([state.get(key) for key in _STEPS]):
        pattern, name = step.get("pattern"), step.get("type")
        is_long = name == "Prepend" and len(str(step.get("prepend"))) > _MAX_KNOWN_CONTENT
        if name == "Precompiled" or is_long:
            found.append("")
        elif name in ("Replace", "Split") and isinstance(pattern, dict):
            text = str(next(iter(pattern.values()), ""))
            content = str(step.get("content", ""))
            # Spaces around a mark, as in llmkit's word tokenizers, do not multiply a text.
            is_plain = "String" in pattern and (len(content) <= len(text) or content.strip(" ") == text)
            if not is_plain and (text not in KNOWN_PATTERNS or len(content) > _MAX_KNOWN_CONTENT):
                found += [text, text[:1000] * 20]
    return found


def _walk(value: Any) -> Iterator[dict[str, Any]]:
    for part in value.values() if isinstance(value, dict) else value:
        if isinstance(part, dict):
            yield part
        if isinstance(part, dict | list):
            yield from _walk(part)


def _probe(steps: dict[str, Any], texts: list[str], where: str) -> None:
    """Run the steps on the texts in another process. Raises ModelError if they fail, or use too much time or memory."""
    command = [sys.executable, "-I", pipeline_probe.__file__]
    request = json.dumps({"steps": steps, "texts": texts})
    try:
        done = subprocess.run(
            command, input=request.encode(), capture_output=True, timeout=MAX_PROBE_SECONDS, check=False
        )
        fault = json.loads(done.stdout)
    except (subprocess.TimeoutExpired, ValueError):
        limits = f"{pipeline_probe.MAX_CPU_SECONDS} seconds or {pipeline_probe.MAX_MEMORY_BYTES >> 20} MB"
        fault = f"its patterns need more than {limits} for a short text"
    if fault:
        raise _refuse(f"the tokenizer cannot be used: {fault}", f"{where}, {', '.join(filter(steps.get, steps))}")


def _refuse(what: str, where: str) -> ModelError:
    return ModelError(what, where=where, hint=HINT)


def is_panic(error: BaseException) -> bool:
    """Whether the error is a Rust panic, which is not an Exception and has no public class."""
    return type(error).__name__ == "PanicException"


@contextmanager
def catch_panics(what: str, where: str) -> Iterator[None]:
    """Convert a panic of the tokenizers library (a BaseException) and its errors (a bare Exception) to ModelError."""
    try:
        yield
    except BaseException as error:
        if not is_panic(error) and type(error) is not Exception:
            raise
        reason = (str(error).strip().splitlines() or ["the tokenizers library failed"])[0]
        raise _refuse(f"{what}: {reason}", where) from None


@contextmanager
def hide_panic_traces() -> Iterator[None]:
    """Buffer stderr, and discard it after a ModelError, because a panic prints its stack trace."""
    try:
        stream = os.dup(2)
    except OSError:  # closed
        yield
        return
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        except ModelError:
            held.truncate(0)
            raise
        finally:
            os.dup2(stream, 2)
            os.close(stream)
            held.seek(0)
            if text := held.read():
                os.write(2, text)
