"""The `llmkit` command and `python -m llmkit`: signal handlers are installed before slow imports."""

import gc
import os
import signal
from types import FrameType
from typing import NoReturn


def main() -> NoReturn:
    """Run the command line; exit codes are those of errors.py."""
    from llmkit.core.process import handled_signals

    for number in handled_signals():
        signal.signal(number, _leave)
    # Imports create a million permanent objects; garbage collection took an eighth of the start-up time.
    gc.set_threshold(50_000, 50)
    from llmkit.cli.app import main  # takes a third of a second

    main()


def _leave(number: int, frame: FrameType | None) -> None:
    """Exit at once: nothing has started yet, and an exception in the middle of an import may be swallowed."""
    os.write(2, f"stopped by {signal.Signals(number).name}; nothing had started\n".encode())
    os._exit(128 + number)


if __name__ == "__main__":
    main()
