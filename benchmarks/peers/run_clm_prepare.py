"""Text to blocks of tokens as transformers' run_clm.py does it: `datasets` reads lines, `map` tokenizes and joins them.

    python benchmarks/peers/run_clm_prepare.py TEXT --tokenizer FOLDER --block 1024

Prints JSON: megabytes a second, from the first line read to the last block stored, and the number of tokens.
"""

import argparse
import itertools
import json
import tempfile
import time
from pathlib import Path

import datasets
from transformers import AutoTokenizer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("text", type=Path, help="a folder of .txt files")
    parser.add_argument("--tokenizer", type=Path, required=True)
    parser.add_argument("--block", type=int, default=1024)
    parser.add_argument("--files", type=int, help="maximum number of files")
    options = parser.parse_args()
    files = sorted(options.text.glob("*.txt"))[: options.files]
    n_bytes = sum(path.stat().st_size for path in files)
    tokenizer = AutoTokenizer.from_pretrained(options.tokenizer)
    datasets.disable_progress_bars()
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as cache:
        lines = datasets.load_dataset("text", data_files={"train": [str(path) for path in files]}, cache_dir=cache)
        encoded = lines.map(lambda some: tokenizer(some["text"]), batched=True, remove_columns=["text"])

        def group(some: dict[str, list[list[int]]]) -> dict[str, list[list[int]]]:
            joined = {name: list(itertools.chain(*parts)) for name, parts in some.items()}
            end = len(joined["input_ids"]) // options.block * options.block
            blocks = {
                name: [ids[start : start + options.block] for start in range(0, end, options.block)]
                for name, ids in joined.items()
            }
            return {**blocks, "labels": blocks["input_ids"].copy()}

        blocks = encoded.map(group, batched=True)
        n_tokens = len(blocks["train"]) * options.block
    seconds = time.perf_counter() - started
    print(json.dumps({"megabytes_a_second": n_bytes / 1e6 / seconds, "tokens": n_tokens}))


if __name__ == "__main__":
    main()
