"""`eval` gives the figures of training again, on the run's rows and on files of any scheme."""

import json
import shutil
from pathlib import Path

import pytest
from tasks.ner.conftest import find_entities
from tiny import assert_same_figures, make_tagged, write_conll

from llmkit.config.loading import load_recipe
from llmkit.core.errors import DataError, UsageError
from llmkit.evaluating.evaluate import evaluate
from llmkit.tables.tag_schemes import read_entities


def test_run_is_scored_again_with_the_same_figures(run: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(run, tmp_path / "run")
    before = json.loads((run / "metrics.json").read_text())["validation"]
    found = evaluate(load_recipe(copy / "recipe.yaml"), model=str(copy), show_samples=True)
    assert_same_figures({name: found[name] for name in before}, before)


def test_file_is_scored_and_other_schemes_give_the_same_figures(run: Path, tmp_path: Path) -> None:
    rows = make_tagged(30, 9)
    bioes = []
    for words, tags in rows:
        new = list(tags)
        for start, end, kind in read_entities(tags):
            middle = [f"I-{kind}"] * (end - start - 2)
            new[start:end] = [f"S-{kind}"] if end - start == 1 else [f"B-{kind}", *middle, f"E-{kind}"]
        bioes.append((words, new))
    recipe = load_recipe(run / "recipe.yaml", forget_columns=True)
    figures = [
        evaluate(recipe, model=str(run), data=[write_conll(tmp_path / f"{n}.conll", each)])
        for n, each in enumerate((rows, bioes))
    ]
    assert figures[0]["entity_f1"] == figures[1]["entity_f1"] > 0.8
    predicted = sum(len(row["entities"]) for row in find_entities(run, str(tmp_path / "0.conll")))
    assert sum(each["n_predicted"] for each in figures[0]["per_type"]) == predicted


def test_unknown_types_are_refused_or_counted(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = write_conll(tmp_path / "a.conll", [(["you", "win"], ["O", "B-PRISE"])])
    recipe = load_recipe(run / "recipe.yaml")
    with pytest.raises(DataError, match="'PRISE'") as error:
        evaluate(recipe, model=str(run), data=[data])
    assert "PRIZE" in error.value.problems[0].hint
    evaluate(load_recipe(run / "recipe.yaml", ["ner.unseen_labels=ignore"]), model=str(run), data=[data])
    assert "1 entities of types that the train file does not have are read as O" in capsys.readouterr().err


def test_mistakes_are_in_context_with_the_most_confident_first(run: Path, tmp_path: Path) -> None:
    data = write_conll(tmp_path / "a.conll", [(["you", "win", "cash"], ["O", "O", "B-PLAN"]), *make_tagged(3, 2)])
    found = evaluate(load_recipe(run / "recipe.yaml"), model=str(run), data=[data], show_samples=True)["mistakes"]
    chances = [each["probability"] for each in found]
    assert found and chances == sorted(chances, reverse=True)
    assert any(each["text"] == "you win cash" and each["what"] == "missed" for each in found)


def test_several_files_are_refused(run: Path) -> None:
    with pytest.raises(UsageError, match="2 files"):
        evaluate(load_recipe(run / "recipe.yaml"), model=str(run), data=["a", "b"])
