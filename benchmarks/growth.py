"""How cost grows: training tokens per second against model size, block size, vocabulary, batch size and corpus size.

    python benchmarks/growth.py --out build/growth

One quantity at a time varies around one configuration (GPT-2 4x256, block size 128, batch size 16, vocabulary 4,096).
The sixth panel is `prepare` against the size of the text. Each point is a separate run, the median over its steps.
"""

import argparse
import json
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from gpt2_training import Shape, train_with_llmkit
from made_text import prepare_made_text
from plots import draw_growth
from prepare_engines import write_text
from preparing import run_prepare, train_tokenizer, write_documentation

CENTRE = Shape(4, 4, 256, 128, 16, 4096, 8)
SIZES = ((1, 64), (2, 128), (4, 256), (6, 384), (8, 512), (12, 768))
"""Layers and width."""
BLOCKS = (32, 64, 128, 256, 512, 1024)
VOCABULARIES = (64, 512, 4096, 16_384, 50_257)
BATCHES = (1, 2, 4, 8, 16, 32, 64)
CORPORA = (100_000, 300_000, 1_000_000, 3_000_000)
"""Tokens."""
TEXTS = (2, 10, 50, 200)
"""Megabytes."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("build/growth"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        shapes = {
            "weights in the layers": [
                (12 * layers * width**2, replace(CENTRE, layers=layers, width=width, heads=max(1, width // 64)))
                for layers, width in SIZES
            ],
            "block": [(block, replace(CENTRE, block=block, batch=max(1, 2048 // block))) for block in BLOCKS],
            "vocabulary": [(size, replace(CENTRE, vocab_size=size)) for size in VOCABULARIES],
            "batch": [(batch, replace(CENTRE, batch=batch)) for batch in BATCHES],
        }
        panels = {name: [(size, train(shape, folder)) for size, shape in points] for name, points in shapes.items()}
        panels["tokens of the corpus"] = [(size, train(CENTRE, folder, size)) for size in CORPORA]
        panels["megabytes prepared"] = prepare_texts(folder)
    units = dict.fromkeys(panels, "tokens/s") | {"megabytes prepared": "MB/s"}
    (options.out / "growth.json").write_text(json.dumps(panels, indent=2), encoding="utf-8")
    draw_growth(panels, units, options.out / "growth.svg")


def train(shape: Shape, folder: Path, n_tokens: int = 500_000) -> float:
    data = prepare_made_text(folder, shape.vocab_size, n_tokens)
    rate = train_with_llmkit(shape, data, folder / "run")
    print(f"{shape.describe()}, corpus {n_tokens:,}: {rate:,.0f} tokens/s", file=sys.stderr, flush=True)
    return rate


def prepare_texts(folder: Path) -> list[tuple[float, float]]:
    book = write_documentation(folder / "python.txt")
    points = []
    for size in TEXTS:
        text = folder / f"text-{size}"
        write_text([book], text, size * 1_000_000)
        tokenizer = folder / "tokenizer"
        if not tokenizer.exists():
            train_tokenizer(text, tokenizer)
        rate, _ = run_prepare(text, tokenizer, folder / "prepared")
        print(f"{size} MB: {rate:.3g} MB/s", file=sys.stderr, flush=True)
        points.append((float(size), rate))
    return points


if __name__ == "__main__":
    main()
