"""GRU, LSTM and Transformer on a tiny text: pretraining, resume, evaluation, generation and fine-tuning."""

import json
import shutil
import sys
from pathlib import Path

import pytest
import torch
from four_kinds import read_log
from several import INTERRUPT, run_command
from tiny import FILLER, HAM, SPAM, assert_same_figures, make_messages, write_table
from transformers import AutoModelForCausalLM

from llmkit.cli import app
from llmkit.config.loading import load_recipe
from llmkit.config.recipe import Recipe
from llmkit.core.errors import UsageError
from llmkit.evaluating.evaluate import evaluate
from llmkit.evaluating.predict import predict
from llmkit.generating.generate import generate
from llmkit.preparing.prepare import prepare
from llmkit.runs.train import finetune, pretrain

TINY = (
    "prepare.split.validation=0.2", "prepare.split.test=0", "model.n_layer=2", "model.n_embd=32",
    "train.block_size=16", "train.global_batch_size=4", "train.max_steps=6", "train.log_steps=2",
    "train.precision=fp32", "train.sample_prompt=null", "generate.max_new_tokens=12",
)  # fmt: skip
FAMILIES = pytest.mark.parametrize("family", ["gru", "lstm", "transformer"])


def recipe(family: str | None, *overrides: str) -> Recipe:
    return load_recipe(None, [*TINY, *([f"model.family={family}"] if family else []), *overrides])


def prepare_messages(folder: Path, kind: str) -> Path:
    texts = [text for text, _ in make_messages(150)]
    (folder / "book.txt").write_text("\n".join([*SPAM, *HAM, *FILLER, *texts]), encoding="utf-8")
    prepare([str(folder / "book.txt")], folder / "data", recipe(None, f"prepare.tokenizer.kind={kind}").prepare)
    return folder / "data"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepare_messages(tmp_path_factory.mktemp("prepared"), "char")


@pytest.fixture(scope="module")
def runs(data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One of each family, trained with its defaults."""
    folder = tmp_path_factory.mktemp("runs")
    found = {}
    for family in ("gru", "lstm", "transformer"):
        found[family] = folder / family
        pretrain(recipe(family, "optim.learning_rate=1e-2"), data=data, out=found[family])
    return found


@FAMILIES
def test_recurrent_training_learns_and_describes_its_model(runs: dict[str, Path], family: str) -> None:
    losses = [record["loss"] for record in read_log(runs[family], "eval")]
    assert losses[-1] < losses[0] - 0.05
    train = read_log(runs[family], "train")
    assert [record["step"] for record in train] == [2, 4, 6]
    assert 6 * 4 * 15 <= train[-1]["n_tokens"] <= 6 * 4 * 16
    manifest = json.loads((runs[family] / "manifest.json").read_text())
    assert manifest["model"]["family"] == family
    assert "import llmkit" in (runs[family] / "model/README.md").read_text()


@FAMILIES
def test_eval_of_a_recurrent_run_gives_the_metrics_of_training(runs: dict[str, Path], family: str) -> None:
    written = json.loads((runs[family] / "metrics.json").read_text())["validation"]
    found = evaluate(recipe(None), model=str(runs[family]))
    assert_same_figures(found, written)


@pytest.mark.parametrize("family", ["gru", "lstm"])
def test_recurrent_score_equals_one_pass_over_the_held_out_text(runs: dict[str, Path], data: Path, family: str) -> None:
    import datasets

    model = AutoModelForCausalLM.from_pretrained(runs[family] / "model").eval()
    rows = datasets.load_from_disk(str(data / "validation"))["input_ids"]
    ids = torch.tensor([token for row in rows for token in row])
    with torch.no_grad():
        logits = model(input_ids=torch.cat([ids[-1:], ids[:-1]])[None]).logits[0]
    expected = -logits.log_softmax(-1).gather(1, ids[:, None]).mean().item()
    metrics = json.loads((runs[family] / "metrics.json").read_text())["validation"]
    assert metrics["loss"] == pytest.approx(expected, rel=1e-5)
    assert metrics["n_tokens"] == len(ids)
    assert metrics["method"]["windows"] == "carried state"


@FAMILIES
def test_recurrent_model_generates_the_same_text_for_the_same_seed(runs: dict[str, Path], family: str) -> None:
    prompts = ["win cash", "", "dinner at home"]
    one, other = (generate(recipe(None).generate, model=str(runs[family]), prompts=prompts) for _ in range(2))
    assert [record["text"] for record in one] == [record["text"] for record in other]
    assert all(record["n_tokens"] > 0 for record in one)


CARRIED = (
    "optim.name=sgd", "optim.learning_rate=6", "optim.plateau_factor=0.5", "model.dropout=0.2", "train.eval_steps=2",
    "train.log_steps=1", "train.max_steps=8",
)  # fmt: skip


def test_interrupted_run_with_carried_state_resumes_to_the_same_weights_and_log(data: Path, tmp_path: Path) -> None:
    straight, out = tmp_path / "straight", tmp_path / "run"
    tiny = recipe("gru", *CARRIED)
    pretrain(tiny, data=data, out=straight)
    rates = [record["learning_rate"] for record in read_log(straight, "train")]
    assert len(set(rates)) > 1  # the rate was annealed
    command = ["pretrain-clm", "--data", str(data), "--out", str(out)]
    command += [part for override in (*TINY, "model.family=gru", *CARRIED) for part in ("-s", override)]
    code, _, err = run_command(command, tmp_path / "output", INTERRUPT)
    assert code == 130, err
    assert (out / "checkpoints/step-3/objective.safetensors").is_file()
    pretrain(load_recipe(out / "recipe.yaml"), data=data, out=out, resume=True)
    assert (out / "model/model.safetensors").read_bytes() == (straight / "model/model.safetensors").read_bytes()
    last = [path / "checkpoints/step-8" for path in (out, straight)]
    assert len({(path / "model.safetensors").read_bytes() for path in last}) == 1
    assert len({(path / "objective.safetensors").read_bytes() for path in last}) == 1
    for kind in ("train", "eval"):
        assert read_log(out, kind) == read_log(straight, kind)


@pytest.mark.parametrize("family", ["lstm", "transformer"])
def test_resume_from_an_earlier_checkpoint_gives_the_same_weights(
    runs: dict[str, Path], data: Path, tmp_path: Path, family: str
) -> None:
    out, tiny = tmp_path / "run", recipe(family, "model.dropout=0.2", "train.save_steps=3", "train.eval_steps=6")
    pretrain(tiny, data=data, out=out)
    expected = (out / "model/model.safetensors").read_bytes()
    shutil.rmtree(out / "model")
    shutil.rmtree(out / "checkpoints/step-6")
    assert [path.name for path in (out / "checkpoints").iterdir()] == ["step-3"]
    pretrain(tiny, data=data, out=out, resume=True)
    assert (out / "model/model.safetensors").read_bytes() == expected


def test_adaptive_softmax_trains_and_is_scored_after_loading(data: Path, tmp_path: Path) -> None:
    settings = ("model.tie_embeddings=false", "model.adaptive_cutoffs=[10, 20]", "train.max_steps=2")
    pretrain(recipe("lstm", *settings), data=data, out=tmp_path / "run")
    written = json.loads((tmp_path / "run/metrics.json").read_text())["validation"]
    assert evaluate(recipe(None), model=str(tmp_path / "run"))["loss"] == pytest.approx(written["loss"], rel=1e-6)


def test_cutoffs_beyond_the_vocabulary_are_a_usage_error(data: Path, tmp_path: Path) -> None:
    settings = ("model.tie_embeddings=false", "model.adaptive_cutoffs=[2000]")
    with pytest.raises(UsageError, match="2000"):
        pretrain(recipe("gru", *settings), data=data, out=tmp_path / "run")


def test_blocks_start_from_a_zero_state_without_carry_state(data: Path, tmp_path: Path) -> None:
    tiny = recipe("gru", "train.carry_state=false", "train.save_steps=3")
    pretrain(tiny, data=data, out=tmp_path / "run")
    assert not list(tmp_path.rglob("objective.safetensors"))
    assert evaluate(recipe(None), model=str(tmp_path / "run"))["n_tokens"] > 0


def test_recurrent_weights_do_not_depend_on_the_micro_batch_size(data: Path, tmp_path: Path) -> None:
    weights = []
    for size in (4, 1):
        length = ("train.max_steps=null", "train.epochs=2", "train.block_size=128")
        tiny = recipe("gru", *length, f"train.micro_batch_size={size}")
        out = tmp_path / str(size)
        pretrain(tiny, data=data, out=out)
        weights.append(AutoModelForCausalLM.from_pretrained(out / "model").state_dict())
    for name, weight in weights[0].items():
        torch.testing.assert_close(weights[1][name], weight, rtol=1e-3, atol=1e-4, msg=name)


def test_training_from_a_run_uses_its_family(runs: dict[str, Path], data: Path, tmp_path: Path) -> None:
    out = tmp_path / "on"
    pretrain(recipe(None, "train.max_steps=1", "optim.learning_rate=1e-9"), data=data, out=out, model=str(runs["gru"]))
    assert json.loads((out / "manifest.json").read_text())["model"]["family"] == "gru"
    assert (out / "checkpoints/step-1/objective.safetensors").is_file()
    before, after = (AutoModelForCausalLM.from_pretrained(path / "model").state_dict() for path in (runs["gru"], out))
    assert all(torch.allclose(before[name], after[name], atol=1e-6) for name in before)
    assert evaluate(recipe(None), model=str(out))["n_tokens"] > 0


def test_run_started_from_a_run_resumes_and_is_scored_for_any_model_section(
    runs: dict[str, Path], data: Path, tmp_path: Path
) -> None:
    out, of_gpt2 = tmp_path / "on", recipe(None, "train.max_steps=1", "model.n_head=2", "model.n_positions=16")
    pretrain(of_gpt2, data=data, out=out, model=str(runs["gru"]))
    assert load_recipe(out / "recipe.yaml")
    assert evaluate(recipe(None), model=str(out))["n_tokens"] > 0
    pretrain(of_gpt2, data=data, out=out, resume=True)


@pytest.mark.parametrize(("family", "kind"), [("gru", "word"), ("gru", "char"), ("transformer", "char")])
def test_recurrent_run_is_fine_tuned_scored_and_predicts_rows(
    runs: dict[str, Path], tmp_path: Path, family: str, kind: str
) -> None:
    run = runs[family]
    if kind == "word":
        run = tmp_path / "words"
        prepared = prepare_messages(tmp_path, kind)
        pretrain(recipe(family, "train.max_steps=2", "train.block_size=32"), data=prepared, out=run)
    table = write_table(tmp_path / "rows.csv", make_messages(80))
    settings = ["train.max_steps=20", "train.global_batch_size=8", "train.precision=fp32", "optim.learning_rate=2e-2"]
    section = load_recipe(None, [*settings, "model.dropout=0", "cls.validation=0.25"], task="cls")
    finetune(section, files={"train": table}, out=tmp_path / "run", model=str(run))
    metrics = json.loads((tmp_path / "run/metrics.json").read_text())["validation"]
    assert evaluate(section, model=str(tmp_path / "run"))["accuracy"] == metrics["accuracy"]
    if kind == "word":
        assert metrics["accuracy"] > 0.8
    pieces: list[str] = []
    predict(section, model=str(tmp_path / "run"), data=table, out=None, write=pieces.append, file_format="jsonl")
    assert {json.loads(line)["prediction"] for line in "".join(pieces).splitlines()} <= {"spam", "ham"}


@pytest.mark.parametrize("setting", ["evaluate.stride=4", "evaluate.block_size=8"])
def test_windows_of_a_recurrent_run_are_refused_in_three_lines(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], runs: dict[str, Path], setting: str
) -> None:
    monkeypatch.setattr(sys, "argv", ["llmkit", "eval", str(runs["gru"]), "-s", setting])
    monkeypatch.setattr(app.signal, "signal", lambda *_: None)
    capsys.readouterr()
    with pytest.raises(SystemExit) as caught:
        app.main()
    out, err = capsys.readouterr()
    assert (caught.value.code, out) == (2, "")
    lines = [line for line in err.splitlines() if line and "it/s]" not in line]
    assert [line.split(":")[0] for line in lines] == ["error", "where", "hint"]
    assert "uses all text" in lines[0]


def test_strided_evaluation_supports_the_transformer(runs: dict[str, Path]) -> None:
    blockwise, strided = (
        evaluate(recipe(None, f"evaluate.stride={stride}"), model=str(runs["transformer"])) for stride in (16, 4)
    )
    assert strided["n_tokens"] == blockwise["n_tokens"]
    assert strided["loss"] != blockwise["loss"]
