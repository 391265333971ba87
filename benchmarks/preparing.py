"""Plain text to packed tokens: llmkit's `prepare` beside run_clm.py's way, with a GPT-2 tokenizer, in turn.

    python benchmarks/preparing.py --megabytes 500 --json preparing.json

The text is Python's own documentation (or --books), paragraphs in another order in each file of half a megabyte, each
with a number of its own. The tokenizer has GPT-2's pattern and 50,257 entries, trained on that text, or is
--tokenizer. llmkit's time is that of the whole command: start, reading, cleaning, exact de-duplication, splitting,
comparing the splits, tokenizing, storing, hashing. The peer's is without its start, on --peer-megabytes of the same
files, as its rate does not change. `memory` is the most that llmkit and its workers held for themselves together;
`tokenizing alone` is the encoder that prepare chose, on text in memory. Run it on an idle machine.
"""

import argparse
import subprocess
import sys
import tempfile
import threading
import time
from functools import partial
from pathlib import Path

import psutil
from prepare_engines import FILE_BYTES, write_text
from tokenizers import ByteLevelBPETokenizer
from transformers import AutoTokenizer, PreTrainedTokenizerFast
from turns import Row, call_peer, finish, make_row, take_turns

from llmkit.config.prepare import Read
from llmkit.text.readers import read_documents
from llmkit.tokens.fast_encoding import choose_encoder

WATCH_SECONDS = 0.1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--books", type=Path, nargs="+", help="text files; default: Python's documentation")
    parser.add_argument("--tokenizer", type=Path, help="a folder with GPT-2's tokenizer")
    parser.add_argument("--megabytes", type=int, default=500)
    parser.add_argument("--peer-megabytes", type=int, default=25)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--json", type=Path, help="write the figures there too")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        finish(measure(options, Path(place)), options)


def measure(options: argparse.Namespace, folder: Path) -> list[Row]:
    text = folder / "text"
    write_text(options.books or [write_documentation(folder / "python.txt")], text, options.megabytes * 1_000_000)
    tokenizer = options.tokenizer or train_tokenizer(text, folder / "tokenizer")
    memory: list[float] = []

    def prepare() -> float:
        rate, peak = run_prepare(text, tokenizer, folder / "out")
        memory.append(peak)
        return rate

    n_files = max(1, options.peer_megabytes * 1_000_000 // FILE_BYTES)
    peer = partial(call_peer, "run_clm_prepare.py", text, "--tokenizer", tokenizer, "--files", n_files)
    figures = take_turns({"llmkit": prepare, "run_clm's way": lambda: peer()["megabytes_a_second"]}, options.rounds)
    alone = take_turns(
        {
            "llmkit": partial(encode_alone, text, tokenizer),
            "tokenizers": partial(encode_alone, text, tokenizer, slow=True),
        },
        options.rounds,
    )
    print(f"memory: {max(memory):,.0f} MB", file=sys.stderr)
    return [
        make_row(f"prepare, {options.megabytes} MB", figures, unit="MB/s"),
        make_row("tokenizing alone", alone, unit="MB/s"),
    ]


def write_documentation(path: Path) -> Path:
    documents = read_documents(["builtin:python-docs"], Read(), [])
    path.write_text("\n\n".join(document.text for document in documents), encoding="utf-8")
    return path


def train_tokenizer(text: Path, folder: Path) -> Path:
    """Byte-level BPE with GPT-2's own pattern."""
    trained = ByteLevelBPETokenizer()
    trained.train([str(path) for path in sorted(text.glob("*.txt"))[:20]], vocab_size=50_257, show_progress=False)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=trained._tokenizer, eos_token="<|endoftext|>")
    tokenizer.save_pretrained(folder)
    return folder


def run_prepare(text: Path, tokenizer: Path, out: Path) -> tuple[float, float]:
    """Megabytes a second of the whole command, and the most memory of its processes together, in MB."""
    words = ["prepare", str(text), "--out", str(out), "--overwrite", "-s", f"prepare.tokenizer.path={tokenizer}"]
    n_bytes = sum(path.stat().st_size for path in text.glob("*.txt"))
    started = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "llmkit", *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    peaks: list[float] = [0.0]
    watcher = threading.Thread(target=watch_memory, args=(process, peaks))
    watcher.start()
    if process.wait():
        raise SystemExit(f"llmkit {' '.join(words)} ended with exit code {process.returncode}")
    seconds = time.perf_counter() - started
    watcher.join()
    return n_bytes / 1e6 / seconds, max(peaks)


def watch_memory(process: subprocess.Popen[bytes], peaks: list[float]) -> None:
    """Append what the process and its children hold for themselves, until it ends."""
    while process.poll() is None:
        total = 0
        try:
            parent = psutil.Process(process.pid)
            for each in (parent, *parent.children(recursive=True)):
                total += each.memory_full_info().uss
            peaks.append(total / 1e6)
        except psutil.Error:  # one has just ended, or nobody may look
            pass
        time.sleep(WATCH_SECONDS)


def encode_alone(text: Path, tokenizer: Path, *, slow: bool = False) -> float:
    """Megabytes a second of encoding what is in memory already, checks not counted."""
    files = [str(path) for path in sorted(text.glob("*.txt"))[: 4 if slow else 100]]
    opened = AutoTokenizer.from_pretrained(tokenizer)
    documents = list(read_documents(files, Read(), []))
    texts = [document.text for document in documents]
    if slow:
        from llmkit.tokens.tokenizer import encode_texts

        encode = partial(encode_texts, opened)
    else:
        encode = choose_encoder(opened, documents)
    started = time.perf_counter()
    for start in range(0, len(texts), 8):
        encode(texts[start : start + 8])
    return sum(len(each.encode()) for each in texts) / 1e6 / (time.perf_counter() - started)


if __name__ == "__main__":
    main()
