"""The whole road on a tiny text, through the same functions that the commands call."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from several import INTERRUPT, run_command
from tiny import assert_same_figures
from transformers import AutoModelForCausalLM, AutoTokenizer, BertConfig, BertForMaskedLM, BertForSequenceClassification

from llmkit.config.loading import load_recipe
from llmkit.config.recipe import Recipe
from llmkit.core.errors import DataError, EnvironmentFault, ModelError, TrainingFailed, UsageError
from llmkit.evaluating.evaluate import evaluate
from llmkit.generating.generate import generate
from llmkit.preparing.prepare import prepare
from llmkit.runs.train import pretrain
from llmkit.training.loop import TrainingLoop

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


def test_run_folder_holds_what_the_contract_says(run: Path) -> None:
    names = {path.name for path in run.iterdir()}
    promised = {"recipe.yaml", "manifest.json", "log.jsonl", "checkpoints", "model", "metrics.json", "report.html"}
    assert names == promised
    assert {path.suffix for path in (run / "model").iterdir()} == {".json", ".safetensors", ".md"}
    train = [record for record in read_log(run) if record["kind"] == "train"]
    wanted = {"step", "epoch", "loss", "learning_rate", "grad_norm", "tokens_per_second", "mfu", "seconds", "n_tokens"}
    assert [record["step"] for record in train] == [2, 4, 6]
    assert wanted <= set(train[0])
    assert train[-1]["n_tokens"] == 6 * 4 * 16


def test_training_learns(run: Path) -> None:
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


def test_raw_text_scores_as_the_prepared_split_of_it(run: Path, data: Path, tmp_path: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(run / "model")
    import datasets

    rows = datasets.load_from_disk(str(data / "validation"))["input_ids"]
    (tmp_path / "held.txt").write_text(tokenizer.decode(rows[0][:-1]), encoding="utf-8")
    from_text = evaluate(recipe("evaluate.block_size=16"), model=str(run), data=[str(tmp_path / "held.txt")])
    from_store = evaluate(recipe(), model=str(run))
    assert from_text["n_tokens"] == from_store["n_tokens"]
    assert from_text["bits_per_byte"] == pytest.approx(from_store["bits_per_byte"], rel=1e-6)


def test_strided_evaluation_is_never_worse_here_and_says_what_it_is(run: Path) -> None:
    blockwise, strided = (evaluate(recipe(f"evaluate.stride={stride}"), model=str(run)) for stride in (16, 4))
    assert strided["n_tokens"] == blockwise["n_tokens"]
    assert strided["method"]["windows"] == "sliding"
    assert strided["loss"] != blockwise["loss"]


def test_run_folder_in_use_is_refused(run: Path, data: Path) -> None:
    with pytest.raises(UsageError, match="not empty"):
        pretrain(recipe(), data=data, out=run)


def test_dry_run_writes_nothing(data: Path, tmp_path: Path) -> None:
    facts = pretrain(recipe(), data=data, out=tmp_path / "run", dry_run=True)
    assert facts["n_parameters"] > 0
    assert list(tmp_path.iterdir()) == []


def test_interrupted_run_resumes_to_the_same_weights(data: Path, run: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    command = ["pretrain-clm", "--data", str(data), "--out", str(out)]
    command += [part for override in TINY for part in ("-s", override)]
    code, _, err = run_command(command, tmp_path / "said", INTERRUPT)
    assert code == 130, err
    assert "saved at step 3 of 6; go on with: --resume" in err
    assert not (out / "model").exists()
    pretrain(load_recipe(out / "recipe.yaml"), data=data, out=out, resume=True)
    assert (out / "model/model.safetensors").read_bytes() == (run / "model/model.safetensors").read_bytes()
    assert [r["step"] for r in read_log(out) if r["kind"] == "train"] == [2, 4, 6]


def test_finished_run_resumes_without_training_and_exports_again(run: Path, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    shutil.copytree(run, out)
    shutil.rmtree(out / "model")
    pretrain(recipe(), data=data, out=out, resume=True)
    assert (out / "model/model.safetensors").read_bytes() == (run / "model/model.safetensors").read_bytes()
    assert read_log(out) == read_log(run)


def test_run_that_started_from_a_model_resumes_with_that_models_shape(run: Path, data: Path, tmp_path: Path) -> None:
    out, tiny = tmp_path / "run", recipe("model.n_layer=1", "train.save_steps=2", "train.sample_prompt=null")
    pretrain(tiny, data=data, out=out, model=str(run))
    shutil.rmtree(out / "model")
    shutil.rmtree(out / "checkpoints/step-6")
    pretrain(tiny, data=data, out=out, resume=True)
    assert AutoModelForCausalLM.from_pretrained(out / "model").config.n_layer == 2


def test_damaged_newest_checkpoint_is_set_aside_and_training_goes_on(
    run: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    shutil.copytree(run, out)
    shutil.rmtree(out / "model")
    (out / "checkpoints/step-6/optimizer.pt").write_bytes(b"")
    pretrain(recipe(), data=data, out=out, resume=True)
    assert "step-6 is damaged: optimizer.pt has 0 bytes" in capsys.readouterr().err
    assert (out / "model/model.safetensors").read_bytes() == (run / "model/model.safetensors").read_bytes()
    assert (out / "checkpoints/step-6.damaged").is_dir()


def test_dry_run_renames_and_makes_nothing(
    run: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    shutil.copytree(run, out)
    (out / "checkpoints/step-6/optimizer.pt").write_bytes(b"")
    before = snapshot(tmp_path)
    pretrain(recipe(), data=data, out=out, resume=True, dry_run=True)
    assert "step-6 is damaged: optimizer.pt has 0 bytes" in capsys.readouterr().err
    pretrain(recipe(), data=data, out=tmp_path / "new/deep/run", dry_run=True)
    assert snapshot(tmp_path) == before
    with pytest.raises(EnvironmentFault, match="Not a directory"):
        pretrain(recipe(), data=data, out=out / "recipe.yaml/run", dry_run=True)


def snapshot(folder: Path) -> dict[str, tuple[int, int]]:
    """Every file and folder below, with its size and time of change."""
    found = {str(path.relative_to(folder)): path.stat() for path in folder.rglob("*")}
    return {name: (stat.st_size, stat.st_mtime_ns) for name, stat in sorted(found.items())}


def test_only_a_block_size_that_is_not_given_is_cut_to_the_model(run: Path, data: Path, tmp_path: Path) -> None:
    unset = recipe().with_updates(train=recipe().train.with_updates(block_size=None))
    plan = pretrain(unset, data=data, out=tmp_path / "run", model=str(run), dry_run=True)
    assert "block_size: 16\n" in plan["recipe"]
    for setting in ("train.block_size=256", "model.n_positions=256"):
        with pytest.raises(UsageError, match=r"256 .*the model.* 16") as caught:
            pretrain(recipe(setting), data=data, out=tmp_path / "run", model=str(run))
        assert caught.value.problems[0].where == setting.split("=")[0]


def test_refused_overwrite_leaves_the_old_run_alone(run: Path, data: Path) -> None:
    before = sorted(path.name for path in run.rglob("*"))
    with pytest.raises(UsageError, match="does not fit"):
        pretrain(recipe("model.n_positions=8"), data=data, out=run, overwrite=True)
    with pytest.raises(UsageError, match="exclude each other"):
        pretrain(recipe(), data=data, out=run, overwrite=True, resume=True)
    assert sorted(path.name for path in run.rglob("*")) == before


def test_wordpiece_model_reads_a_prompt_without_cls_and_sep(tmp_path: Path) -> None:
    (tmp_path / "book.txt").write_text("却说曹操大喜。\n" * 80, encoding="utf-8")
    word = recipe("prepare.tokenizer.kind=wordpiece", "train.max_steps=1", "train.sample_prompt=null")
    prepare([str(tmp_path / "book.txt")], tmp_path / "data", word.prepare)
    pretrain(word, data=tmp_path / "data", out=tmp_path / "run")
    encoded = AutoTokenizer.from_pretrained(tmp_path / "run/model")("却说")
    assert set(encoded) == {"input_ids", "attention_mask"}
    assert len(encoded["input_ids"]) == 2
    assert evaluate(word, model=str(tmp_path / "run"))["n_tokens"] > 0


def test_dropout_of_a_hub_model_gives_way_to_the_recipes(run: Path, data: Path, tmp_path: Path) -> None:
    pretrain(recipe("train.max_steps=1", "model.dropout=0.25"), data=data, out=tmp_path / "wet", model=str(run))
    pretrain(recipe("train.max_steps=1"), data=data, out=tmp_path / "dry", model=str(tmp_path / "wet"))
    rates = [AutoModelForCausalLM.from_pretrained(tmp_path / n / "model").config.resid_pdrop for n in ("wet", "dry")]
    assert rates == [0.25, 0.0]


def test_saved_configuration_lets_others_generate_with_a_cache(run: Path) -> None:
    assert json.loads((run / "model/config.json").read_text()).get("use_cache", True)


def test_run_and_data_can_be_moved_together(run: Path, data: Path, tmp_path: Path) -> None:
    shutil.copytree(data, tmp_path / "a/data")
    pretrain(recipe("train.max_steps=1"), data=tmp_path / "a/data", out=tmp_path / "a/run")
    (tmp_path / "a").rename(tmp_path / "b")
    assert evaluate(recipe(), model=str(tmp_path / "b/run"))["n_tokens"] > 0


def test_lone_surrogate_in_a_text_to_score_is_no_crash(run: Path, tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"text": "a\\ud800b"}\n')
    assert evaluate(recipe(), model=str(run), data=[str(tmp_path / "rows.jsonl")])["n_characters"] == 3


def test_resume_with_another_recipe_names_what_changed(run: Path, data: Path) -> None:
    with pytest.raises(UsageError, match=r"optim.learning_rate: 0.001 -> 0.5"):
        pretrain(recipe("optim.learning_rate=0.5"), data=data, out=run, resume=True)


def test_training_can_start_from_a_model(run: Path, data: Path, tmp_path: Path) -> None:
    pretrain(recipe("train.max_steps=1", "optim.learning_rate=1e-9"), data=data, out=tmp_path / "on", model=str(run))
    before, after = (AutoModelForCausalLM.from_pretrained(p / "model").state_dict() for p in (run, tmp_path / "on"))
    assert all(torch.allclose(before[name], after[name], atol=1e-6) for name in before)


def test_model_with_another_tokenizer_is_refused_with_both_fingerprints(run: Path, data: Path, tmp_path: Path) -> None:
    (tmp_path / "other.txt").write_text("quite another text, with other words in it\n" * 30)
    other = recipe("prepare.tokenizer.vocab_size=270")
    prepare([str(tmp_path / "other.txt")], tmp_path / "data", other.prepare)
    for call in (
        lambda: pretrain(other, data=tmp_path / "data", out=tmp_path / "run", model=str(run)),
        lambda: evaluate(other, model=str(run), data=[str(tmp_path / "data")]),
    ):
        with pytest.raises(ModelError, match=r"another tokenizer \([0-9a-f]{12}\) than the model's \([0-9a-f]{12}\)"):
            call()


def test_block_longer_than_the_model_is_refused(data: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="block_size 16 does not fit the model's 8 positions"):
        pretrain(recipe("model.n_positions=8"), data=data, out=tmp_path / "run")


def test_tokenizer_larger_than_the_model_is_refused_before_training(run: Path, data: Path, tmp_path: Path) -> None:
    small = AutoModelForCausalLM.from_pretrained(run / "model")
    small.resize_token_embeddings(100)
    small.save_pretrained(tmp_path / "small")
    AutoTokenizer.from_pretrained(run / "model").save_pretrained(tmp_path / "small")
    with pytest.raises(ModelError, match=r"the tokenizer has \d+ entries, the model's embedding only 100"):
        pretrain(recipe(), data=data, out=tmp_path / "run", model=str(tmp_path / "small"))
    assert not (tmp_path / "run").exists()
    pretrain(
        recipe("model.resize_embeddings=true", "train.max_steps=1"), data=data, out=tmp_path / "grown",
        model=str(tmp_path / "small"),
    )  # fmt: skip
    grown = AutoModelForCausalLM.from_pretrained(tmp_path / "grown/model")
    assert grown.get_input_embeddings().num_embeddings == len(AutoTokenizer.from_pretrained(run / "model"))


def test_model_whose_tokenizer_pads_with_eos_gets_a_pad_row_and_trains(run: Path, data: Path, tmp_path: Path) -> None:
    theirs, tokenizer = (kind.from_pretrained(run / "model") for kind in (AutoModelForCausalLM, AutoTokenizer))
    tokenizer.pad_token = tokenizer.eos_token
    tokenizer.save_pretrained(tmp_path / "theirs")
    theirs.save_pretrained(tmp_path / "theirs")
    (tmp_path / "text.txt").write_text("their own words, once more and again\n" * 60)
    own = recipe(f"prepare.tokenizer.path={tmp_path / 'theirs'}", "train.max_steps=1")
    prepare([str(tmp_path / "text.txt")], tmp_path / "data", own.prepare)
    pretrain(own, data=tmp_path / "data", out=tmp_path / "run", model=str(tmp_path / "theirs"))
    saved = AutoTokenizer.from_pretrained(tmp_path / "run/model")
    assert saved.pad_token_id not in (None, saved.eos_token_id)
    grown = AutoModelForCausalLM.from_pretrained(tmp_path / "run/model").get_input_embeddings().num_embeddings
    assert grown == len(saved) == theirs.get_input_embeddings().num_embeddings + 1
    assert evaluate(own, model=str(tmp_path / "theirs"), data=[str(tmp_path / "data")])["n_tokens"] > 0


def test_model_that_predicts_no_tokens_is_refused_where_text_is_written(data: Path, tmp_path: Path) -> None:
    config = BertConfig(vocab_size=50, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16)
    BertForSequenceClassification(config).save_pretrained(tmp_path / "bert")
    for call in (
        lambda: generate(recipe().generate, model=str(tmp_path / "bert"), prompts=["x"]),
        lambda: pretrain(recipe(), data=data, out=tmp_path / "run", model=str(tmp_path / "bert")),
    ):
        with pytest.raises(UsageError, match="is a classifier") as caught:
            call()
        assert "finetune-cls" in str(caught.value)


def test_masked_model_is_refused_as_the_start_of_a_causal_one(data: Path, tmp_path: Path) -> None:
    config = BertConfig(vocab_size=50, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16)
    BertForMaskedLM(config).save_pretrained(tmp_path / "bert")
    with pytest.raises(UsageError, match="masked language model") as caught:
        pretrain(recipe(), data=data, out=tmp_path / "run", model=str(tmp_path / "bert"))
    assert "pretrain-mlm" in str(caught.value)


def test_huge_learning_rate_ends_with_exit_code_5_and_no_model(data: Path, tmp_path: Path) -> None:
    wild = recipe("optim.learning_rate=1e30", "optim.warmup_steps=0", "optim.max_grad_norm=0")
    with pytest.raises(TrainingFailed) as caught:
        pretrain(wild, data=data, out=tmp_path / "run")
    assert caught.value.exit_code == 5
    assert not (tmp_path / "run/model").exists()


@pytest.mark.parametrize("name", ["nowhere/at/all", "./runs/nope"])
def test_model_that_does_not_exist_is_exit_code_6(name: str) -> None:
    with pytest.raises(ModelError, match="there is no folder"):
        evaluate(recipe(), model=name, data=["x.txt"])


def test_data_that_is_no_prepared_folder_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not a prepared folder") as caught:
        pretrain(recipe(), data=tmp_path, out=tmp_path / "run")
    assert "llmkit prepare" in str(caught.value)


def test_same_prompt_and_seed_write_the_same_text(run: Path) -> None:
    texts = {generate(recipe().generate, model=str(run), prompts=["却说"])[0]["text"] for _ in range(2)}
    assert len(texts) == 1


def test_minutes_become_a_recorded_number_of_steps(data: Path, tmp_path: Path) -> None:
    timed = recipe("train.max_steps=null", "train.max_minutes=0.05", "train.sample_prompt=null")
    result = pretrain(timed, data=data, out=tmp_path / "run")
    manifest = json.loads((tmp_path / "run/manifest.json").read_text())
    assert result["training"]["steps"] == manifest["plan"]["n_steps"] > 1
    assert manifest["plan"]["calibration_step"] is None
    spent = result["training"]["seconds_spent"]
    assert min(spent[part] for part in ("start", "training", "evaluation", "saving", "finish")) > 0


def test_a_model_that_learned_nothing_says_so_in_log_and_report(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pretrain(recipe("train.max_steps=1", "optim.learning_rate=1e-9"), data=data, out=tmp_path / "run")
    said = "no better than that of token frequencies alone"
    assert said in capsys.readouterr().err
    assert said in (tmp_path / "run/report.html").read_text()
    assert [record for record in read_log(tmp_path / "run") if record["kind"] == "note"]


def test_loss_of_the_first_step_is_that_of_a_uniform_guess(data: Path, tmp_path: Path) -> None:
    pretrain(recipe("train.max_steps=1", "train.log_steps=1"), data=data, out=tmp_path / "run")
    first = next(record for record in read_log(tmp_path / "run") if record["kind"] == "train")
    vocab = len(AutoTokenizer.from_pretrained(data / "tokenizer"))
    assert first["loss"] == pytest.approx(F.cross_entropy(torch.zeros(1, vocab), torch.tensor([0])).item(), abs=0.15)


def test_memory_that_runs_out_in_training_names_the_way_on(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def step(self: TrainingLoop, *_: Any) -> Any:
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(TrainingLoop, "train_step", step)
    with pytest.raises(EnvironmentFault, match="memory ran out while training") as refused:
        pretrain(recipe("train.global_batch_size=8"), data=data, out=tmp_path / "run")
    assert "--resume -s train.micro_batch_size=4 --allow train.micro_batch_size" in str(refused.value)
