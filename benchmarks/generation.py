"""Text generation: llmkit's `generate_texts` compared with transformers' `generate` and `batch_decode` on the same
GPT-2.

    OMP_NUM_THREADS=1 python benchmarks/generation.py --vocabulary 65 16384 --batch 1 16

The model has 4 layers of width 256, random weights, and a tokenizer with one character per token. End-of-text and
unused ids are made unlikely in the model itself, so both sides generate all tokens under the same settings. Prompts are
random and of different lengths. Both sides go from text to text and alternate. Figures are the median of tokens per
second and the minimum CPU time, which is less affected by other load. Greedy texts must be equal.
"""

import argparse
import json
import random
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import GenerationConfig, GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast
from turns import Row, make_row

from llmkit.config.generate import Generate
from llmkit.config.prepare import TokenizerSection
from llmkit.tasks.clm.generation import generate_texts
from llmkit.tokens.training_tokenizers import train_tokenizer

FIRST_CHARACTER = 0x4E00
MAX_PROMPT_CHARS = 32


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vocabulary", type=int, nargs="+", default=[65, 16384])
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 16], help="prompts per batch")
    parser.add_argument("--tokens", type=int, default=200, help="new tokens per prompt")
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args()
    print(
        f"{'vocabulary':>10}{'batch':>7}  {'decoding':<10}{'llmkit':>10}{'generate':>10}{'ratio':>7}{'CPU':>7}  tokens"
    )
    rows = []
    for size in options.vocabulary:
        tokenizer = make_tokenizer(size)
        model = make_model(len(tokenizer), options)
        for batch in options.batch:
            for temperature in (0.0, 0.8):
                row = {"vocabulary": size, "batch": batch, "temperature": temperature}
                row |= compare(model, tokenizer, batch, temperature, options)
                rows.append(row)
                show(row)
    if options.json:
        options.json.write_text(json.dumps([to_row(row, options) for row in rows], indent=2))


def make_tokenizer(size: int) -> PreTrainedTokenizerFast:
    """One token per character; `size` tokens including the special ones."""
    n_special = len(train_tokenizer(["a"], TokenizerSection(kind="char"))) - 1
    text = "".join(chr(FIRST_CHARACTER + n) for n in range(size - n_special))
    tokenizer = train_tokenizer([text], TokenizerSection(kind="char", vocab_size=size))
    if len(tokenizer) != size:
        raise SystemExit(f"a tokenizer of {size} characters became one of {len(tokenizer)}")
    return tokenizer


def make_model(vocab_size: int, options: argparse.Namespace) -> GPT2LMHeadModel:
    torch.manual_seed(0)
    model = GPT2LMHeadModel(
        GPT2Config(
            vocab_size=vocab_size, n_layer=options.layers, n_head=options.width // 64, n_embd=options.width,
            n_positions=MAX_PROMPT_CHARS + options.tokens, activation_function="gelu_pytorch_tanh",
            initializer_range=0.1,
            bos_token_id=0, eos_token_id=0, pad_token_id=0, tie_word_embeddings=False,
        )
    ).eval()  # fmt: skip
    with torch.no_grad():  # one feature is always 1, and speaks against the first ids alone, which are the special ones
        norm, head = model.transformer.ln_f, model.lm_head.weight
        norm.weight[0], norm.bias[0] = 0.0, 1.0
        head[:, 0] = 0.0
        head[:8, 0] = -1000.0
    return model


def compare(
    model: GPT2LMHeadModel, tokenizer: PreTrainedTokenizerFast, batch: int, temperature: float, options: Any
) -> dict[str, Any]:
    """Tokens per second of both sides by wall clock and by CPU time, and whether the texts are equal."""
    rng = random.Random(batch)
    letters = tokenizer.convert_ids_to_tokens(list(range(8, len(tokenizer))))
    prompts = ["".join(rng.choices(letters, k=rng.randint(8, MAX_PROMPT_CHARS))) for _ in range(batch)]
    settings = Generate(temperature=temperature, max_new_tokens=options.tokens)
    tokenizer.padding_side = "left"
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    sampling = {"do_sample": True, "temperature": temperature, "top_k": 0} if temperature else {"do_sample": False}
    decoding = GenerationConfig(max_new_tokens=options.tokens, pad_token_id=0, eos_token_id=0, **sampling)

    def ours() -> list[str]:
        return [group[0].text for group in generate_texts(model, tokenizer, prompts, settings)]

    def theirs() -> list[str]:
        given = tokenizer(prompts, return_tensors="pt", padding=True)
        ids, mask = given["input_ids"], given["attention_mask"]
        written = model.generate(input_ids=ids, attention_mask=mask, generation_config=decoding)
        return tokenizer.batch_decode(written[:, ids.shape[1] :], skip_special_tokens=True)

    sides: dict[str, Callable[[], list[str]]] = {"llmkit": ours, "generate": theirs}
    texts = {name: side() for name, side in sides.items()}  # a warm-up, too
    if any(len(text) != options.tokens for side in texts.values() for text in side):
        raise SystemExit("a text has ended early, or its tokens are no single characters")
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in sides}
    for _ in range(options.rounds):
        for name, side in sides.items():
            started = time.perf_counter(), time.process_time()
            side()
            times[name].append((time.perf_counter() - started[0], time.process_time() - started[1]))
    n_tokens = batch * options.tokens
    figures: dict[str, Any] = {
        name: {
            "tokens_per_second": n_tokens / statistics.median(seconds for seconds, _ in times[name]),
            "tokens_per_cpu_second": n_tokens / min(cpu for _, cpu in times[name]),
            "rounds": times[name],
        }
        for name in sides
    }
    return figures | {"same": texts["llmkit"] == texts["generate"]}


def to_row(row: dict[str, Any], options: argparse.Namespace) -> Row:
    """The row that run.py reads."""
    if not row["temperature"] and not row["same"]:
        raise SystemExit(f"greedy texts differ: {row}")
    how = "sampled" if row["temperature"] else "greedy"
    shape = f"{options.layers}x{options.width}, vocabulary {row['vocabulary']:,}"
    names = {"llmkit": "llmkit", "transformers generate": "generate"}
    figures = {
        name: [row["batch"] * options.tokens / seconds for seconds, _ in row[key]["rounds"]]
        for name, key in names.items()
    }
    return make_row(f"generation, {shape}, batch {row['batch']}, {how}", figures)


def show(row: dict[str, Any]) -> None:
    rates = [row[name]["tokens_per_second"] for name in ("llmkit", "generate")]
    cpu = row["llmkit"]["tokens_per_cpu_second"] / row["generate"]["tokens_per_cpu_second"]
    decoding = "sampled" if row["temperature"] else "greedy"
    same = "other random numbers" if row["temperature"] else "the same" if row["same"] else "NOT THE SAME"
    print(
        f"{row['vocabulary']:>10,}{row['batch']:>7}  {decoding:<10}{rates[0]:>10,.0f}{rates[1]:>10,.0f}"
        f"{rates[0] / rates[1]:>7.2f}{cpu:>7.2f}  {same}",
        flush=True,
    )


if __name__ == "__main__":
    main()
