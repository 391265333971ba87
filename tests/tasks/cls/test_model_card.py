"""The snippet of a saved classifier's model card gives the outputs of `predict`."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from tiny import make_messages, save_bert, save_gpt2, write_table

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


def test_card_names_what_transformers_does_not_do() -> None:
    row_format = RowFormat("text", None, "label", LABEL_TYPES["multi_label"], None, 64, "windows", 8, 4)
    text = describe_use(row_format, is_scaled=False)
    assert all(words in text for words in ("top_k=None", "llmkit.thresholds", "target_mean", "windows of 64 tokens"))
