"""A time limit for calls of the tokenizers library, which cannot be interrupted.

The time that a tokenizer needs may grow with the square of a text's length: for regular expressions that search for an
end that is not there, or for words of any length in WordPiece. Only the tokenizer knows where such a text may be cut,
so the text is refused.

The call runs in a thread. After the limit the caller gets an error, and the thread ends with the process.
"""

import threading
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

from llmkit.core.errors import ModelError
from llmkit.core.machine import require_address_space

T = TypeVar("T")

MIN_CHARACTERS = 1_000
"""Texts with fewer characters in total need no limit: pipeline_probe.py has tried longer ones."""
CPU_SECONDS = 20.0
CPU_SECONDS_PER_CHARACTER = 30e-6
"""`tokenizers` needs less than one microsecond per character, or three with the slowest normalizers."""
BYTES_PER_CHARACTER = 240
"""Memory of an Encoding."""
_CHECK_SECONDS = 0.2


class EncodingTooSlow(ModelError):  # noqa: N818 - as the other errors
    """A tokenizer exceeds the time limit."""


def run_limited(encode: Callable[[], T], texts: Sequence[str], tokenizer: str) -> T:
    """Return the result of `encode`, which encodes the texts with the named tokenizer.

    Raises:
        EnvironmentFault: the encodings need more memory than this process may use.
        EncodingTooSlow: the call exceeds the limit in wall-clock time and in CPU time of the process. One alone may
            be too high: the clock runs on while the process is stopped, and other threads use CPU time.
    """
    n_characters = sum(map(len, texts))
    require_address_space(BYTES_PER_CHARACTER * n_characters, "encoding text")
    if n_characters < MIN_CHARACTERS:
        return encode()
    results: list[T] = []
    errors: list[BaseException] = []
    is_done = threading.Event()

    def work() -> None:
        try:
            results.append(encode())
        except BaseException as error:  # a panic of the library is not an Exception
            errors.append(error)
        is_done.set()

    limit = CPU_SECONDS + CPU_SECONDS_PER_CHARACTER * n_characters
    cpu_start, start = time.process_time(), time.monotonic()
    threading.Thread(target=work, daemon=True).start()
    while not is_done.wait(_CHECK_SECONDS):
        if min(time.process_time() - cpu_start, time.monotonic() - start) > limit:
            raise _refuse(texts, n_characters, limit, tokenizer)
    if errors:
        raise errors[0]
    return results[0]


def _refuse(texts: Sequence[str], n_characters: int, limit: float, tokenizer: str) -> EncodingTooSlow:
    longest = max(texts, key=len)
    start = longest[:40].partition("\n")[0]
    what = f"the tokenizer needs more than {limit:.0f} CPU seconds for {n_characters:,} characters"
    hint = f"cut the longest text, of {len(longest):,} characters ({start!r}...), or use another tokenizer"
    return EncodingTooSlow(what, where=tokenizer or "tokenizer.json", hint=hint)
