"""Make the pictures of the README: docs/terminal.svg and docs/report.png, from one run of `llmkit demo`.

    python docs/pictures.py [--minutes 2] [--run runs/demo]

Needs chromium, and Shakespeare's plays as `make demo` installs them. `--run` takes a demo that was made before for the
report, and leaves the terminal as it is.
"""

import argparse
import os
import pty
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import TerminalTheme
from rich.text import Text

DOCS = Path(__file__).parent
COLUMNS = 110
THEME = TerminalTheme(
    (250, 250, 250),
    (36, 41, 47),
    [
        (36, 41, 47),
        (207, 34, 46),
        (17, 99, 41),
        (149, 90, 0),
        (9, 105, 218),
        (130, 80, 223),
        (27, 124, 131),
        (110, 119, 129),
    ],
)
_CONTROL = re.compile(r"\x1b\[([0-9;?]*)([A-Za-z])|\x1b\][^\x07]*\x07|([\r\n\b])")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=2)
    parser.add_argument("--run", type=Path)
    given = parser.parse_args()
    if given.run is not None:
        take_picture(given.run / "run/report.html", DOCS / "report.png")
        return
    with tempfile.TemporaryDirectory() as folder:
        command = ["demo", "-s", f"train.max_minutes={given.minutes:g}", "-s", "generate.max_new_tokens=80"]
        screen = read_screen(run_in_terminal([sys.executable, "-m", "llmkit", *command], Path(folder)))
        draw_terminal([f"$ llmkit {' '.join(command)}", *screen], DOCS / "terminal.svg")
        take_picture(Path(folder) / "runs/demo/run/report.html", DOCS / "report.png")


def run_in_terminal(command: list[str], folder: Path) -> str:
    """All that a command writes to a terminal of `COLUMNS` columns."""
    written = bytearray()

    def read(descriptor: int) -> bytes:
        data = os.read(descriptor, 65536)
        written.extend(data)
        return data

    os.environ |= {"COLUMNS": str(COLUMNS), "LINES": "40", "TERM": "xterm-256color", "PYTHONPATH": str(DOCS.parent)}
    os.chdir(folder)
    code = os.waitstatus_to_exitcode(pty.spawn(command, read))
    if code:
        sys.exit(code)
    return written.decode(errors="replace")


def read_screen(written: str) -> list[str]:
    """The lines that are left on the screen, with their colours as escape sequences."""
    lines: list[list[str]] = [[]]
    row = column = 0
    style = ""
    place = 0
    for match in [*_CONTROL.finditer(written), None]:
        for character in written[place : match.start() if match else None]:
            line = lines[row]
            line.extend(" " * (column + 1 - len(line)))
            line[column] = f"{style}{character}\x1b[0m" if style else character
            column += 1
        if match is None:
            break
        place = match.end()
        argument, letter, sign = match.groups()
        count = int(argument) if argument and argument.isdecimal() else 1
        if sign == "\n":
            row += 1
            lines += [[]] if row == len(lines) else []
        elif sign == "\r":
            column = 0
        elif sign == "\b":
            column = max(0, column - 1)
        elif letter == "K":
            del lines[row][0 if argument == "2" else column :]
        elif letter == "A":
            row = max(0, row - count)
        elif letter == "m":
            style = "" if argument in ("", "0") else f"{style}\x1b[{argument}m"
    shown = ["".join(line).rstrip() for line in lines]
    return [line for number, line in enumerate(shown) if line or (number and shown[number - 1])]


def draw_terminal(lines: list[str], path: Path) -> None:
    console = Console(record=True, width=COLUMNS, file=open(os.devnull, "w"), force_terminal=True)  # noqa: PTH123, SIM115
    for line in lines:
        console.print(Text.from_ansi(line), overflow="ellipsis", no_wrap=True)
    picture = console.export_svg(title="llmkit", theme=THEME)
    picture = re.sub(r"@font-face \{.*?\}", "", picture, flags=re.DOTALL)  # a font from elsewhere; monospace will do
    path.write_text(picture, encoding="utf-8")


def take_picture(page: Path, path: Path) -> None:
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        sys.exit("there is no chromium")
    with tempfile.TemporaryDirectory() as folder:
        options = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder}", "--hide-scrollbars"]
        size = ["--window-size=1000,760", f"--screenshot={path.resolve()}"]
        subprocess.run([chromium, *options, *size, page.resolve().as_uri()], check=True, capture_output=True)


if __name__ == "__main__":
    main()
