"""A GRU or LSTM over words: llmkit beside pytorch/examples' word_language_model, same sizes, settings and epochs.

    python benchmarks/word_language_model.py --peer examples/word_language_model --text wikitext-2 --epochs 1

`--peer` is that folder of a checkout, `--text` holds wiki.train.tokens, wiki.valid.tokens and wiki.test.tokens. The two
run one after the other, so nothing else should. Tokens a second are the medians of what both log while they train;
the peer's perplexity is its own, of ten streams, and llmkit's is of one stream over every token.
"""

import argparse
import json
import re
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

NAMES = {"train": "train.txt", "valid": "valid.txt", "test": "test.txt"}
"""What the peer calls the three files."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", type=Path, required=True)
    parser.add_argument("--text", type=Path, required=True)
    parser.add_argument("--cell", choices=["gru", "lstm"], default="gru")
    parser.add_argument("--width", type=int, default=200)
    parser.add_argument("--learning-rate", type=float, default=5.0)
    parser.add_argument("--dropout", type=float, default=0.2)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--json", type=Path, help="write the figures there too")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = {"llmkit": run_llmkit(options, Path(folder)), "pytorch/examples": run_peer(options, Path(folder))}
    for name, (speed, perplexity) in found.items():
        print(f"{name:<17} {speed:8,.0f} tokens/s   test perplexity {perplexity:.2f}")
    print(f"ratio             {found['llmkit'][0] / found['pytorch/examples'][0]:8.2f}")
    if options.json:
        options.json.write_text(json.dumps({"options": {k: str(v) for k, v in vars(options).items()}, "found": found}))


def run_llmkit(options: argparse.Namespace, folder: Path) -> tuple[float, float]:
    """Tokens a second and test perplexity."""
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
        "train.block_size": 35,
        "train.global_batch_size": 20,
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
    """The same of the peer's own script, read from what it prints."""
    data = folder / "peer"
    data.mkdir()
    for split, name in NAMES.items():
        (data / name).symlink_to((options.text / f"wiki.{split}.tokens").resolve())
    done = subprocess.run(
        [sys.executable, "main.py", "--data", data, "--model", options.cell.upper(), "--tied",
         "--emsize", str(options.width), "--nhid", str(options.width), "--nlayers", "2", "--bptt", "35",
         "--batch_size", "20", "--lr", str(options.learning_rate), "--clip", "0.25", "--dropout", str(options.dropout),
         "--epochs", str(options.epochs), "--save", folder / "model.pt"],
        cwd=options.peer, check=True, capture_output=True, text=True,
    )  # fmt: skip
    seconds = [float(value) / 1000 for value in re.findall(r"ms/batch\s+([\d.]+)", done.stdout)]
    perplexity = float(re.findall(r"test ppl\s+([\d.]+)", done.stdout)[-1])
    return 20 * 35 / statistics.median(seconds), perplexity


if __name__ == "__main__":
    main()
