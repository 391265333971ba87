"""`prepare` with each of this machine's engines: seconds, CPU seconds, memory, equal bytes, and killed workers.

    python benchmarks/prepare_engines.py text BOOKS... --out TEXT --megabytes 1000
    python benchmarks/prepare_engines.py run TEXT --work FOLDER --engine local --engine ray --kill-at 60 --kill-at 120

`text` writes files of half a megabyte from the paragraphs of the given books, shuffled and numbered; one file in twenty
is a near copy of the one before. `run` prepares the text with each engine; on Ray, a busy worker gets SIGKILL after
each of the --kill-at seconds.
"""

import argparse
import hashlib
import json
import os
import random
import re
import subprocess
import sys
import time
from pathlib import Path

import psutil

FILE_BYTES = 500_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    text = commands.add_parser("text")
    text.add_argument("books", nargs="+", type=Path)
    text.add_argument("--out", type=Path, required=True)
    text.add_argument("--megabytes", type=int, default=1000)
    run = commands.add_parser("run")
    run.add_argument("text", type=Path)
    run.add_argument("--work", type=Path, required=True)
    run.add_argument("--engine", action="append")
    run.add_argument("--kill-at", type=float, action="append", default=[], metavar="SECONDS")
    run.add_argument("-s", "--set", action="append", default=[])
    options = parser.parse_args()
    if options.command == "text":
        write_text(options.books, options.out, options.megabytes * 1_000_000)
        return
    options.work.mkdir(parents=True, exist_ok=True)
    results: list[dict[str, object]] = []
    for name in options.engine or ["local", "ray"]:
        kills = sorted(options.kill_at) if name == "ray" else []
        results.append(measure(options.text, options.work / name, name, options.set, kills))
        print(json.dumps(results[-1]), flush=True)
    print("equal bytes" if len({result["digest"] for result in results}) == 1 else "THE BYTES DIFFER")


def write_text(books: list[Path], out: Path, n_bytes: int) -> None:
    """Write files of about FILE_BYTES."""
    out.mkdir(parents=True)
    paragraphs = [part for part in read_paragraphs(books) if 40 < len(part) < 5000]
    draw = random.Random(0)
    n_files = n_bytes // FILE_BYTES
    lines: list[str] = []
    for number in range(n_files):
        if number % 20 != 19:  # else: the same again, but for one paragraph
            lines, size = [], 0
            while size < FILE_BYTES:
                lines.append(f"{draw.randrange(10**9)} {draw.choice(paragraphs)}")
                size += len(lines[-1].encode()) + 2
        lines[number % len(lines)] = f"This is file {number}."
        (out / f"{number:05d}.txt").write_text("\n\n".join(lines), encoding="utf-8")


def read_paragraphs(books: list[Path]) -> list[str]:
    """Paragraphs of all books, without those that name Project Gutenberg: cleaning would remove text after them."""
    cut = re.compile("\n *\n *")  # WikiText has spaces in its empty lines
    paragraphs = [part for book in books for part in cut.split(book.read_text(encoding="utf-8"))]
    return [part for part in paragraphs if "gutenberg" not in part.casefold()]


def measure(text: Path, out: Path, engine: str, overrides: list[str], kills: list[float]) -> dict[str, object]:
    """Run `llmkit prepare` in its own process."""
    command = [sys.executable, "-m", "llmkit", "prepare", str(text), "--out", str(out), "--engine", engine, "--json"]
    command += [word for override in overrides for word in ("-s", override)]
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    tree = psutil.Process(process.pid)
    peak, killed, left = 0, [], list(kills)
    cpu: dict[int, float] = {}
    while process.poll() is None:
        time.sleep(1)
        members = [tree, *children_of(tree)]
        peak = max(peak, sum(map(private_bytes, members)))
        cpu |= {member.pid: seconds for member in members if (seconds := cpu_seconds(member))}
        if left and time.perf_counter() - started > left[0] and (worker := find_worker(members)):
            worker.kill()
            killed.append(f"{time.perf_counter() - started:.0f} s")
            del left[0]
    assert process.returncode == 0, f"exit code {process.returncode}"
    result = {"engine": engine, "seconds": round(time.perf_counter() - started, 1), "peak_mb": round(peak / 1e6)}
    result["cpu_seconds"] = round(sum(cpu.values()))
    return result | {"killed": killed, "digest": digest_folder(out)}


def children_of(tree: psutil.Process) -> list[psutil.Process]:
    try:
        return tree.children(recursive=True)
    except psutil.Error:
        return []


def private_bytes(process: psutil.Process) -> int:
    """Memory of a process that it shares neither with other processes nor with mapped files."""
    try:
        return int(process.memory_full_info().uss)
    except psutil.Error:
        return 0


def cpu_seconds(process: psutil.Process) -> float:
    """CPU time used so far; 0 if the process has ended."""
    try:
        times = process.cpu_times()
        return float(times.user + times.system)
    except psutil.Error:
        return 0.0


def find_worker(processes: list[psutil.Process]) -> psutil.Process | None:
    """A Ray worker that is running a task."""
    for process in processes:
        try:
            if process.cmdline()[:1] == ["ray::_call"]:
                return process
        except psutil.Error:
            continue
    return None


def digest_folder(folder: Path) -> str:
    """SHA-256 over names and bytes of all files."""
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        digest.update(os.fsencode(path.relative_to(folder)) + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


if __name__ == "__main__":
    main()
