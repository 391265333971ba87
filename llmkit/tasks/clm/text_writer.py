"""Decode a growing sequence of token ids into text incrementally.

A token may end inside a character (每 has three bytes) or inside a stop string. Such text is held back until more
tokens resolve it, so the joined pieces equal the complete text.

Independent of models; generation.py passes the tokens.
"""

from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

from llmkit.tokens.tokenizer import line_end_id

# Enough context for a decoder to see whether there is a space between prompt and text.
PROMPT_TOKENS_SEEN = 8

_REPLACEMENT_CHARACTER = "\ufffd"


class TextWriter:
    """The text that follows a prompt, token by token, up to the first stop string."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, prompt_ids: Sequence[int], stop: Sequence[str]) -> None:
        self._tokenizer = tokenizer
        self._line_end = line_end_id(tokenizer)
        self._stop = tuple(stop)
        self._window = list(prompt_ids[-PROMPT_TOKENS_SEEN:])
        self._n_read = len(self._window)  # ids of the window whose text was emitted
        self._read = self._decode(self._window)
        self._held = ""
        self._emitted: list[str] = []
        self.stopped = False
        """Whether a stop string occurred; the text ends before it."""

    @property
    def text(self) -> str:
        """Return the text emitted so far."""
        return "".join(self._emitted)

    def write(self, *token_ids: int) -> str:
        """Add tokens; returns the text that is now final, possibly empty."""
        self._window += token_ids
        whole = self._decode(self._window)
        if whole.endswith(_REPLACEMENT_CHARACTER) or len(whole) <= len(self._read):
            return ""
        new = whole[len(self._read) :]
        del self._window[: self._n_read]
        self._n_read = len(self._window)
        self._read = self._decode(self._window)
        return self._emit(new, is_last=False)

    def finish(self) -> str:
        """Return the text that was held back; no more tokens follow."""
        new = self._decode(self._window)[len(self._read) :]
        return self._emit(new, is_last=True)

    def _emit(self, new: str, *, is_last: bool) -> str:
        if self.stopped:
            return ""
        text = self._held + new
        stops = [at for at in map(text.find, self._stop) if at >= 0]
        if stops:
            self.stopped = True
            text, self._held = text[: min(stops)], ""
        else:
            n_held = 0 if is_last else self._stop_prefix_length(text)
            text, self._held = text[: len(text) - n_held], text[len(text) - n_held :]
        self._emitted.append(text)
        return text

    def _stop_prefix_length(self, text: str) -> int:
        """Return the number of characters at the end of the text that may begin a stop string."""
        longest = min(len(text), max(map(len, self._stop), default=1) - 1)
        return next((n for n in range(longest, 0, -1) if any(s.startswith(text[-n:]) for s in self._stop)), 0)

    def _decode(self, ids: list[int]) -> str:
        lines: list[list[int]] = [[]]
        for token_id in ids:
            if token_id == self._line_end:  # word-level tokenizers decode it to an empty string
                lines.append([])
            else:
                lines[-1].append(token_id)
        return "\n".join(
            str(self._tokenizer.decode(line, skip_special_tokens=True, clean_up_tokenization_spaces=False))
            for line in lines
        )
