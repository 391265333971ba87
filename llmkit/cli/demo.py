"""`llmkit demo`."""

from pathlib import Path

from llmkit.cli import options
from llmkit.core.console import clean_line

DEFAULTS = (
    "prepare.tokenizer.vocab_size=2048",
    "model.n_layer=3",
    "model.n_head=4",
    "model.n_embd=192",
    "train.block_size=128",
    "train.global_batch_size=16",
    "train.max_minutes=2",
    "optim.name=muon",
    "optim.learning_rate=0.01",
    "generate.max_new_tokens=200",
)
"""Settings of a GPT-2 that writes readable lines after two CPU minutes; --recipe replaces all of these settings."""


def demo_command(
    corpus: options.Corpus = None,
    out: options.DemoOut = Path("runs/demo"),
    prompt: options.DemoPrompt = None,
    recipe: options.RecipeOption = None,
    set_: options.Set = None,
    json: options.Json = False,
) -> None:
    """Prepare, pretrain, eval, generate and report on built-in text, in minutes on a CPU."""
    from llmkit.cli.output import echo, show_json
    from llmkit.config.loading import load_recipe

    config = load_recipe(recipe, [*(() if recipe else DEFAULTS), *(set_ or [])])
    from llmkit.demo import demo  # torch loads here, so --help stays instant

    result = demo(config, out=out, corpus=corpus, prompt=prompt)
    if json:
        show_json(result)
        return
    echo("\n".join(clean_line(line) for line in result["sample"].splitlines()))
    echo(f"\nheld-out {result['bits_per_byte']:.4f} bits per byte over {result['n_bytes']:,} bytes")
    echo(f"run     {result['run']}\nreport  {result['report']}")
