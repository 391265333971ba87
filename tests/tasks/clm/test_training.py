"""Causal language models from training to generation on a tiny text, through the functions of the commands."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from several import INTERRUPT, run_command
from tiny import assert_same_figures
from transformers import AutoModelForCausalLM, AutoTokenizer, BertConfig, BertForSequenceClassification

from llmkit.config.loading import load_recipe
from llmkit.config.recipe import Recipe
from llmkit.core.errors import ModelError, UsageError
from llmkit.evaluating.evaluate import evaluate
from llmkit.generating.generate import generate
from llmkit.preparing.prepare import prepare
from llmkit.runs.train import pretrain

TINY = (
    "prepare.tokenizer.vocab_size=300", "prepare.split.validation=0.2", "prepare.split.test=0",
    "model.n_layer=2", "model.n_head=2", "model.n_embd=32", "train.block_size=16", "train.global_batch_size=4",
    "train.max_steps=6", "train.log_steps=2", "train.precision=fp32", "generate.max_new_tokens=12",
)  # fmt: skip


def recipe(*overrides: str) -> Recipe:
    return load_recipe(None, [*TINY, *overrides])


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("prepared")
    lines = (f"{n} green bottles, hanging on the wall: 却说{n}个绿瓶子。\n" for n in range(150))
    (folder / "book.txt").write_text("".join(lines), encoding="utf-8")
    prepare([str(folder / "book.txt")], folder / "data", recipe().prepare)
    return folder / "data"


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "run"
    pretrain(recipe(), data=data, out=out)
    return out


def read_log(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


def test_training_reduces_the_loss(run: Path) -> None:
    losses = [record["loss"] for record in read_log(run) if record["kind"] == "eval"]
    assert losses[-1] < losses[0] - 0.05


def test_saved_model_gives_the_same_loss_without_llmkit(run: Path, data: Path) -> None:
    script = f"""
import sys; sys.modules["llmkit"] = None
import numpy as np, torch, datasets
from transformers import AutoModelForCausalLM, AutoTokenizer
model, tokenizer = (kind.from_pretrained({str(run / "model")!r}) for kind in (AutoModelForCausalLM, AutoTokenizer))
rows = datasets.load_from_disk({str(data / "validation")!r})["input_ids"]
ids = torch.tensor(np.concatenate([[tokenizer.bos_token_id], *rows]).astype(int))
loss, block = 0.0, 16
for start in range(0, len(ids) - 1, block):
    piece = ids[start : start + block + 1]
    with torch.no_grad():
        loss += model(piece[None], labels=piece[None]).loss.item() * (len(piece) - 1) if len(piece) <= block else (
            torch.nn.functional.cross_entropy(model(piece[None, :-1]).logits[0], piece[1:], reduction="sum").item())
print(loss / (len(ids) - 1))
"""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", script], capture_output=True, text=True, check=True)
    metrics = evaluate(recipe(), model=str(run))
    assert metrics["loss"] == pytest.approx(float(done.stdout), abs=1e-5)
    assert_same_figures(metrics, json.loads((run / "metrics.json").read_text())["validation"])


def test_strided_evaluation_scores_the_same_tokens_and_names_its_method(run: Path) -> None:
    blockwise, strided = (evaluate(recipe(f"evaluate.stride={stride}"), model=str(run)) for stride in (16, 4))
    assert strided["n_tokens"] == blockwise["n_tokens"]
    assert strided["method"]["windows"] == "sliding"
    assert strided["loss"] != blockwise["loss"]


def test_interrupted_run_resumes_to_the_same_weights(data: Path, run: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    command = ["pretrain-clm", "--data", str(data), "--out", str(out)]
    command += [part for override in TINY for part in ("-s", override)]
    code, _, err = run_command(command, tmp_path / "output", INTERRUPT)
    assert code == 130, err
    assert "saved at step 3 of 6; continue with: llmkit pretrain-clm --data " in err
    assert not (out / "model").exists()
    pretrain(load_recipe(out / "recipe.yaml"), data=data, out=out, resume=True)
    assert (out / "model/model.safetensors").read_bytes() == (run / "model/model.safetensors").read_bytes()
    assert [r["step"] for r in read_log(out) if r["kind"] == "train"] == [2, 4, 6]


def test_wordpiece_model_encodes_prompts_without_cls_and_sep(tmp_path: Path) -> None:
    (tmp_path / "book.txt").write_text("却说曹操大喜。\n" * 80, encoding="utf-8")
    word = recipe("prepare.tokenizer.kind=wordpiece", "train.max_steps=1", "train.sample_prompt=null")
    prepare([str(tmp_path / "book.txt")], tmp_path / "data", word.prepare)
    pretrain(word, data=tmp_path / "data", out=tmp_path / "run")
    encoded = AutoTokenizer.from_pretrained(tmp_path / "run/model")("却说")
    assert set(encoded) == {"input_ids", "attention_mask"}
    assert len(encoded["input_ids"]) == 2
    assert evaluate(word, model=str(tmp_path / "run"))["n_tokens"] > 0


def test_recipe_dropout_is_used_in_training_and_the_saved_model_keeps_its_own(
    run: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    losses = {}
    for rate in (0.0, 0.25):
        out = tmp_path / f"{rate}"
        pretrain(recipe("train.max_steps=1", f"model.dropout={rate}"), data=data, out=out, model=str(run))
        assert AutoModelForCausalLM.from_pretrained(out / "model").config.resid_pdrop == 0.0
        log = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
        losses[rate] = next(each["loss"] for each in log if each["kind"] == "train")
        assert ("model.dropout 0.25 replaces the model's 0" in capsys.readouterr().err) == (rate == 0.25)
    assert losses[0.0] != losses[0.25]


def test_saved_configuration_does_not_disable_the_cache(run: Path) -> None:
    assert json.loads((run / "model/config.json").read_text()).get("use_cache", True)


def test_resume_with_another_recipe_names_what_changed(run: Path, data: Path) -> None:
    with pytest.raises(UsageError, match=r"optim.learning_rate: 0.001 -> 0.5"):
        pretrain(recipe("optim.learning_rate=0.5"), data=data, out=run, resume=True)


def test_generate_refuses_a_model_without_a_language_model_head(data: Path, tmp_path: Path) -> None:
    config = BertConfig(vocab_size=50, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16)
    BertForSequenceClassification(config).save_pretrained(tmp_path / "bert")
    for call in (
        lambda: generate(recipe().generate, model=str(tmp_path / "bert"), prompts=["x"]),
        lambda: pretrain(recipe(), data=data, out=tmp_path / "run", model=str(tmp_path / "bert")),
    ):
        with pytest.raises(UsageError, match="is a classifier") as caught:
            call()
        assert "finetune-cls" in str(caught.value)


@pytest.mark.parametrize("name", ["nowhere/at/all", "./runs/nope"])
def test_model_that_does_not_exist_is_a_model_error(name: str) -> None:
    with pytest.raises(ModelError, match="there is no folder"):
        evaluate(recipe(), model=name, data=["x.txt"])


def test_same_prompt_and_seed_generate_the_same_text(run: Path) -> None:
    texts = {generate(recipe().generate, model=str(run), prompts=["却说"])[0]["text"] for _ in range(2)}
    assert len(texts) == 1


def test_first_loss_is_near_that_of_uniform_probabilities(data: Path, tmp_path: Path) -> None:
    pretrain(recipe("train.max_steps=1", "train.log_steps=1"), data=data, out=tmp_path / "run")
    first = next(record for record in read_log(tmp_path / "run") if record["kind"] == "train")
    vocab = len(AutoTokenizer.from_pretrained(data / "tokenizer"))
    assert first["loss"] == pytest.approx(F.cross_entropy(torch.zeros(1, vocab), torch.tensor([0])).item(), abs=0.15)
