"""Run the pipeline of a tokenizer on difficult texts, in a separate process with limits on time and memory.

A call of the tokenizers library cannot be interrupted, and a pattern that backtracks or a replacement that multiplies
the text makes it run without end or allocate all memory. tokenizer_check.py starts this file as a program; it imports
nothing of llmkit, so that it starts fast.

Reads {"steps": {"normalizer": ..., "pre_tokenizer": ..., "decoder": ...}, "texts": [...]} in JSON from stdin. Prints
what is wrong with the pipeline as a JSON string, which is empty if nothing is.
"""

import json
import re
import resource
import sys
from itertools import islice
from typing import Any

MAX_CPU_SECONDS = 5
MAX_MEMORY_BYTES = 1 << 29
RUN_CHARS = 2000
MAX_GROWTH = 100
"""Maximum length of a normalized text relative to its original. NFKD turns one character into 18."""
MIN_BOUNDED_CHARS = 10_000

RUNS = (
    *("a", "Z", "q", "é", "0", " ", "\n", "\t", "_", "-", ".", "!", "'", "<"),
    *("中", "ا", "e\u0301", "👩\u200d", "ab", "a ", "a1"),
    *("α", "ж", "か", "가", "ก", "٣", "$", "(", "\x01", "\u200b"),
)
MAX_OWN_RUNS = 200
TEXTS = (
    *(run * RUN_CHARS + end for run in RUNS for end in ("", "!", "\n", "b")),
    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789" * 20,
    "".join(map(chr, range(1, 0x600))),
    "It's 3.14, she'll say: “don't”\r\n\n\t\tx = y[0] + 'ß' # 中文，日本語 हिन्दी ไทย <s>[MASK]</s> " * 20,
)


def make_texts(pattern: str) -> list[str]:
    """Return long runs of characters, and of each letter and word of a pattern, each followed by the pattern itself.

    The pattern is added because a search ends at once in a text that lacks a literal of the pattern.
    """
    if not pattern:
        return []
    words = dict.fromkeys([*RUNS, *re.findall(r"\w", pattern), *re.findall(r"(?<!\\)\w{2,}", pattern)])
    runs = [word * (RUN_CHARS // len(word)) for word in islice(words, MAX_OWN_RUNS) if len(word) < RUN_CHARS]
    return [f"{run}!{pattern[:RUN_CHARS]}" for run in runs]


def find_fault(steps: dict[str, Any], texts: list[str]) -> str:
    """Return what is wrong with the steps of a tokenizer; empty if they handle all texts."""
    from tokenizers import Tokenizer

    model = {"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "a"}
    tokenizer = Tokenizer.from_str(json.dumps({"version": "1.0", "added_tokens": [], "model": model} | steps))
    long = [each for text in texts if len(text) < RUN_CHARS for each in make_texts(text)]
    for text in [*texts, *TEXTS, *long]:
        normalized = text if tokenizer.normalizer is None else tokenizer.normalizer.normalize_str(text)
        if len(normalized) > MIN_BOUNDED_CHARS + MAX_GROWTH * len(text):
            return f"its normalizer turns {len(text):,} characters into {len(normalized):,}"
        if tokenizer.pre_tokenizer is not None:
            tokenizer.pre_tokenizer.pre_tokenize_str(normalized)
        if tokenizer.decoder is not None and text:
            decoded = tokenizer.decoder.decode([text, text[:10]])
            if len(decoded) > MIN_BOUNDED_CHARS + MAX_GROWTH * len(text):
                return f"its decoder turns {len(text):,} characters into {len(decoded):,}"
    return ""


def main() -> None:
    """Limit this process, and print the fault of the pipeline that is read from stdin."""
    resource.setrlimit(resource.RLIMIT_CPU, (MAX_CPU_SECONDS, MAX_CPU_SECONDS))
    resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY_BYTES, MAX_MEMORY_BYTES))
    request = json.load(sys.stdin)
    try:
        fault = find_fault(request["steps"], request["texts"])
    except BaseException as error:  # a panic of the library is not an Exception
        fault = f"it fails on ordinary text: {(str(error).splitlines() or [type(error).__name__])[0]}"
    print(json.dumps(fault))


if __name__ == "__main__":
    main()
