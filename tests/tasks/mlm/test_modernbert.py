"""Pretraining, evaluation, fill-in, resume and fine-tuning of a ModernBERT, which transformers loads."""

import json
import math
import shutil
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from tiny import make_documents, make_messages, make_modernbert, make_pairs, make_sentence_split, write_table
from transformers import (
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    ModernBertForMaskedLM,
    ModernBertForSequenceClassification,
    pipeline,
)

from llmkit.config.loading import load_recipe
from llmkit.config.recipe import Recipe
from llmkit.core.errors import UsageError
from llmkit.evaluating.evaluate import evaluate
from llmkit.generating.generate import generate
from llmkit.models.kernels.optimized import PADDING, optimized
from llmkit.models.masked import compute_head_logits
from llmkit.preparing.prepare import prepare
from llmkit.runs.train import finetune, pretrain
from llmkit.tasks.mlm.objective import MaskedLM

TINY = (
    "model.family=modernbert", "prepare.tokenizer.kind=wordpiece", "prepare.tokenizer.vocab_size=200",
    "prepare.split.validation=0.2", "prepare.split.test=0", "model.n_layer=2", "model.n_head=2", "model.n_embd=32",
    "train.block_size=32", "train.global_batch_size=8", "train.max_steps=6", "train.save_steps=3", "train.log_steps=1",
    "train.precision=fp32", "optim.learning_rate=1e-2",
)  # fmt: skip


def recipe(*overrides: str) -> Recipe:
    return load_recipe(None, [*TINY, *overrides], "mlm")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("prepared")
    lines = (f"{n} green bottles were hanging on the wall. One of them fell! Who was to blame?\n" for n in range(80))
    (folder / "book.txt").write_text("".join(lines), encoding="utf-8")
    prepare([str(folder / "book.txt")], folder / "data", recipe().prepare)
    return folder / "data"


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "modernbert"
    pretrain(recipe(), data=data, out=out)
    return out


def test_training_learns_and_eval_gives_the_same_metrics(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    losses = [record["loss"] for record in log if record["kind"] == "train"]
    assert losses[-1] < losses[0] - 0.3
    assert losses[0] == pytest.approx(math.log(len(AutoTokenizer.from_pretrained(run / "model"))), abs=0.3)
    assert not any(name.startswith(("nsp", "sop")) for record in log for name in record)
    written = json.loads((run / "metrics.json").read_text())["validation"]
    assert evaluate(recipe(), model=str(run))["loss"] == pytest.approx(written["loss"], rel=1e-6)


def test_that_pairs_are_not_trained_is_reported(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pretrain(recipe("train.max_steps=1"), data=data, out=tmp_path / "run")
    assert "modernbert has no head for pairs, so only masked tokens are trained" in capsys.readouterr().err


def test_it_is_a_modernbert_of_plain_transformers(run: Path) -> None:
    model, info = AutoModelForMaskedLM.from_pretrained(run / "model", output_loading_info=True)
    assert type(model) is ModernBertForMaskedLM and not info["missing_keys"] and not info["unexpected_keys"]
    assert "llmkit is not needed" in (run / "model/README.md").read_text()
    assert "AutoModelForMaskedLM.from_pretrained" in (run / "model/README.md").read_text()
    tokenizer = AutoTokenizer.from_pretrained(run / "model")
    assert tokenizer.model_input_names == ["input_ids", "attention_mask"], "it has no token types"
    assert tokenizer.model_max_length == model.config.max_position_embeddings == 32


def test_logits_are_those_of_the_saved_model_in_plain_transformers(run: Path) -> None:
    plain, ours = (AutoModelForMaskedLM.from_pretrained(run / "model").eval() for _ in range(2))
    assert PADDING in optimized(ours, "fp32", torch.device("cpu"))
    mask = (torch.arange(32) < torch.tensor([32, 5, 19])[:, None]).long()
    ids = torch.randint(5, plain.config.vocab_size, mask.shape, generator=torch.Generator().manual_seed(0))
    places = mask.flatten().nonzero()[:, 0]
    with torch.no_grad():
        expected = plain(input_ids=ids, attention_mask=mask).logits.flatten(0, 1)[places]
        logits, pairs = compute_head_logits(ours, ours.base_model(input_ids=ids, attention_mask=mask), places)
    torch.testing.assert_close(logits, expected, rtol=1e-5, atol=1e-5)
    assert pairs is None


@pytest.mark.parametrize("near", [4, 128])
def test_loss_and_gradients_are_those_of_plain_transformers(tmp_path: Path, near: int) -> None:
    """Also where a window is shorter than the sequences."""
    split = make_sentence_split(tmp_path / "train", make_documents(3, 1, 7))
    pairs = make_pairs(split, "none", block_size=48)
    objective = MaskedLM(0, "none")
    ours, plain = make_modernbert(local_attention=near), make_modernbert(local_attention=near)
    optimized(ours, "fp32", torch.device("cpu"))
    batch = objective.collate([pairs.read(number) for number in range(pairs.samples_per_epoch)])
    assert "attention_mask" in batch
    loss = objective.sum_losses(ours, batch)["mlm_loss"] / len(batch["masked_ids"])
    labels = torch.full_like(batch["input_ids"], -100)
    labels.view(-1)[batch["masked_indices"]] = batch["masked_ids"]
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
    expected = plain(**inputs, labels=labels).loss
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    loss.backward()
    expected.backward()
    for one, other in zip(ours.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-4, atol=1e-6)


def test_masks_are_filled_as_by_transformers_pipeline(run: Path) -> None:
    filler = pipeline("fill-mask", model=str(run / "model"), top_k=3)
    for prompt in ("Ten green [MASK] were hanging on the wall.", "Who was to [MASK]?"):
        (filled,) = generate(recipe("generate.top_k=3").generate, model=str(run), prompts=[prompt])
        expected = filler(prompt)
        assert [fill["token_id"] for fill in filled["masks"][0]] == [each["token"] for each in expected]
        for fill, each in zip(filled["masks"][0], expected, strict=True):
            assert fill["probability"] == pytest.approx(each["score"], rel=1e-4)


def test_stopped_run_resumes_to_the_same_weights(run: Path, data: Path, tmp_path: Path) -> None:
    out = Path(shutil.copytree(run, tmp_path / "run"))
    shutil.rmtree(out / "model")
    shutil.rmtree(out / "checkpoints/step-6")
    pretrain(recipe(), data=data, out=out, resume=True)
    assert (out / "model/model.safetensors").read_bytes() == (run / "model/model.safetensors").read_bytes()


def test_saved_model_can_be_trained_whatever_family_the_recipe_has(run: Path, data: Path, tmp_path: Path) -> None:
    plain = [setting for setting in TINY if not setting.startswith("model.")]
    pretrain(load_recipe(None, plain, "mlm"), data=data, out=tmp_path / "on", model=str(run))
    model = AutoModelForMaskedLM.from_pretrained(tmp_path / "on/model")
    assert type(model) is ModernBertForMaskedLM
    with pytest.raises(UsageError, match=r"mlm\.sentence_objective nsp needs a head for pairs"):
        chosen = load_recipe(None, [*plain, "mlm.sentence_objective=nsp"], "mlm")
        pretrain(chosen, data=data, out=tmp_path / "other", model=str(run))


def test_model_of_others_is_scored_with_pseudo_perplexity(run: Path, tmp_path: Path) -> None:
    """One that plain transformers made, with other windows and pooling, on raw text."""
    tokenizer = AutoTokenizer.from_pretrained(run / "model")
    other = make_modernbert(vocab_size=len(tokenizer), classifier_pooling="mean", local_attention=4)
    other.save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    text = tmp_path / "text.txt"
    text.write_text("One of them fell! Who was to blame?\n" * 9)
    settings = recipe("evaluate.pseudo_perplexity=12", "evaluate.block_size=16")
    metrics = evaluate(settings, model=str(tmp_path / "model"), data=[str(text)])
    assert metrics["method"]["examples"] == "full sentences"
    plain = AutoModelForMaskedLM.from_pretrained(tmp_path / "model").eval()
    (record,) = metrics["documents"]
    ids = tokenizer(text.read_text(), add_special_tokens=False)["input_ids"][: record["n_tokens"]]
    window = torch.tensor([tokenizer.cls_token_id, *ids, tokenizer.sep_token_id])
    nats = 0.0
    for place in range(1, len(window) - 1):
        masked = window.clone()
        masked[place] = tokenizer.mask_token_id
        with torch.no_grad():
            logits = plain(input_ids=masked[None]).logits[0, place]
        nats += F.cross_entropy(logits, window[place]).item()
    assert record["nats"] == pytest.approx(nats, rel=1e-4)


def test_fine_tuned_classifier_opens_in_plain_transformers(run: Path, tmp_path: Path) -> None:
    rows = write_table(tmp_path / "rows.csv", make_messages(60))
    settings = load_recipe(None, ["train.max_steps=4", "train.precision=fp32", "cls.freeze=1"], task="cls")
    finetune(settings, files={"train": rows}, out=tmp_path / "out", model=str(run))
    model, info = AutoModelForSequenceClassification.from_pretrained(tmp_path / "out/model", output_loading_info=True)
    assert type(model) is ModernBertForSequenceClassification and not info["missing_keys"]
    assert (model.config.mlp_dropout, model.config.embedding_dropout) == (0.0, 0.0), "those of the run"
    pretrained = AutoModelForMaskedLM.from_pretrained(run / "model").state_dict()
    for name in ("model.embeddings.tok_embeddings.weight", "model.layers.0.attn.Wqkv.weight"):
        assert torch.equal(model.state_dict()[name], pretrained[name]), "frozen"
    assert not torch.equal(model.state_dict()["model.layers.1.attn.Wqkv.weight"], pretrained[name])
