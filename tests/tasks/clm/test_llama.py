"""Pretraining, evaluation, generation and resume of a Llama, which transformers loads."""

import json
import math
import shutil
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from tiny import FILLER, HAM, SPAM, make_messages
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM

from llmkit.config.loading import load_recipe
from llmkit.config.recipe import Recipe
from llmkit.evaluating.evaluate import evaluate
from llmkit.generating.generate import generate
from llmkit.preparing.prepare import prepare
from llmkit.runs.train import pretrain

TINY = (
    "model.family=llama", "model.n_layer=2", "model.n_embd=32", "model.n_head=4", "model.n_kv_head=2",
    "prepare.split.validation=0.2", "prepare.split.test=0", "prepare.tokenizer.kind=char", "train.block_size=16",
    "train.global_batch_size=4", "train.max_steps=6", "train.save_steps=3", "train.log_steps=1", "train.precision=fp32",
    "train.sample_prompt=null", "optim.learning_rate=1e-2", "generate.max_new_tokens=12", "generate.temperature=0",
)  # fmt: skip


def recipe(*overrides: str) -> Recipe:
    return load_recipe(None, [*TINY, *overrides])


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("prepared")
    texts = [text for text, _ in make_messages(150)]
    (folder / "book.txt").write_text("\n".join([*SPAM, *HAM, *FILLER, *texts]), encoding="utf-8")
    prepare([str(folder / "book.txt")], folder / "data", recipe().prepare)
    return folder / "data"


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "llama"
    pretrain(recipe(), data=data, out=out)
    return out


def test_training_learns_and_eval_gives_the_same_metrics(run: Path) -> None:
    log = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    losses = [record["loss"] for record in log if record["kind"] == "train"]
    assert losses[-1] < losses[0] - 0.05
    n_tokens = len(AutoTokenizer.from_pretrained(run / "model"))
    assert losses[0] == pytest.approx(math.log(n_tokens), abs=0.15)
    written = json.loads((run / "metrics.json").read_text())["validation"]
    assert evaluate(recipe(), model=str(run))["loss"] == pytest.approx(written["loss"], rel=1e-6)


def test_llama_loads_in_transformers_with_the_same_loss(run: Path, data: Path) -> None:
    import datasets

    model = AutoModelForCausalLM.from_pretrained(run / "model").eval()
    assert type(model) is LlamaForCausalLM and model.config.num_key_value_heads == 2
    assert "llmkit is not needed" in (run / "model/README.md").read_text()
    rows = datasets.load_from_disk(str(data / "validation"))["input_ids"]
    ids = torch.tensor([token for row in rows for token in row])
    inputs = torch.cat([ids[-1:], ids[:-1]])
    nats = 0.0
    with torch.no_grad():
        for start in range(0, len(ids), 16):
            logits = model(input_ids=inputs[None, start : start + 16]).logits[0]
            nats += F.cross_entropy(logits, ids[start : start + 16], reduction="sum").item()
    assert evaluate(recipe(), model=str(run))["loss"] == pytest.approx(nats / len(ids), rel=1e-5)


def test_greedy_llama_text_equals_generate_of_transformers(run: Path) -> None:
    model, tokenizer = (kind.from_pretrained(run / "model") for kind in (AutoModelForCausalLM, AutoTokenizer))
    for prompt in ("win cash", "dinner at home", "a"):
        (written,) = generate(recipe().generate, model=str(run), prompts=[prompt])
        inputs = tokenizer(prompt, return_tensors="pt", add_special_tokens=False)["input_ids"]
        expected = model.generate(inputs, max_new_tokens=12, do_sample=False, attention_mask=torch.ones_like(inputs))
        assert written["text"] == tokenizer.decode(expected[0, inputs.shape[1] :]) != ""


def test_stopped_run_resumes_to_the_same_weights(run: Path, data: Path, tmp_path: Path) -> None:
    out = Path(shutil.copytree(run, tmp_path / "run"))
    shutil.rmtree(out / "model")
    shutil.rmtree(out / "checkpoints/step-6")
    pretrain(recipe(), data=data, out=out, resume=True)
    assert (out / "model/model.safetensors").read_bytes() == (run / "model/model.safetensors").read_bytes()


def test_chunked_llama_gradients_equal_those_of_all_logits(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    losses = []
    for name, size in (("whole", 1 << 30), ("parts", 1)):
        monkeypatch.setattr("llmkit.models.families.LARGE_VOCABULARY", size)
        pretrain(recipe(), data=data, out=tmp_path / name)
        log = [json.loads(line) for line in (tmp_path / name / "log.jsonl").read_text().splitlines()]
        losses.append([record["loss"] for record in log if record["kind"] == "train"])
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
