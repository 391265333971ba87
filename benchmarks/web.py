"""Speed and memory of reading a Common Crawl .wet and a Wikipedia dump, both made here from free text.

    python benchmarks/web.py --megabytes 200

The text is that of the running interpreter's documentation (`builtin:python-docs`), repeated; the articles have links,
references, templates and tables. Each file is read in a process of its own, after nothing else. Reported are MB of
unpacked input per second and the largest resident memory, beside that of an input of a tenth of the size: the two are
equal if memory does not grow.
"""

import argparse
import bz2
import gzip
import itertools
import json
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from xml.sax.saxutils import escape

from llmkit.config.prepare import Read
from llmkit.text.readers import read_documents


def main() -> None:
    """Make the files that are missing, and read each."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--megabytes", type=int, default=200)
    parser.add_argument("--out", type=Path, default=Path("build/web"))
    parser.add_argument("--read", type=Path, help=argparse.SUPPRESS)  # this process reads one file
    arguments = parser.parse_args()
    if arguments.read:
        print(json.dumps(read(arguments.read)))
        return
    arguments.out.mkdir(parents=True, exist_ok=True)
    print(f"{'file':<24} {'MB':>6} {'MB/s':>7} {'documents':>10} {'peak MB':>8}")
    for size in (arguments.megabytes // 10, arguments.megabytes):
        for kind, make in (("wet.gz", write_wet), ("xml.bz2", write_dump)):
            path = arguments.out / f"{size}.{kind}"
            n_bytes = path.with_name(path.name + ".size")
            if not n_bytes.exists():
                n_bytes.write_text(str(make(path, size * 1_000_000)))
            done = subprocess.run([sys.executable, __file__, "--read", str(path)], capture_output=True, check=True)
            found, megabytes = json.loads(done.stdout), int(n_bytes.read_text()) / 1e6
            speed = megabytes / found["seconds"]
            print(f"{path.name:<24} {megabytes:>6.0f} {speed:>7.1f} {found['documents']:>10,} {found['peak_mb']:>8.0f}")


def read(path: Path) -> dict[str, float]:
    """Seconds, documents and peak memory of reading a file."""
    started = time.perf_counter()
    n_documents = sum(document.last for document in read_documents([str(path)], Read(), []))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)
    return {"seconds": time.perf_counter() - started, "documents": n_documents, "peak_mb": peak}


def _make_texts() -> Iterator[str]:
    texts = [document.text for document in read_documents(["builtin:python-docs"], Read(), [])]
    return itertools.cycle(texts)


def write_wet(path: Path, n_bytes: int) -> int:
    """Write a .wet of one gzip member per record, as Common Crawl does; returns its unpacked size."""
    n_written = 0
    with path.open("wb") as file:
        for number, text in enumerate(_make_texts()):
            content = text.encode()
            head = f"WARC/1.0\r\nWARC-Type: conversion\r\nWARC-Target-URI: http://example.org/{number}\r\n"
            head += f"Content-Type: text/plain\r\nContent-Length: {len(content)}\r\n\r\n"
            record = head.encode() + content + b"\r\n\r\n"
            file.write(gzip.compress(record, 6))
            n_written += len(record)
            if n_written >= n_bytes:
                return n_written
    raise AssertionError("the texts are endless")


def write_dump(path: Path, n_bytes: int) -> int:
    """Write a dump with markup in its pages; returns its unpacked size."""
    head = '<mediawiki xmlns="http://www.mediawiki.org/xml/export-0.11/"><siteinfo/>\n'
    n_written = len(head)
    with bz2.open(path, "wt", encoding="utf-8") as file:
        file.write(head)
        for number, text in enumerate(_make_texts()):
            markup = "{{Infobox|name=x|{{nested|1}}}}\n" + _add_markup(text) + "\n[[Category:Python]]"
            page = f"<page><title>Page {number}</title><ns>0</ns><id>{number}</id><revision><model>wikitext</model>"
            page += f"<text>{escape(markup)}</text></revision></page>\n"
            file.write(page)
            n_written += len(page.encode())
            if n_written >= n_bytes:
                file.write("</mediawiki>")
                return n_written
    raise AssertionError("the texts are endless")


def _add_markup(text: str) -> str:
    """About as many links, references and templates as an article of Wikipedia has."""
    words = text.split(" ")
    for place in range(10, len(words), 25):
        words[place] = f"[[{words[place]}|{words[place]}]]" if "\n" not in words[place] else words[place]
    for place in range(20, len(words), 60):
        words[place] += "<ref>{{cite web|url=http://example.org|title=x}}</ref>"
    return " ".join(words) + '\n== Table ==\n{| class="wikitable"\n|-\n| a || b\n|}\n'


if __name__ == "__main__":
    main()
