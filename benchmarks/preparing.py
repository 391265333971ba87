"""Plain text to packed tokens: `llmkit prepare` compared with run_clm.py's preprocessing, with a GPT-2 tokenizer.

    python benchmarks/preparing.py --megabytes 500 --json preparing.json
    python benchmarks/preparing.py --text one-file --megabytes 300
    python benchmarks/preparing.py --text chinese --books BOOKS... --megabytes 200
    python benchmarks/preparing.py --text small-files --files 100000

The text is Python's own documentation (or --books): shuffled, numbered paragraphs in files of half a megabyte.
`one-file` concatenates them; `chinese` writes files of half a megabyte from lines of --books with two random characters
replaced; `small-files` are of about a kilobyte, in nested folders. For these three only `prepare` is measured, in MB
(or files) per second, with the CPU seconds of all its processes. The tokenizer is trained on the text with GPT-2's
pattern and a vocabulary of 50,257, or is --tokenizer. llmkit's time is that of the whole command: start-up, reading,
cleaning, exact de-duplication, splitting, comparing the splits, tokenizing, storing and hashing. The peer's time
excludes start-up, on --peer-megabytes of the same files, as its rate is constant. `memory` is the peak private memory
of llmkit and its workers together; `tokenizing alone` is the encoder that prepare chose, on text in memory. Run it on
an idle machine.
"""

import argparse
import random
import resource
import subprocess
import sys
import tempfile
import threading
import time
from functools import partial
from pathlib import Path

import psutil
from prepare_engines import FILE_BYTES, read_paragraphs, write_text
from tokenizers import ByteLevelBPETokenizer
from transformers import AutoTokenizer, PreTrainedTokenizerFast
from turns import Row, call_peer, finish, make_row, take_turns

from llmkit.config.prepare import Read
from llmkit.text.readers import read_documents
from llmkit.tokens.fast_encoding import check_encoder, make_encoder, make_encoding_tokenizer, plain_encoder

WATCH_SECONDS = 0.1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--books", type=Path, nargs="+", help="text files; default: Python's documentation")
    parser.add_argument("--tokenizer", type=Path, help="a folder with GPT-2's tokenizer")
    parser.add_argument("--text", choices=["files", "one-file", "chinese", "small-files"], default="files")
    parser.add_argument("--megabytes", type=int, default=500)
    parser.add_argument("--files", type=int, default=100_000, help="of --text small-files")
    parser.add_argument("--peer-megabytes", type=int, default=25)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        finish((measure if options.text == "files" else measure_alone)(options, Path(place)), options)


def measure_alone(options: argparse.Namespace, folder: Path) -> list[Row]:
    """Measure `prepare` alone, on another kind of text."""
    books = options.books or [write_documentation(folder / "python.txt")]
    text, n_bytes = folder / "text", options.megabytes * 1_000_000
    sample = folder / "sample"  # to train a tokenizer on
    if options.text == "chinese":
        write_chinese(books, text, n_bytes)
        sample = text
    elif options.text == "small-files":
        write_small_files(books, text, options.files)
        write_text(books, sample, 20 * FILE_BYTES)
    else:
        write_text(books, sample, n_bytes)
        text.mkdir()
        with (text / "one.txt").open("wb") as file:
            for path in sorted(sample.glob("*.txt")):
                file.write(path.read_bytes() + b"\n\n")
    tokenizer = options.tokenizer or train_tokenizer(sample, folder / "tokenizer")
    n_files = sum(1 for _ in text.rglob("*.txt"))

    def prepare() -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        rate, peak = run_prepare(text, tokenizer, folder / "out")
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        n_megabytes = sum(path.stat().st_size for path in text.rglob("*.txt")) / 1e6
        print(f"CPU seconds: {seconds:.1f}, memory: {peak:,.0f} MB", file=sys.stderr)
        return rate * n_files / n_megabytes if options.text == "small-files" else rate

    figures = take_turns({"llmkit": prepare}, options.rounds)
    unit = "files/s" if options.text == "small-files" else "MB/s"
    return [make_row(f"prepare, {options.text}", figures, unit=unit)]


def write_chinese(books: list[Path], out: Path, n_bytes: int) -> None:
    """Write files of about FILE_BYTES from lines in which two adjacent characters are replaced."""
    out.mkdir(parents=True)
    lines = [line for book in books for line in book.read_text(encoding="utf-8").split("\n") if len(line) > 10]
    characters = sorted({char for line in lines for char in line if "\u4e00" <= char <= "\u9fff"})
    draw = random.Random(0)
    for number in range(n_bytes // FILE_BYTES):
        written: list[str] = []
        size = 0
        while size < FILE_BYTES:
            line = draw.choice(lines)
            place = draw.randrange(len(line) - 1)
            line = line[:place] + draw.choice(characters) + draw.choice(characters) + line[place + 2 :]
            written.append(line)
            size += len(line.encode()) + 1
        (out / f"{number:05d}.txt").write_text("\n".join(written), encoding="utf-8")


def write_small_files(books: list[Path], out: Path, n_files: int) -> None:
    """Write 100 files per folder, each of at least a kilobyte, from numbered paragraphs."""
    paragraphs = [part for part in read_paragraphs(books) if 200 < len(part) < 3000]
    draw = random.Random(0)
    for number in range(n_files):
        folder = out / f"{number // 10_000:03d}" / f"{number // 100 % 100:02d}"
        folder.mkdir(parents=True, exist_ok=True)
        written: list[str] = []
        while sum(map(len, written)) < 900:
            written.append(f"{draw.randrange(10**9)} {draw.choice(paragraphs)}")
        (folder / f"{number:06d}.txt").write_text("\n\n".join(written), encoding="utf-8")


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
    """Train byte-level BPE with GPT-2's pattern."""
    trained = ByteLevelBPETokenizer()
    trained.train([str(path) for path in sorted(text.glob("*.txt"))[:20]], vocab_size=50_257, show_progress=False)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=trained._tokenizer, eos_token="<|endoftext|>")
    tokenizer.save_pretrained(folder)
    return folder


def run_prepare(text: Path, tokenizer: Path, out: Path) -> tuple[float, float]:
    """Megabytes per second of the whole command, and the peak memory of its processes together in MB."""
    words = ["prepare", str(text), "--out", str(out), "--overwrite", "-s", f"prepare.tokenizer.path={tokenizer}"]
    n_bytes = sum(path.stat().st_size for path in text.rglob("*.txt"))
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
    """Append the private memory of the process and its children until it ends."""
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
    """Megabytes per second of encoding text that is in memory, without checks."""
    files = [str(path) for path in sorted(text.glob("*.txt"))[: 4 if slow else 100]]
    bare = make_encoding_tokenizer(AutoTokenizer.from_pretrained(tokenizer))
    texts = [document.text for document in read_documents(files, Read(), [])]
    encode = plain_encoder(bare).encode
    if not slow:
        encode = make_encoder(bare, check_encoder(bare, texts[:4], set().union(*texts))).encode
    started = time.perf_counter()
    for start in range(0, len(texts), 8):
        encode(texts[start : start + 8])
    return sum(len(each.encode()) for each in texts) / 1e6 / (time.perf_counter() - started)


if __name__ == "__main__":
    main()
