"""Only comparable runs are ranked, with the metrics of their files, and limits of the comparison are noted."""

import json
import math
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import datasets
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from llmkit.cli.compare import make_table
from llmkit.cli.output import show_table
from llmkit.config.loading import load_recipe
from llmkit.core.errors import ModelError, UsageError
from llmkit.evaluating.evaluate import evaluate
from llmkit.pages.blocks import show_duration
from llmkit.preparing.prepare import prepare
from llmkit.reporting.compare import compare
from llmkit.runs.train import pretrain

HOSTILE = '<script>alert("x")</script>'


def make_run(
    path: Path,
    *,
    loss: float = 2.0,
    n_tokens: int = 400,
    n_words: int | None = 300,
    n_bytes: int = 1000,
    splits: tuple[str, ...] = ("validation",),
    text: str = "a",
    tokenizer: str = "t",
    kind: str = "byte-bpe",
    unknown: int = 0,
    n_trained: int = 1000,
    stride: int = 32,
    **manifest: Any,
) -> Path:
    """A run of 10 steps that trained on `n_trained` tokens, evaluated at steps 4 and 10 and logged steps 5 and 10."""
    nats = loss * n_tokens
    figures = {
        "loss": loss, "perplexity": math.exp(loss), "bits_per_byte": nats / math.log(2) / n_bytes,
        "n_tokens": n_tokens, "n_bytes": n_bytes, "n_unknown_tokens": unknown,
        "method": {"windows": "block-wise", "block_size": 32, "stride": stride, "precision": "fp32"},
    }  # fmt: skip
    if n_words:
        figures |= {"word_perplexity": math.exp(nats / n_words), "n_words": n_words}
    training = {"steps": 10, "n_tokens": n_trained, "seconds": 75.0, "n_parameters": 24_032}
    receipt = {"bytes": n_bytes, "unknown_tokens": unknown, "documents_hash": text * 64}
    data = {
        "splits": dict.fromkeys(splits, receipt) | {"train": {"documents_hash": "b" * 64}},
        "tokenizer": {"kind": kind, "vocab_size": 300, "fingerprint": tokenizer * 64},
    }
    log = [
        {"kind": "eval", "step": 4, "split": "validation", "bits_per_byte": 5.0},
        {"kind": "train", "step": 5, "n_tokens": n_trained / 2, "tokens_per_second": 10.0},
        {"kind": "train", "step": 10, "n_tokens": n_trained, "tokens_per_second": 40.0},
        {"kind": "eval", "step": 10, "split": "validation", "bits_per_byte": 4.0},
    ]
    path.mkdir(parents=True)
    (path / "log.jsonl").write_text("".join(json.dumps(record) + "\n" for record in log))
    (path / "metrics.json").write_text(json.dumps({"training": training} | dict.fromkeys(splits, figures)))
    (path / "manifest.json").write_text(
        json.dumps(
            {"task": "clm", "model": {"family": "gpt2"}, "plan": {"n_steps": 10}, "data_path": "../data"}
            | {"data": data, "machine": {"cpu": "one", "cores": 2, "accelerator": None}}
            | manifest
        )
    )
    (path / "recipe.yaml").write_text("task: clm\n")
    return path


def run_compare(folder: Path, *paths: Path, by: str = "bits_per_byte") -> dict[str, Any]:
    return compare(list(paths) or sorted(folder.iterdir()), by=by, out=folder.parent / "out")


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    return tmp_path / "runs"


def test_best_run_stands_first_with_the_figures_of_its_files(runs: Path) -> None:
    make_run(runs / "worse", loss=2.0)
    make_run(runs / "better", loss=1.5)
    result = run_compare(runs)
    assert [row["run"] for row in result["runs"]] == ["better", "worse"]
    assert (result["split"], result["n_bytes"], result["best"], result["notes"]) == ("validation", 1000, "lowest", [])
    best = result["runs"][0]
    assert best["bits_per_byte"] == pytest.approx(1.5 * 400 / math.log(2) / 1000)
    assert best["perplexity"] == pytest.approx(math.exp(1.5))
    assert best["word_perplexity"] == pytest.approx(math.exp(1.5 * 400 / 300))
    assert (best["n_parameters"], best["n_training_tokens"], best["seconds"]) == (24_032, 1000, 75.0)
    assert best["tokens_per_second"] == pytest.approx(1000 / (500 / 10 + 500 / 40))
    assert best["family"] == "gpt2"


def test_curve_stands_over_the_tokens_that_were_trained_on_by_then(runs: Path) -> None:
    make_run(runs / "a")
    make_run(runs / "b", n_trained=1020)
    curves = {row["run"]: row["curve"] for row in run_compare(runs)["runs"]}
    assert curves["a"] == {"n_tokens": [400.0, 1000.0], "bits_per_byte": [5.0, 4.0]}
    assert curves["b"]["n_tokens"] == pytest.approx([408.0, 1020.0])


def test_test_split_is_compared_only_if_every_run_was_scored_there(runs: Path) -> None:
    both = make_run(runs / "both", splits=("validation", "test"))
    again = make_run(runs / "again", splits=("validation", "test"))
    one = make_run(runs / "one")
    assert run_compare(runs, both, again)["split"] == "test"
    result = run_compare(runs, both, one)
    assert result["split"] == "validation"
    (note,) = result["notes"]
    assert note.endswith(f"llmkit eval {one} --split test")


def test_figure_a_token_does_not_rank_runs_with_different_tokenizers(runs: Path) -> None:
    # Of the same text, "fine" spends fewer bits on more tokens: loss and perplexity a token would turn the ranks round.
    make_run(runs / "fine", loss=1.0, n_tokens=600)
    make_run(runs / "coarse", loss=2.0, n_tokens=400, tokenizer="u")
    for by in ("perplexity", "loss"):
        with pytest.raises(UsageError, match=f"{by} cannot rank runs with different tokenizers") as caught:
            run_compare(runs, by=by)
        assert caught.value.exit_code == 2
        assert "tttttttttttt" in str(caught.value) and "uuuuuuuuuuuu" in str(caught.value)
        assert "rank by bits_per_byte" in str(caught.value)
    assert not (runs.parent / "out").exists()
    for by in ("bits_per_byte", "word_perplexity"):
        result = run_compare(runs, by=by)
        assert [row["run"] for row in result["runs"]] == ["fine", "coarse"]
    assert ["cannot be compared" in note for note in result["notes"]] == [True]


def test_with_one_tokenizer_every_figure_ranks(runs: Path) -> None:
    make_run(runs / "a", loss=2.0)
    make_run(runs / "b", loss=1.5)
    for by in ("bits_per_byte", "word_perplexity", "perplexity", "loss"):
        assert [row["run"] for row in run_compare(runs, by=by)["runs"]] == ["b", "a"]


def test_speed_ranks_the_highest_first(runs: Path) -> None:
    slow, fast = make_run(runs / "slow"), make_run(runs / "fast")
    (fast / "log.jsonl").write_text('{"kind": "train", "step": 10, "n_tokens": 1000, "tokens_per_second": 900.0}\n')
    result = run_compare(runs, slow, fast, by="tokens_per_second")
    assert [row["tokens_per_second"] for row in result["runs"]] == pytest.approx([900, 16])
    assert result["best"] == "highest"
    assert result["runs"][0]["curve"] == {"n_tokens": [], "bits_per_byte": []}


def test_unknown_ranking_names_the_nearest_one(runs: Path) -> None:
    make_run(runs / "a")
    make_run(runs / "b")
    with pytest.raises(UsageError, match="cannot be ranked by 'bits_per_bite'") as caught:
        run_compare(runs, by="bits_per_bite")
    assert "'bits_per_byte'?" in str(caught.value)


def test_words_that_one_run_does_not_have_do_not_rank(runs: Path) -> None:
    make_run(runs / "a")
    make_run(runs / "old", n_words=None)
    assert {row["run"]: row["word_perplexity"] is None for row in run_compare(runs)["runs"]} == {
        "a": False,
        "old": True,
    }
    with pytest.raises(UsageError, match="there is no word_perplexity for old"):
        run_compare(runs, by="word_perplexity")


@pytest.mark.parametrize("other", [{"n_bytes": 999}, {"text": "c"}])
def test_runs_on_different_text_are_refused(runs: Path, other: dict[str, Any]) -> None:
    make_run(runs / "a")
    make_run(runs / "b", **other)
    with pytest.raises(UsageError, match="different text") as caught:
        run_compare(runs)
    assert "a on 1,000 bytes (aaaaaaaaaaaa)" in str(caught.value)
    assert "llmkit eval RUN --data FILE" in str(caught.value)
    assert not (runs.parent / "out").exists()


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ({"unknown": 40}, "b *: 40 held-out tokens (10.00% of all) are unknown"),
        ({"kind": "wordpiece", "tokenizer": "u"}, "b: its wordpiece tokens do not keep white space"),
        ({"n_trained": 1051}, "different numbers of tokens: a 1,000, b 1,051"),
        ({"stride": 8}, "a block-wise, block size 32, stride 32; b block-wise, block size 32, stride 8"),
        ({"machine": {"cpu": "another"}}, "different machines"),
    ],
)
def test_differences_are_noted_in_terminal_page_and_json(runs: Path, other: dict[str, Any], words: str) -> None:
    make_run(runs / "a")
    make_run(runs / "b", **other)
    result = run_compare(runs)
    assert [words in note for note in result["notes"]].count(True) == 1
    assert words in read_page(runs.parent / "out")
    assert json.loads((runs.parent / "out/compare.json").read_text()) == result


def test_budgets_within_five_percent_are_equal(runs: Path) -> None:
    make_run(runs / "a")
    make_run(runs / "b", n_trained=1050)
    assert run_compare(runs)["notes"] == []


def test_runs_of_the_same_name_are_distinguished_by_their_parent_folders(runs: Path) -> None:
    paths = [make_run(runs / name) for name in ("x/gru/run", "y/gru/run", "y/gpt/run", "y/alone")]
    names = {row["run"] for row in run_compare(runs, *paths)["runs"]}
    assert names == {"x/gru/run", "y/gru/run", "gpt/run", "alone"}


def test_folder_that_is_given_twice_counts_once(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a, b = make_run(runs / "a"), make_run(runs / "b")
    assert [row["run"] for row in run_compare(runs, a, b, runs / "../runs/a")["runs"]] == ["a", "b"]
    assert "is shown once" in capsys.readouterr().err
    with pytest.raises(UsageError, match="only one run"):
        run_compare(runs, a, a)


def test_all_faults_of_all_runs_are_shown_at_once_with_the_way_out(runs: Path) -> None:
    good, unscored, torn = (make_run(runs / name) for name in ("good", "unfinished", "torn"))
    (unscored / "metrics.json").unlink()
    (torn / "metrics.json").write_text('{"training": {"st')
    bare = make_run(runs / "bare")
    (bare / "manifest.json").unlink()
    with pytest.raises(ModelError) as caught:
        run_compare(runs, good, unscored, torn, bare, runs / "nowhere")
    assert caught.value.exit_code == 6
    whats = [problem.what for problem in caught.value.problems]
    hints = [problem.hint for problem in caught.value.problems]
    assert [what.split("'")[1] for what in whats] == [str(path) for path in (unscored, torn, bare, runs / "nowhere")]
    assert "is not finished: step 10 of 10" in whats[0]
    resume = f"--data {runs / 'data'} --out {unscored} --resume"
    assert hints[0] == f"continue it with: llmkit pretrain {unscored / 'recipe.yaml'} {resume}"
    assert "metrics.json cannot be read" in whats[1]
    assert "no manifest.json" in whats[2]


def test_run_without_held_out_metrics_gets_the_command_that_computes_them(runs: Path) -> None:
    good, without = make_run(runs / "good"), make_run(runs / "without")
    metrics = json.loads((without / "metrics.json").read_text())
    (without / "metrics.json").write_text(json.dumps({"training": metrics["training"]}))
    with pytest.raises(ModelError, match="was not scored on its validation split") as caught:
        run_compare(runs)
    (problem,) = caught.value.problems
    assert problem.hint == f"llmkit eval {without} --split validation"
    without = make_run(runs / "none", splits=())
    with pytest.raises(ModelError) as caught:
        run_compare(runs, good, without)
    assert "prepare.split.validation above 0" in str(caught.value)


@pytest.mark.parametrize(("task", "kind"), [("mlm", "a masked language model"), ("cls", "a classifier")])
def test_masked_models_and_runs_of_several_tasks_are_refused(runs: Path, task: str, kind: str) -> None:
    make_run(runs / "a")
    make_run(runs / "b", task=task)
    with pytest.raises(UsageError, match=f"is {kind}"):
        run_compare(runs)


def test_out_that_is_a_file_is_refused_and_what_else_lies_there_stays(runs: Path) -> None:
    paths = [make_run(runs / "a"), make_run(runs / "b")]
    (runs.parent / "out").write_text("mine")
    with pytest.raises(UsageError, match="is a file"):
        run_compare(runs, *paths)
    assert (runs.parent / "out").read_text() == "mine"
    (runs / "own").mkdir()
    (runs / "own/notes.txt").write_text("mine")
    for _ in range(2):
        compare(paths, by="loss", out=runs / "own")
    assert {path.name for path in (runs / "own").iterdir()} == {"notes.txt", "compare.html", "compare.json"}


def test_terminal_table_is_aligned_and_has_no_empty_column(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_run(runs / "三国演义", n_words=None, model={"family": "gru"})
    make_run(runs / "a", n_words=None)
    show_table(make_table(run_compare(runs)))
    assert capsys.readouterr().out.splitlines() == [
        "run       family  params  tokens        time    loss  ppl/token  bits/byte  tokens/s",
        "a         gpt2     24.0k   1.00k  1 min 15 s  2.0000       7.39     1.1542        16",
        "三国演义  gru      24.0k   1.00k  1 min 15 s  2.0000       7.39     1.1542        16",
    ]


def read_page(folder: Path) -> str:
    """The text of compare.html."""
    texts: list[str] = []
    parser = HTMLParser()
    parser.handle_data = texts.append  # type: ignore[method-assign]
    parser.feed((folder / "compare.html").read_text(encoding="utf-8"))
    return "".join(texts)


def test_run_whose_metrics_look_better_by_unknown_tokens_has_a_star(runs: Path) -> None:
    make_run(runs / "a")
    make_run(runs / "words", loss=1.0, unknown=80)
    result = run_compare(runs)
    assert result["runs"][0]["run"] == "words"
    assert [row[0] for row in make_table(result).rows] == ["words *", "a"]
    assert read_page(runs.parent / "out").count("words *") == 2  # the note and the table


def test_page_is_one_file_without_network_and_draws_one_curve_a_run(runs: Path) -> None:
    make_run(runs / "a", loss=1.9)
    make_run(runs / "b")
    make_run(runs / "c", model={"family": HOSTILE})
    run_compare(runs)
    page = (runs.parent / "out/compare.html").read_text()
    elements: list[tuple[str, dict[str, str | None]]] = []
    parser = HTMLParser()
    parser.handle_starttag = lambda tag, attrs: elements.append((tag, dict(attrs)))  # type: ignore[method-assign]
    parser.feed(page)
    assert not [attributes for _, attributes in elements if {"src", "href"} & set(attributes)]
    assert [tag for tag, _ in elements].count("script") == [tag for tag, _ in elements].count("svg") == 1
    (svg,) = (attributes for tag, attributes in elements if tag == "svg")
    curves = json.loads(svg["data-curves"] or "")
    assert curves == [{"steps": [400.0, 1000.0], "values": [5.0, 4.0]}] * 3
    assert json.loads(svg["data-frame"] or "")["along"] == "token"
    assert "over training tokens" in (svg["aria-label"] or "")
    classes = [attributes["class"] for tag, attributes in elements if tag == "g"]
    assert len(set(classes)) == 3
    assert HOSTILE in read_page(runs.parent / "out")


TINY = (
    "prepare.split.validation=0.2", "prepare.split.test=0.1", "model.n_layer=1", "model.n_head=2", "model.n_embd=32",
    "train.block_size=16", "train.global_batch_size=4", "train.max_steps=6", "train.log_steps=3", "train.eval_steps=3",
    "train.precision=fp32", "train.sample_prompt=null",
)  # fmt: skip


def test_real_runs_with_different_tokenizers_compare_on_what_their_models_give(tmp_path: Path) -> None:
    (tmp_path / "book.txt").write_text("".join(f"{n} green bottles, hanging on  the wall\n" for n in range(300)))
    kinds = ("word", "byte-bpe")
    for kind in kinds:
        recipe = load_recipe(None, [*TINY, f"prepare.tokenizer.kind={kind}", "prepare.tokenizer.vocab_size=300"])
        prepare([str(tmp_path / "book.txt")], tmp_path / f"data-{kind}", recipe.prepare)
        pretrain(recipe, data=tmp_path / f"data-{kind}", out=tmp_path / kind)
    result = compare([tmp_path / kind for kind in kinds], by="word_perplexity", out=tmp_path / "out")
    rows = {row["run"]: row for row in result["runs"]}
    held_out = (tmp_path / "data-word/validation", tmp_path / "data-byte-bpe/validation")
    assert result["split"] == "validation"
    assert rows["word"]["n_words"] == rows["byte-bpe"]["n_words"] == rows["word"]["n_tokens"]
    assert rows["word"]["word_perplexity"] == rows["word"]["perplexity"]
    assert any(f"word *: {rows['word']['n_unknown_tokens']:,} held-out tokens" in note for note in result["notes"])
    for kind, split in zip(kinds, held_out, strict=True):
        nats, text = score_by_hand(tmp_path / kind / "model", split)
        row = rows[kind]
        assert row["bits_per_byte"] == pytest.approx(nats / math.log(2) / result["n_bytes"], rel=1e-5)
        assert row["word_perplexity"] == pytest.approx(math.exp(nats / row["n_words"]), rel=1e-4)
        log = [json.loads(line) for line in (tmp_path / kind / "log.jsonl").read_text().splitlines()]
        assert row["curve"]["n_tokens"] == [record["n_tokens"] for record in log if record["kind"] == "train"]
        assert 5 * 4 * 16 < row["n_training_tokens"] == row["curve"]["n_tokens"][-1] <= 6 * 4 * 16
        assert row["curve"]["bits_per_byte"][-1] == pytest.approx(row["bits_per_byte"], rel=1e-5)
        if kind == "byte-bpe":
            assert len(text.encode()) == result["n_bytes"]
            assert len(text.split()) + text.count("\n") + 1 == row["n_words"]
    for kind in kinds:
        evaluate(load_recipe(tmp_path / kind / "recipe.yaml", ["evaluate.split=test"]), model=str(tmp_path / kind))
    assert compare([tmp_path / kind for kind in kinds], by="bits_per_byte", out=tmp_path / "out")["split"] == "test"
    assert show_duration(rows["word"]["seconds"]) in read_page(tmp_path / "out")


def test_word_perplexity_equals_token_perplexity_of_the_word_tokenizer_in_log_metrics_and_raw_text(
    tmp_path: Path,
) -> None:
    text = "".join(f"{n} green bottles, hanging on the wall\n" for n in range(200))
    (tmp_path / "book.txt").write_text(text)
    recipe = load_recipe(None, [*TINY, "prepare.tokenizer.kind=word", "train.max_eval_samples=3"])
    prepare([str(tmp_path / "book.txt")], tmp_path / "data", recipe.prepare)
    final = pretrain(recipe, data=tmp_path / "data", out=tmp_path / "run")["validation"]
    log = [json.loads(line) for line in (tmp_path / "run/log.jsonl").read_text().splitlines()]
    classes = [record for record in log if record["kind"] == "eval"]
    raw = evaluate(recipe, model=str(tmp_path / "run"), data=[str(tmp_path / "book.txt")])
    for metrics in (final, raw, *classes):
        assert metrics["word_perplexity"] == pytest.approx(metrics["perplexity"], rel=1e-12)
        assert metrics["n_words"] == metrics["n_tokens"]
    assert [record["n_words"] for record in classes] == [3 * 16] * 2
    assert raw["n_words"] == len(text.split()) + 200 + 1


def test_prepared_folder_from_before_words_were_counted_trains_and_compares(tmp_path: Path) -> None:
    (tmp_path / "book.txt").write_text("".join(f"{n} green bottles, hanging on the wall\n" for n in range(200)))
    recipe = load_recipe(None, [*TINY, "prepare.tokenizer.vocab_size=300"])
    manifest = prepare([str(tmp_path / "book.txt")], tmp_path / "data", recipe.prepare).manifest
    assert all(split.pop("words") for split in manifest["splits"].values())
    (tmp_path / "data/manifest.json").write_text(json.dumps(manifest))
    pretrain(recipe, data=tmp_path / "data", out=tmp_path / "a")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    rows = compare([tmp_path / "a", tmp_path / "b"], by="loss", out=tmp_path / "out")["runs"]
    assert [row["word_perplexity"] for row in rows] == [None, None]


def score_by_hand(model: Path, split: Path) -> tuple[float, str]:
    """Nats of a split in blocks of 16, by transformers and datasets alone, and its text as the tokenizer has it."""
    network, tokenizer = AutoModelForCausalLM.from_pretrained(model), AutoTokenizer.from_pretrained(model)
    ids = [token for row in datasets.load_from_disk(str(split))["input_ids"] for token in row]
    ids = torch.tensor([tokenizer.eos_token_id, *ids])
    nats = 0.0
    for start in range(0, len(ids) - 1, 16):
        piece = ids[start : start + 17]
        with torch.no_grad():
            logits = network(piece[None, :-1]).logits[0]
        nats -= logits.log_softmax(-1)[range(len(piece) - 1), piece[1:]].sum().item()
    return nats, tokenizer.decode(ids, skip_special_tokens=True)
