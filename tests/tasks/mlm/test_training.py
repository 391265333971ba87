"""Masked language models from training to evaluation on a tiny text, and synthetic examples for plans."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from several import INTERRUPT, run_command
from tiny import SUM_ORDER, make_bert
from transformers import (
    AutoModelForMaskedLM,
    AutoTokenizer,
    BertConfig,
    BertForMaskedLM,
    BertForPreTraining,
    BertTokenizer,
    pipeline,
)

from llmkit.config.loading import load_recipe
from llmkit.config.recipe import Recipe
from llmkit.core.errors import DataError, ModelError, UsageError
from llmkit.datasets.pairs import NO_PAIR
from llmkit.demo import demo
from llmkit.evaluating.evaluate import evaluate
from llmkit.generating.generate import generate
from llmkit.preparing.prepare import prepare
from llmkit.runs.train import pretrain
from llmkit.tasks.mlm import MlmTask
from llmkit.tasks.synthetic import N_TOKENS, Vocabulary


def make(*overrides: str) -> Any:
    recipe = load_recipe(None, ["task=mlm", "train.block_size=64", *overrides])
    return MlmTask().make_synthetic(recipe, Vocabulary(60))


@pytest.mark.parametrize(("sentence_objective", "n_first"), [("nsp", 32), ("sop", 32), ("none", 64)])
def test_synthetic_example_is_full_and_has_two_segments_for_pairs(sentence_objective: str, n_first: int) -> None:
    samples = make(f"mlm.sentence_objective={sentence_objective}").samples
    example, again = samples[7], samples[7]
    assert (len(example.input_ids), example.n_first) == (64, n_first)
    assert (example.relation == NO_PAIR) is (sentence_objective == "none")
    assert (example.input_ids == again.input_ids).all() and (example.masked == again.masked).all()
    assert example.input_ids[example.masked].tolist() == example.targets.tolist()
    assert samples.samples_per_epoch == N_TOKENS // 64


@pytest.mark.parametrize("share", [0.15, 0.4])
def test_masked_share_is_that_of_the_recipe(share: float) -> None:
    task = make(f"mlm.mlm_probability={share}")
    n_masked = [len(task.samples[number].masked) for number in range(400)]
    assert min(n_masked) >= 1
    assert np.mean(n_masked) == pytest.approx(share * (64 - 3), rel=0.05)
    assert task.output_fraction == share


def test_scored_logits_are_counted_for_the_masked_tokens_of_a_batch() -> None:
    task = make("evaluate.batch_size=4")
    assert task.count_scored_logits(make_bert()) == pytest.approx(4 * 64 * 0.15 * 100)
    shorter = make("evaluate.batch_size=4", "evaluate.block_size=32")
    assert shorter.count_scored_logits(make_bert()) == pytest.approx(4 * 32 * 0.15 * 100)


TINY = (
    "prepare.tokenizer.kind=wordpiece", "prepare.tokenizer.vocab_size=200", "prepare.split.validation=0.2",
    "prepare.split.test=0", "model.n_layer=2", "model.n_head=2", "model.n_embd=32", "train.block_size=32",
    "train.global_batch_size=8", "train.max_steps=6", "train.log_steps=1", "train.precision=fp32",
    "optim.learning_rate=1e-2",
)  # fmt: skip


def recipe(*overrides: str) -> Recipe:
    return load_recipe(None, [*TINY, *overrides], "mlm")


def write_books(folder: Path) -> None:
    """Two books, English and Chinese."""
    folder.mkdir()
    english = (f"{n} green bottles were hanging on the wall. One of them fell! Who was to blame?\n" for n in range(60))
    chinese = (f"却说{n}个绿瓶子挂在墙上。一个掉了！是谁的错？\n" for n in range(60))
    (folder / "english.txt").write_text("".join(english), encoding="utf-8")
    (folder / "chinese.txt").write_text("".join(chinese), encoding="utf-8")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("prepared")
    write_books(folder / "books")
    prepare([str(folder / "books")], folder / "data", recipe().prepare)
    return folder / "data"


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "run"
    pretrain(recipe(), data=data, out=out)
    return out


def read_log(run: Path, kind: str = "train") -> list[dict[str, Any]]:
    records = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [record for record in records if record["kind"] == kind]


def test_log_and_metrics_have_both_losses_and_their_baselines(run: Path) -> None:
    for record in read_log(run):
        assert record["loss"] == pytest.approx(record["mlm_loss"] + record["nsp_loss"], abs=2e-6)
        assert 0 <= record["data_wait"] < 1
    metrics = json.loads((run / "metrics.json").read_text())["validation"]
    promised = {
        "mlm_loss", "mlm_perplexity", "mlm_accuracy", "mlm_top5_accuracy", "mlm_baseline_accuracy", "nsp_loss",
        "nsp_accuracy", "nsp_baseline_accuracy", "nsp_confusion", "n_masked", "n_pairs", "method",
    }  # fmt: skip
    assert promised <= set(metrics)
    page = (run / "report.html").read_text()
    assert "Held-out next-sentence accuracy" in page
    assert "constant baseline: " in page
    assert "not next" in page


def test_training_reduces_the_loss(run: Path) -> None:
    losses = [record["mlm_loss"] for record in read_log(run, "eval")]
    assert losses[-1] < losses[0] - 0.05


@pytest.mark.parametrize("micro", [4, 3, 2])
def test_losses_and_gradients_do_not_depend_on_accumulation(data: Path, run: Path, tmp_path: Path, micro: int) -> None:
    pretrain(recipe(f"train.micro_batch_size={micro}"), data=data, out=tmp_path / "run")
    for ours, whole in zip(read_log(tmp_path / "run"), read_log(run), strict=True):
        for name in ("mlm_loss", "nsp_loss", "grad_norm"):
            assert ours[name] == pytest.approx(whole[name], **SUM_ORDER)


@pytest.mark.parametrize("workers", [0, 2])
def test_interrupted_run_resumes_to_the_same_weights(data: Path, run: Path, tmp_path: Path, workers: int) -> None:
    out = tmp_path / "run"
    command = ["pretrain-mlm", "--data", str(data), "--out", str(out)]
    command += [part for override in (*TINY, f"train.num_workers={workers}") for part in ("-s", override)]
    code, _, err = run_command(command, tmp_path / "output", INTERRUPT)
    assert code == 130, err
    pretrain(load_recipe(out / "recipe.yaml"), data=data, out=out, resume=True)
    assert (out / "model/model.safetensors").read_bytes() == (run / "model/model.safetensors").read_bytes()
    assert [record["mlm_loss"] for record in read_log(out)] == [record["mlm_loss"] for record in read_log(run)]


def test_saved_model_opens_in_plain_transformers_without_missing_keys(run: Path) -> None:
    _, info = BertForPreTraining.from_pretrained(run / "model", output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    model = AutoModelForMaskedLM.from_pretrained(run / "model")
    tokenizer = AutoTokenizer.from_pretrained(run / "model")
    assert tokenizer.model_max_length == model.config.max_position_embeddings == 32
    pair = tokenizer("one wall", "two walls")
    assert pair["input_ids"][0] == tokenizer.cls_token_id
    assert 1 in pair["token_type_ids"]


@pytest.mark.parametrize("prompt", ["One of them [MASK]! Who was to [MASK]?", "一个[MASK]了！是谁的错？"])
def test_fill_in_agrees_with_transformers_pipeline(run: Path, prompt: str) -> None:
    ours = generate(recipe().generate, model=str(run), prompts=[prompt])[0]["masks"]
    theirs: Any = pipeline("fill-mask", model=str(run / "model"), top_k=5)(prompt)
    theirs = theirs if isinstance(theirs[0], list) else [theirs]
    assert [[fill["token_id"] for fill in mask] for mask in ours] == [[f["token"] for f in mask] for mask in theirs]
    mine = [fill["probability"] for mask in ours for fill in mask]
    assert mine == pytest.approx([fill["score"] for mask in theirs for fill in mask], **SUM_ORDER)


def test_prompt_without_a_mask_is_an_error_that_names_it(run: Path) -> None:
    with pytest.raises(UsageError, match=r"has no \[MASK\]"):
        generate(recipe().generate, model=str(run), prompts=["no gap here"])


@pytest.mark.parametrize("sentence_objective", ["none", "sop"])
def test_sop_and_full_sentences_train_and_are_scored(data: Path, tmp_path: Path, sentence_objective: str) -> None:
    metrics = pretrain(
        recipe(f"mlm.sentence_objective={sentence_objective}", "train.max_steps=2"), data=data, out=tmp_path / "run"
    )["validation"]
    assert ("sop_accuracy" in metrics) == (sentence_objective == "sop")
    assert "nsp_accuracy" not in metrics
    kind = BertForPreTraining if sentence_objective == "sop" else BertForMaskedLM
    _, info = kind.from_pretrained(tmp_path / "run/model", output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]


def test_eval_of_a_masked_run_gives_the_metrics_of_training(run: Path) -> None:
    before = json.loads((run / "metrics.json").read_text())["validation"]
    assert evaluate(load_recipe(run / "recipe.yaml"), model=str(run)) == before


def test_raw_text_is_scored_with_pseudo_perplexity_of_each_document(run: Path, tmp_path: Path) -> None:
    write_books(tmp_path / "books")
    metrics = evaluate(recipe("evaluate.pseudo_perplexity=20"), model=str(run), data=[str(tmp_path / "books")])
    assert [record["n_tokens"] for record in metrics["documents"]] == [20, 20]
    assert metrics["pseudo_perplexity"] > 1
    assert metrics["method"]["data"] == "books"


def test_short_text_is_scored_without_pairs_with_a_note(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "short.txt").write_text("One of them fell! Who was to blame?\n")
    metrics = evaluate(recipe("evaluate.pseudo_perplexity=5"), model=str(run), data=[str(tmp_path / "short.txt")])
    assert "only masked tokens are scored" in capsys.readouterr().err
    assert metrics["n_masked"] > 0
    assert metrics["pseudo_perplexity"] > 1
    assert "nsp_accuracy" not in metrics


def test_data_of_one_document_gets_a_note(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_books(tmp_path / "books")
    prepare([str(tmp_path / "books/english.txt")], tmp_path / "data", recipe().prepare)
    with pytest.raises(DataError, match="too short for two unrelated passages") as caught:
        pretrain(recipe("train.block_size=64"), data=tmp_path / "data", out=tmp_path / "run", dry_run=True)
    assert "validation" in str(caught.value)
    pretrain(recipe("train.max_steps=1", "train.block_size=24"), data=tmp_path / "data", out=tmp_path / "run")
    assert "distant passage" in capsys.readouterr().err
    assert json.loads((tmp_path / "run/manifest.json").read_text())["not_next"] == "from a distant passage"


def test_data_without_a_mask_token_is_refused_with_a_hint(tmp_path: Path) -> None:
    write_books(tmp_path / "books")
    plain = recipe("prepare.tokenizer.kind=byte-bpe", "prepare.tokenizer.vocab_size=300")
    prepare([str(tmp_path / "books")], tmp_path / "data", plain.prepare)
    with pytest.raises(DataError, match="lacks \\[MASK\\]") as caught:
        pretrain(recipe(), data=tmp_path / "data", out=tmp_path / "run")
    assert "wordpiece" in str(caught.value)
    assert not (tmp_path / "run").exists()


def make_vocabulary(folder: Path) -> Path:
    """A vocab.txt as bert-base-chinese has it: characters, pieces, lower case."""
    folder.mkdir()
    tokens = ["[PAD]", "[unused1]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"。！？，.!?,"]
    tokens += sorted(set("却说个绿瓶子挂在墙上一掉了是谁的错")) + [
        f"{letter}" for letter in "abcdefghijklmnopqrstuvwxyz0123456789"
    ]
    tokens += [f"##{letter}" for letter in "abcdefghijklmnopqrstuvwxyz0123456789"]
    (folder / "vocab.txt").write_text("\n".join(tokens) + "\n", encoding="utf-8")
    return folder / "vocab.txt"


@pytest.mark.parametrize("kind", [BertForPreTraining, BertForMaskedLM])
def test_existing_bert_trains_on_with_its_own_vocabulary(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: type[BertForMaskedLM]
) -> None:
    write_books(tmp_path / "books")
    vocabulary = make_vocabulary(tmp_path / "vocab")
    tokenizer = BertTokenizer(str(vocabulary))
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64
    )
    torch.manual_seed(0)
    kind(config).save_pretrained(tmp_path / "bert")
    tokenizer.save_pretrained(tmp_path / "bert")
    own = recipe(f"prepare.tokenizer.path={tmp_path / 'bert'}", "train.max_steps=1", "train.block_size=48")
    prepare([str(tmp_path / "books")], tmp_path / "data", own.prepare)
    pretrain(own, data=tmp_path / "data", out=tmp_path / "run", model=str(tmp_path / "bert"))
    output = capsys.readouterr().err
    assert ("new, not in the model: the head for pairs" in output) == (kind is BertForMaskedLM)
    trained = BertForPreTraining.from_pretrained(tmp_path / "run/model")
    assert trained.config.vocab_size == len(tokenizer)
    assert trained.config.hidden_dropout_prob == 0.1
    assert "model.dropout 0 replaces the model's 0.1" in output
    assert AutoTokenizer.from_pretrained(tmp_path / "run/model").get_vocab() == tokenizer.get_vocab()


def test_bert_with_its_published_tokenizer_is_scored_on_raw_text(tmp_path: Path) -> None:
    write_books(tmp_path / "books")
    tokenizer = BertTokenizer(str(make_vocabulary(tmp_path / "vocab")))
    assert tokenizer.eos_token is None
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64
    )
    BertForPreTraining(config).save_pretrained(tmp_path / "bert")
    tokenizer.save_pretrained(tmp_path / "bert")
    asked = recipe("evaluate.block_size=48")
    metrics = evaluate(asked, model=str(tmp_path / "bert"), data=[str(tmp_path / "books")])
    assert metrics["n_pairs"] > 10
    assert metrics["method"]["not_next"] == "from another document"


def test_a_lone_vocabulary_file_prepares_data_as_its_folder_does(tmp_path: Path) -> None:
    write_books(tmp_path / "books")
    vocabulary = make_vocabulary(tmp_path / "vocab")
    for name, path in (("file", vocabulary), ("folder", vocabulary.parent)):
        own = recipe(f"prepare.tokenizer.path={path}")
        prepared = prepare([str(tmp_path / "books")], tmp_path / name, own.prepare)
        assert prepared.manifest["splits"]["train"]["unknown_tokens"] == 0
    first, second = ((tmp_path / name / "train/data-00000.arrow").read_bytes() for name in ("file", "folder"))
    assert first == second


def test_vocabulary_with_capitals_keeps_case(tmp_path: Path) -> None:
    from llmkit.tokens.loading import load_tokenizer

    vocabulary = make_vocabulary(tmp_path / "vocab")
    assert load_tokenizer(str(vocabulary)).tokenize("ABC") == ["a", "##b", "##c"]
    vocabulary.write_text(vocabulary.read_text(encoding="utf-8") + "ABC\n", encoding="utf-8")
    assert load_tokenizer(str(vocabulary)).tokenize("ABC") == ["ABC"]
    vocabulary.write_text("a\nb\n")
    with pytest.raises(ModelError, match=r"no \[PAD\]"):
        load_tokenizer(str(vocabulary))


def test_resuming_with_other_masks_is_refused(data: Path, run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "run")
    with pytest.raises(UsageError, match=r"mlm.mlm_probability: 0.15 -> 0.3"):
        pretrain(recipe("mlm.mlm_probability=0.3"), data=data, out=tmp_path / "run", resume=True)


def test_sample_prompt_with_a_mask_is_filled_in_at_each_evaluation(data: Path, tmp_path: Path) -> None:
    asked = recipe("train.max_steps=2", "train.eval_steps=1", "train.sample_prompt=One of them [MASK]!")
    pretrain(asked, data=data, out=tmp_path / "run")
    samples = read_log(tmp_path / "run", "sample")
    assert [sample["prompt"] for sample in samples] == ["One of them [MASK]!"] * 2
    assert all("%" in sample["text"] for sample in samples)


def test_sentences_and_words_are_in_the_store_and_the_manifest(data: Path) -> None:
    import datasets

    manifest = json.loads((data / "manifest.json").read_text())
    rows = datasets.load_from_disk(str(data / "train"))
    assert manifest["splits"]["train"]["sentences"] == sum(len(ends) for ends in rows["sentence_ends"])
    assert manifest["sentences"]["chinese_words"].split()[0] in ("jieba", "characters")
    for row in rows:
        assert row["sentence_ends"] == sorted(set(row["sentence_ends"]))
        assert len(row["continues_word"]) == len(row["input_ids"])
        assert np.array(row["input_ids"])[-1] == AutoTokenizer.from_pretrained(data / "tokenizer").sep_token_id


def test_block_without_room_for_two_segments_is_refused(data: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="too small for two segments"):
        pretrain(recipe("train.block_size=4"), data=data, out=tmp_path / "run")


def test_stride_is_refused_for_a_masked_model(run: Path) -> None:
    with pytest.raises(UsageError, match="stride"):
        evaluate(load_recipe(None, ["evaluate.stride=4"]), model=str(run))


def test_sample_prompt_without_a_mask_is_refused_before_training(data: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"has no \[MASK\]"):
        pretrain(recipe("train.sample_prompt=no gap"), data=data, out=tmp_path / "run", dry_run=True)


def test_model_of_sentence_order_is_scored_as_one_without_its_recipe(data: Path, tmp_path: Path) -> None:
    pretrain(recipe("mlm.sentence_objective=sop", "train.max_steps=1"), data=data, out=tmp_path / "run")
    metrics = evaluate(recipe(), model=str(tmp_path / "run/model"), data=[str(data)])
    assert "sop_accuracy" in metrics
    assert "nsp_accuracy" not in metrics


def test_resume_with_other_words_or_held_out_masks_is_refused(data: Path, run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "run")
    with pytest.raises(UsageError, match=r"evaluate.seed: 0 -> 7"):
        pretrain(recipe("evaluate.seed=7"), data=data, out=tmp_path / "run", resume=True)
    write_books(tmp_path / "books")
    other = recipe("prepare.chinese_words=characters")
    prepare([str(tmp_path / "books")], tmp_path / "data", other.prepare)
    if json.loads((data / "manifest.json").read_text())["sentences"]["chinese_words"] != "characters":
        with pytest.raises(UsageError, match="train_sentences"):
            pretrain(recipe(), data=tmp_path / "data", out=tmp_path / "run", resume=True)


def test_unknown_tokens_are_counted_with_a_note(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "strange.txt").write_text("One of them fell. Жёлтый дом стоит. Who was to blame?\n" * 30)
    metrics = evaluate(recipe("mlm.sentence_objective=none"), model=str(run), data=[str(tmp_path / "strange.txt")])
    assert metrics["n_unknown_tokens"] >= 60
    err = capsys.readouterr().err
    assert "unknown to the tokenizer" in err and " characters (" in err


def test_demo_refuses_other_tasks(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="causal"):
        demo(recipe(), out=tmp_path)


def test_model_with_one_token_type_is_refused_for_pairs(data: Path, tmp_path: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(data / "tokenizer")
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=16, num_hidden_layers=1, num_attention_heads=1, type_vocab_size=1
    )
    BertForMaskedLM(config).save_pretrained(tmp_path / "bert")
    tokenizer.save_pretrained(tmp_path / "bert")
    with pytest.raises(ModelError, match="one token type"):
        pretrain(recipe(), data=data, out=tmp_path / "run", model=str(tmp_path / "bert"))
