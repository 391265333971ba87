"""Turn a growing row of token ids into text that never has to be taken back.

A token may end inside a character (three bytes make one of 却说) and inside a stop string. Both are held back until it
is known what they become, so what was given out, once put together, is the whole text.

Knows nothing of models; generate.py feeds it.
"""

from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

from llmkit.tokens.tokenizer import line_end_id

# Enough tokens before the text for a decoder to see whether a space stands between prompt and text.
PROMPT_TOKENS_SEEN = 8

_REPLACEMENT_CHARACTER = "\ufffd"


class TextWriter:
    """The text that follows a prompt, token by token, up to the first stop string."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, prompt_ids: Sequence[int], stop: Sequence[str]) -> None:
        self._tokenizer = tokenizer
        self._line_end = line_end_id(tokenizer)
        self._stop = tuple(stop)
        self._window = list(prompt_ids[-PROMPT_TOKENS_SEEN:])
        self._n_read = len(self._window)  # of the window's ids, those whose text was given out
        self._read = self._decode(self._window)
        self._held = ""
        self._given: list[str] = []
        self.stopped = False
        """Whether a stop string was found; the text ends before it and takes no more tokens."""

    @property
    def text(self) -> str:
        """All that was given out so far."""
        return "".join(self._given)

    def write(self, *token_ids: int) -> str:
        """Take the next tokens; give the text that is certain now, which may be empty."""
        self._window += token_ids
        whole = self._decode(self._window)
        if whole.endswith(_REPLACEMENT_CHARACTER) or len(whole) <= len(self._read):
            return ""
        new = whole[len(self._read) :]
        del self._window[: self._n_read]
        self._n_read = len(self._window)
        self._read = self._decode(self._window)
        return self._give(new, is_last=False)

    def finish(self) -> str:
        """Give what was held back: no more tokens follow."""
        new = self._decode(self._window)[len(self._read) :]
        return self._give(new, is_last=True)

    def _give(self, new: str, *, is_last: bool) -> str:
        if self.stopped:
            return ""
        text = self._held + new
        found = [at for at in map(text.find, self._stop) if at >= 0]
        if found:
            self.stopped = True
            text, self._held = text[: min(found)], ""
        else:
            n_held = 0 if is_last else self._start_of_a_stop(text)
            text, self._held = text[: len(text) - n_held], text[len(text) - n_held :]
        self._given.append(text)
        return text

    def _start_of_a_stop(self, text: str) -> int:
        """How many characters at the end of the text may be the beginning of a stop string."""
        longest = min(len(text), max(map(len, self._stop), default=1) - 1)
        return next((n for n in range(longest, 0, -1) if any(s.startswith(text[-n:]) for s in self._stop)), 0)

    def _decode(self, ids: list[int]) -> str:
        lines: list[list[int]] = [[]]
        for token_id in ids:
            if token_id == self._line_end:  # word-level tokenizers decode it to nothing
                lines.append([])
            else:
                lines[-1].append(token_id)
        return "\n".join(
            str(self._tokenizer.decode(line, skip_special_tokens=True, clean_up_tokenization_spaces=False))
            for line in lines
        )
