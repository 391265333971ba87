"""The snippet of a saved classifier's model card gives the outputs of `predict`."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import make_messages, save_bert, save_gpt2, write_table
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from llmkit.config.loading import load_recipe
from llmkit.evaluating.predict import predict
from llmkit.runs.train import finetune
from llmkit.tasks.cls.label_types import LABEL_TYPES
from llmkit.tasks.cls.model_card import describe_use
from llmkit.tasks.cls.row_format import RowFormat

TEXTS = ("win cash now", "lunch [SEP] home <|endoftext|> later", "meeting at home later " * 40, "x")


def run_snippet(model: Path, row: Any) -> Any:
    """What the last line of the card's code prints, for `row` in place of its text."""
    code = re.search(r"```python\n(.*?)```", (model / "README.md").read_text(), re.DOTALL)
    assert code
    names: dict[str, Any] = {}
    lines = code[1].replace("PATH_OF_THIS_FOLDER", str(model)).strip().splitlines()
    exec("\n".join(lines[:-1]), names)
    assert lines[-1].startswith("print(predict(")
    return names["predict"](row)


def train(folder: Path, family: str, names: tuple[str, ...], rows: list[tuple[Any, ...]], *asked: str) -> Path:
    model = (save_bert if family == "bert" else save_gpt2)(folder / "base")
    data = write_table(folder / "train.csv", rows, names)
    recipe = load_recipe(None, ["train.max_steps=10", "train.block_size=24", *asked], "cls")
    finetune(recipe, files={"train": data}, out=folder / "run", model=model)
    return folder / "run"


def label_rows(run: Path, rows: list[tuple[str, ...]], names: tuple[str, ...]) -> list[dict[str, Any]]:
    lines: list[str] = []
    data = write_table(run.parent / "new.csv", rows, names)
    recipe = load_recipe(run / "recipe.yaml")
    predict(recipe, model=str(run), data=data, out=None, write=lines.append, file_format="jsonl")
    return [json.loads(line) for line in lines]


@pytest.mark.parametrize("family", ["bert", "gpt2"])
def test_snippet_gives_the_labels_and_probabilities_of_predict(family: str, tmp_path: Path) -> None:
    run = train(tmp_path, family, ("text", "label"), list(make_messages(40)))
    for text, row in zip(TEXTS, label_rows(run, [(text,) for text in TEXTS], ("text",)), strict=True):
        [found] = run_snippet(run / "model", text)
        assert found["label"] == row["prediction"]
        assert found["score"] == pytest.approx(row["probability"], abs=1e-5)


def test_snippet_reads_pairs(tmp_path: Path) -> None:
    rows = [(a[0], b[0], a[1]) for a, b in zip(make_messages(40), make_messages(40, 1), strict=True)]
    run = train(tmp_path, "bert", ("first", "second", "label"), rows, "cls.text=first", "cls.pair=second")
    [row] = label_rows(run, [("win cash", "lunch at home " * 20)], ("first", "second"))
    found = run_snippet(run / "model", {"text": "win cash", "text_pair": "lunch at home " * 20})
    found = found[0] if isinstance(found, list) else found
    assert found["score"] == pytest.approx(row["probability"], abs=1e-5)
    assert '"text_pair"' in (run / "model/README.md").read_text()


@pytest.mark.parametrize("family", ["bert", "gpt2"])
def test_snippet_gives_numbers_in_the_unit_of_the_labels(family: str, tmp_path: Path) -> None:
    rows = [(text, 1000 + 7 * number) for number, (text, _) in enumerate(make_messages(40))]
    run = train(tmp_path, family, ("text", "label"), rows, "cls.labels=regression")
    assert "target_std" not in json.loads((run / "model/config.json").read_text())["llmkit"]
    for text, row in zip(TEXTS, label_rows(run, [(text,) for text in TEXTS], ("text",)), strict=True):
        [found] = run_snippet(run / "model", text)
        assert found["score"] == pytest.approx(row["prediction"], abs=0.01)
        assert found["score"] > 900
    scored = json.loads((run / "metrics.json").read_text())["validation"]
    assert scored["mse"] < 500**2, "scaled once, not twice"


def test_head_without_a_bias_is_reported_and_the_formula_of_the_card_gives_the_numbers_of_predict(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tokenizer = AutoTokenizer.from_pretrained(save_gpt2(tmp_path / "gpt2"))
    end = tokenizer.eos_token_id
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=64, bos_token_id=end, eos_token_id=end,
    )  # fmt: skip
    torch.manual_seed(0)
    LlamaForCausalLM(config).save_pretrained(tmp_path / "base")
    tokenizer.save_pretrained(tmp_path / "base")
    rows = [(text, 1000 + 7 * number) for number, (text, _) in enumerate(make_messages(40))]
    data = write_table(tmp_path / "train.csv", rows, ("text", "label"))
    recipe = load_recipe(None, ["train.max_steps=10", "train.block_size=24", "cls.labels=regression"], "cls")
    finetune(recipe, files={"train": data}, out=tmp_path / "run", model=str(tmp_path / "base"))
    assert "the head of llama has no bias" in capsys.readouterr().err
    saved = json.loads((tmp_path / "run/model/config.json").read_text())["llmkit"]
    assert "llmkit.target_std" in (tmp_path / "run/model/README.md").read_text()
    [row] = label_rows(tmp_path / "run", [(TEXTS[0],)], ("text",))
    [found] = run_snippet(tmp_path / "run/model", TEXTS[0])
    assert found["score"] * saved["target_std"] + saved["target_mean"] == pytest.approx(row["prediction"], abs=0.01)


def test_card_names_what_transformers_does_not_do() -> None:
    row_format = RowFormat("text", None, "label", LABEL_TYPES["multi_label"], None, 64, "windows", 8, 4)
    text = describe_use(row_format, is_scaled=False)
    assert all(words in text for words in ("top_k=None", "llmkit.thresholds", "target_mean", "windows of 64 tokens"))
