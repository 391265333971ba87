"""A GRU or LSTM over words: llmkit beside pytorch/examples' word_language_model, same sizes, settings and epochs.

    python benchmarks/word_language_model.py --peer examples/word_language_model --text wikitext-2 --epochs 1

`--peer` is that folder of a checkout, `--text` has wiki.train.tokens, wiki.valid.tokens and wiki.test.tokens; without
it the text is synthetic, with WikiText-2's number of words, which is enough to measure speed. The two run
alternately, on an idle machine. Milliseconds per batch of 20 streams and 35 words are the medians of both training
logs. The peer reports the perplexity of ten streams, llmkit that of one stream over every token.
"""

import argparse
import json
import random
import re
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from itertools import accumulate
from pathlib import Path

from turns import finish, make_row, take_turns

NAMES = {"train": "train.txt", "valid": "valid.txt", "test": "test.txt"}
"""What the peer calls the three files."""
STREAMS, WORDS = 20, 35
N_WORDS = 33_276


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", type=Path, required=True)
    parser.add_argument("--text", type=Path, help="default: made-up words")
    parser.add_argument("--cell", choices=["gru", "lstm"], default="gru")
    parser.add_argument("--width", type=int, default=200)
    parser.add_argument("--learning-rate", type=float, default=5.0)
    parser.add_argument("--dropout", type=float, default=0.2)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args()
    perplexities: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as place:
        options.text = options.text or write_made_up_words(Path(place, "text"))

        def train(name: str, run: Callable[[argparse.Namespace, Path], tuple[float, float]]) -> float:
            with tempfile.TemporaryDirectory(dir=place) as folder:
                speed, perplexities[name] = run(options, Path(folder))
            return 1000 * STREAMS * WORDS / speed

        ways = {"llmkit": run_llmkit, "pytorch/examples": run_peer}
        figures = take_turns({name: partial(train, name, run) for name, run in ways.items()}, options.rounds)
    for name, perplexity in perplexities.items():
        print(f"{name:<17} test perplexity {perplexity:.2f}")
    work = f"{options.cell.upper()} 2x{options.width} over words, bptt {WORDS}, batch {STREAMS}"
    finish([make_row(work, figures, unit="ms a batch", lower_is_better=True)], options)


def write_made_up_words(folder: Path) -> Path:
    """As many different words as WikiText-2 has, each at least once, and then by Zipf's law."""
    folder.mkdir()
    draw = random.Random(0)
    words = [f"w{number}" for number in range(N_WORDS)]
    weights = list(accumulate(1 / (rank + 10) for rank in range(N_WORDS)))
    for split, n_words in (("train", 200_000), ("valid", 5_000), ("test", 5_000)):
        drawn = draw.choices(words, cum_weights=weights, k=n_words)
        drawn = [*words, *drawn[N_WORDS:]] if split == "train" else drawn
        lines = [" ".join(drawn[start : start + 50]) for start in range(0, n_words, 50)]
        (folder / f"wiki.{split}.tokens").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def run_llmkit(options: argparse.Namespace, folder: Path) -> tuple[float, float]:
    """Tokens per second and test perplexity."""
    files = {split: str(options.text / f"wiki.{split}.tokens") for split in NAMES}
    recipe = Path(__file__).parents[1] / "recipes" / f"{options.cell}-wikitext2.yaml"
    llmkit = [sys.executable, "-m", "llmkit"]
    data, out = str(folder / "data"), folder / "run"
    subprocess.run(
        [*llmkit, "prepare", files["train"], "--validation", files["valid"], "--test", files["test"],
         "--recipe", recipe, "--out", data], check=True,
    )  # fmt: skip
    settings = {
        "model.n_layer": 2,
        "model.n_embd": options.width,
        "model.dropout": options.dropout,
        "model.adaptive_cutoffs": [],
        "model.init": "uniform",
        "optim.name": "sgd",
        "optim.learning_rate": options.learning_rate,
        "optim.schedule": "plateau",
        "optim.max_grad_norm": 0.25,
        "optim.weight_decay": 0,
        "optim.warmup_steps": 0,
        "train.block_size": WORDS,
        "train.global_batch_size": STREAMS,
        "train.epochs": options.epochs,
        "train.sample_prompt": "null",
    }
    typed = [word for name, value in settings.items() for word in ("-s", f"{name}={value}")]
    subprocess.run([*llmkit, "pretrain-clm", recipe, "--data", data, "--out", out, *typed], check=True)
    log = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    speeds = [record["tokens_per_second"] for record in log if record["kind"] == "train"]
    scored = subprocess.run(
        [*llmkit, "eval", out, "-s", "evaluate.split=test", "--json"], check=True, capture_output=True, text=True
    )
    return statistics.median(speeds), json.loads(scored.stdout)["perplexity"]


def run_peer(options: argparse.Namespace, folder: Path) -> tuple[float, float]:
    """The same figures, parsed from the output of the peer's script."""
    data = folder / "peer"
    data.mkdir()
    for split, name in NAMES.items():
        (data / name).symlink_to((options.text / f"wiki.{split}.tokens").resolve())
    done = subprocess.run(
        [sys.executable, "main.py", "--data", data, "--model", options.cell.upper(), "--tied",
         "--emsize", str(options.width), "--nhid", str(options.width), "--nlayers", "2", "--bptt", str(WORDS),
         "--batch_size", str(STREAMS), "--lr", str(options.learning_rate), "--clip", "0.25",
         "--dropout", str(options.dropout),
         "--epochs", str(options.epochs), "--log-interval", "50", "--save", folder / "model.pt"],
        cwd=options.peer, check=True, capture_output=True, text=True,
    )  # fmt: skip
    seconds = [float(value) / 1000 for value in re.findall(r"ms/batch\s+([\d.]+)", done.stdout)]
    perplexity = float(re.findall(r"test ppl\s+([\d.]+)", done.stdout)[-1])
    return STREAMS * WORDS / statistics.median(seconds), perplexity


if __name__ == "__main__":
    main()
