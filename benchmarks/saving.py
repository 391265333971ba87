"""Cost of checkpoints: seconds per save by part, and fraction of the training time at the default interval.

    python benchmarks/saving.py --size mini --size small

Trains GPT-2 of each size on built-in text for a few steps, once normally and once without SHA-256, and so without the
check before pruning. The default interval is a tenth of a run, so the fraction is that of a run of `--minutes`.
"""

import argparse
import contextlib
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import llmkit.core.files
import llmkit.training.checkpoints
from llmkit.config.loading import load_recipe
from llmkit.preparing.prepare import prepare
from llmkit.runs.train import pretrain
from llmkit.training.loop import TrainingLoop

SAVES = 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", action="append", help="of GPT-2; repeatable")
    parser.add_argument("--minutes", type=float, default=20.0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(["builtin:shakespeare"], folder / "data", load_recipe(None, []).prepare)
        for size in options.size or ["tiny", "mini"]:
            for hashed in (True, False):
                spent, n_bytes = measure(size, folder, hashed)
                each = {part: spent[part] / SAVES for part in ("save", "hash", "sync")}
                share = 10 * each["save"] / (60 * options.minutes)
                print(
                    f"{size:<8} {'SHA-256' if hashed else 'no hash':<8} {n_bytes / 1e6:8.1f} MB, "
                    f"a save {each['save']:.3f} s, hashing {each['hash']:.3f} s, flushing {each['sync']:.3f} s: "
                    f"{share:.2%} of {options.minutes:g} minutes",
                    flush=True,
                )


def measure(size: str, folder: Path, hashed: bool) -> tuple[Counter[str], int]:
    """Seconds by part over all saves, and the bytes of one checkpoint."""
    spent: Counter[str] = Counter()
    out = folder / f"{size}-{hashed}"
    recipe = load_recipe(
        None,
        [
            f"model.size={size}", f"train.max_steps={SAVES}", "train.save_steps=1", "train.eval_steps=1000000",
            "train.global_batch_size=1", "train.block_size=64", "train.max_eval_samples=1", "train.sample_prompt=null",
        ],
    )  # fmt: skip
    with (
        timed(TrainingLoop, "_save", spent, "save"),
        timed(llmkit.training.checkpoints, "hash_file", spent, "hash", None if hashed else lambda path: ""),
        timed(llmkit.core.files, "sync_tree", spent, "sync"),
    ):
        pretrain(recipe, data=folder / "data", out=out)
    newest = out / f"checkpoints/step-{SAVES}"
    return spent, sum(path.stat().st_size for path in newest.iterdir())


@contextlib.contextmanager
def timed(
    owner: Any, name: str, spent: Counter[str], part: str, instead: Callable[..., Any] | None = None
) -> Iterator[None]:
    """Add the seconds of each call to `spent[part]`; call `instead` where it is given."""
    kept = getattr(owner, name)

    def call(*args: Any, **named: Any) -> Any:
        started = time.perf_counter()
        try:
            return (instead or kept)(*args, **named)
        finally:
            spent[part] += time.perf_counter() - started

    setattr(owner, name, call)
    try:
        yield
    finally:
        setattr(owner, name, kept)


if __name__ == "__main__":
    main()
