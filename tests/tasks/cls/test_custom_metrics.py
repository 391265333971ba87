"""Metrics of a user's file equal scikit-learn's, are checked before training, and run only if the user names them."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn import metrics as sklearn_metrics
from tiny import make_messages, save_bert, write_table

from llmkit.api import finetune as finetune_by_keywords
from llmkit.cli import app
from llmkit.config.loading import load_recipe
from llmkit.config.recipe import Recipe
from llmkit.core.errors import UsageError
from llmkit.evaluating.evaluate import evaluate
from llmkit.runs.train import finetune
from llmkit.tasks.cls.custom_metrics import check_custom_metrics, load_custom_metrics, make_arguments, measure_custom
from llmkit.tasks.cls.label_type import LabelType
from llmkit.tasks.cls.label_types import LABEL_TYPES
from llmkit.tasks.cls.metrics import SINGLE_LABEL, with_custom_metrics

CODE = """
from functools import partial

import numpy as np
import torch
from sklearn.metrics import cohen_kappa_score, log_loss

print("imported")
kappa = partial(cohen_kappa_score, weights="quadratic")

def nll(labels, predictions, probabilities):
    return log_loss(labels, probabilities)

def missed(labels, predictions):
    share = ((labels == "spam") & (predictions == "ham")).mean()
    labels[:] = "changed"
    np.random.seed(0)
    torch.manual_seed(0)
    return share
"""
TINY = (
    "train.max_steps=8", "train.eval_steps=4", "train.global_batch_size=8", "train.precision=fp32",
    "optim.learning_rate=1e-2", "cls.validation=0.25", "cls.baseline=true",
)  # fmt: skip


def write(folder: Path, code: str, name: str = "mine.py") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(code, encoding="utf-8")
    return folder / name


def try_metric(path: Path, key: str, labels: Any = (0, 1, 1), label_type: str = "single_label", n: int = 2) -> Any:
    names = [f"name {i}" for i in range(n)]
    return check_custom_metrics(
        load_custom_metrics([f"{path}:{key}"]), LABEL_TYPES[label_type], names, np.array(labels), quiet=True
    )


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_bert(tmp_path_factory.mktemp("models") / "bert")


@pytest.fixture(scope="module")
def messages(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_table(tmp_path_factory.mktemp("data") / "messages.csv", make_messages(80))


@pytest.fixture(scope="module")
def code(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("code"), CODE)


def recipe(*overrides: str) -> Recipe:
    return load_recipe(None, [*TINY, *overrides], task="cls")


@pytest.fixture(scope="module")
def run(bert: str, messages: str, code: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "run"
    named = f"cls.metrics=[{code}:kappa, {code}:nll, {code}:missed]"
    finetune(recipe(named, "cls.metric=kappa"), files={"train": messages}, out=out, model=bert)
    return out


def read_metrics(run: Path) -> dict[str, Any]:
    return dict(json.loads((run / "metrics.json").read_text())["validation"])


# ---- values ----


@pytest.mark.parametrize("names", [["b", "a", "c"], ["10", "2", "-1"], ["垃圾", "正常", "其他"]])
def test_arguments_are_in_the_order_of_scikit_learn(names: list[str]) -> None:
    rng = np.random.default_rng(0)
    labels, outputs = rng.integers(3, size=50), rng.dirichlet(np.ones(3), size=50)
    label_type: LabelType = LABEL_TYPES["single_label"]
    true, predicted, probabilities = make_arguments(label_type, labels, outputs, np.full(3, 0.5), names)
    whole = names[0].isdecimal()
    assert true.tolist() == [int(names[i]) if whole else names[i] for i in labels]
    assert sklearn_metrics.accuracy_score(true, predicted) == (labels == outputs.argmax(1)).mean()
    expected = -np.log(outputs[np.arange(50), labels]).mean()
    assert sklearn_metrics.log_loss(true, probabilities) == pytest.approx(expected)


def test_labels_of_rows_with_several_are_columns_in_sorted_order_and_numbers_stay() -> None:
    labels, outputs = np.array([[1.0, 0, 0], [0, 1, 1]]), np.array([[0.9, 0.2, 0.3], [0.4, 0.8, 0.6]])
    arguments = make_arguments(LABEL_TYPES["multi_label"], labels, outputs, np.full(3, 0.5), ["c", "a", "b"])
    assert [each.tolist() for each in arguments if each is not None] == [
        [[0, 0, 1], [1, 1, 0]], [[0, 0, 1], [1, 1, 0]], [[0.2, 0.3, 0.9], [0.8, 0.6, 0.4]]
    ]  # fmt: skip
    numbers = np.array([1.5, 2.0])
    assert make_arguments(LABEL_TYPES["regression"], numbers, numbers + 1, np.ones(1), ["y"])[2] is None


def test_metrics_are_in_log_metrics_report_and_decide_on_the_best_weights(run: Path) -> None:
    metrics = read_metrics(run)
    counts = metrics["confusion"]["counts"]
    assert metrics["kappa"] == pytest.approx(metrics["cohen_kappa"])  # the same for two labels
    assert metrics["nll"] == pytest.approx(metrics["log_loss"])
    assert metrics["missed"] == counts[1][0] / metrics["n_rows"]
    assert metrics["ngram_baseline_kappa"] is not None
    described = metrics["custom_metrics"]
    assert described["kappa"]["function"] == "mine.py:kappa" and len(described["kappa"]["sha256"]) == 64
    assert [entry["higher_is_better"] for entry in described.values()] == [True, False, False]
    log = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert all({"kappa", "nll", "missed"} <= set(each) for each in log if each["kind"] == "eval")
    assert {each["metric"] for each in log if each["kind"] == "eval"} == {"kappa"}
    page = (run / "report.html").read_text()
    assert "Held-out kappa" in page and "lower is better" in page
    assert "kappa" in json.loads((run / "manifest.json").read_text())["custom_metrics"]


def test_code_of_metrics_changes_neither_weights_nor_labels(
    run: Path, bert: str, messages: str, tmp_path: Path
) -> None:
    finetune(recipe("cls.metric=cohen_kappa"), files={"train": messages}, out=tmp_path / "plain", model=bert)
    assert (tmp_path / "plain/model/model.safetensors").read_bytes() == (run / "model/model.safetensors").read_bytes()
    plain, metrics = read_metrics(tmp_path / "plain"), read_metrics(run)
    assert {name: metrics[name] for name in plain} == plain


# ---- mistakes ----


@pytest.mark.parametrize(
    ("body", "expected", "line"),
    [
        ("def kapa(a, b):\n    return 1.0", "has no function 'kappa'", None),
        ("def kappa(a, b):\n    return (a", "not valid Python", 2),
        ("import nothing_of_this_name", "ModuleNotFoundError", 1),
        ("raise SystemExit(3)", "SystemExit", 1),
        ("def kappa(a, b):\n    x = 1\n    return a['x']", "metric kappa fails: IndexError", 3),
        ("def kappa(a, b):\n    return a == b", "returned ndarray of shape (3,), not a number", 1),
        ("def kappa(a, b):\n    pass", "returned NoneType", 1),
        ("def kappa(a, b):\n    return '0.5'", "returned str", 1),
        ("def kappa(a, b):\n    return float('nan')", "is nan for perfect predictions", None),
        ("def kappa(a, b, c, d):\n    return 1.0", "missing 1 required positional argument", None),
        ("kappa = 3", "is not a function", None),
    ],
)
def test_mistakes_are_reported_with_the_line_before_training(
    tmp_path: Path, body: str, expected: str, line: int | None
) -> None:
    path = write(tmp_path, body)
    with pytest.raises(UsageError) as error:
        try_metric(path, "kappa")
    assert expected in str(error.value)
    assert len(str(error.value).splitlines()) == 3
    assert str(path) in error.value.problems[0].where
    if line is not None:
        assert error.value.problems[0].where == f"{path}:{line}"


def test_missing_file_is_named_with_a_near_one_and_nothing_is_written(
    bert: str, messages: str, code: Path, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=r"did you mean 'mine\.py'"):
        config = recipe(f"cls.metrics={code.parent}/mien.py:kappa")
        finetune(config, files={"train": messages}, out=tmp_path / "run", model=bert)
    assert not (tmp_path / "run").exists()
    with pytest.raises(UsageError, match=r"write it as my_metrics.py:kappa"):
        recipe("cls.metrics=kappa")


def test_names_of_other_metrics_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path, "def f1_macro(a, b):\n    return 1.0\nloss = baseline_x = f1_macro")
    for key in ("f1_macro", "loss", "baseline_x"):
        with pytest.raises(UsageError, match="is the name of another metric"):
            try_metric(path, key)
    with pytest.raises(UsageError, match="two metrics are called"):
        load_custom_metrics([f"{path}:f1_macro", f"{path}:f1_macro"])


def test_failure_on_later_rows_is_reported_once_and_leaves_the_value_out(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path, "def kappa(a, b):\n    return [0.5][len(a) - 3]")
    metrics = try_metric(path, "kappa")
    rows = np.array([0, 1, 1, 0])
    for _ in range(2):
        found = measure_custom(metrics, LABEL_TYPES["single_label"], rows, np.eye(2)[rows], np.full(2, 0.5), ["a", "b"])
        assert found == {"kappa": None}
    assert capfd.readouterr().err.count("IndexError") == 1
    assert f"{path}:2" in metrics[0].describe()["error"]


def test_direction_is_found_by_trying_declared_or_by_name(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        "def cost(a, b):\n    return (a != b).mean()\n"
        "def gain(a, b):\n    return (a == b).mean()\n"
        "def odd(a, b):\n    return (a == b).mean()\nodd.higher_is_better = False\n"
        "def equal_error(a, b):\n    return 1\n"
        "def equal(a, b):\n    return 1\n",
    )
    expected = {"cost": False, "gain": True, "odd": False, "equal_error": False, "equal": True}
    assert {key: try_metric(path, key)[0].higher_is_better for key in expected} == expected


def test_only_a_third_parameter_that_is_needed_gets_probabilities(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        "def one(a, b, beta=2):\n    return float(beta)\n"
        "def two(a, b, scores):\n    return float(scores.shape[1])\n"
        "def three(a, b, probabilities=None):\n    return float(probabilities.shape[1])\n",
    )
    found = [try_metric(path, key)[0].takes_probabilities for key in ("one", "two", "three")]
    assert found == [False, True, True]
    with pytest.raises(UsageError, match="regression has no probabilities"):
        try_metric(path, "two", np.arange(3.0), "regression", 1)


def test_random_numbers_and_output_of_the_file_do_not_leak(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path, "import torch\nprint('hello')\ndef m(a, b):\n    torch.manual_seed(0)\n    return 1.0")
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    try_metric(path, "m")
    assert torch.equal(before, torch.random.get_rng_state())
    captured = capfd.readouterr()
    assert captured.out == "" and "hello" in captured.err
    assert [each.name for each in tmp_path.iterdir()] == ["mine.py"], "no bytecode beside it"


# ---- only code that the user names ----


def test_eval_runs_the_code_of_a_run_only_if_it_is_named(
    run: Path, code: Path, messages: str, capfd: pytest.CaptureFixture[str]
) -> None:
    kept = load_recipe(run / "recipe.yaml", forget_columns=True)
    found = evaluate(kept, model=str(run), data=[messages])
    captured = capfd.readouterr().err
    assert "kappa" not in found and "imported" not in captured
    assert f"{code}:kappa" in captured and "if you trust it" in captured
    named = load_recipe(run / "recipe.yaml", [f"cls.metrics={code}:kappa"], forget_columns=True)
    found = evaluate(named, model=str(run), data=[messages])
    assert found["kappa"] == pytest.approx(found["cohen_kappa"])


def call(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["llmkit", *arguments])
    monkeypatch.setattr(app.signal, "signal", lambda *_: None)
    with pytest.raises(SystemExit) as caught:
        app.main()
    return int(caught.value.code or 0)


def test_resume_runs_the_code_of_a_run_only_if_it_is_named(
    run: Path, code: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UsageError, match="runs only if you name it"):
        finetune_by_keywords(out=run, resume=True)
    command = ["finetune-cls", "--out", str(run), "--resume"]
    assert call(monkeypatch, *command) == 2
    output = capfd.readouterr().err
    assert "imported" not in output and "-s 'cls.metrics=[" in output
    named = f"[{code}:kappa, {code}:nll, {code}:missed]"
    assert call(monkeypatch, *command, "-s", f"cls.metrics={named}") == 0
    assert "imported" in capfd.readouterr().err


def test_paths_are_relative_to_the_recipe_or_to_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a").mkdir()
    (tmp_path / "a/r.yaml").write_text("task: cls\ncls:\n  metrics: b/mine.py:kappa\n")
    loaded: Any = load_recipe(tmp_path / "a/r.yaml")
    assert loaded.cls.metrics == [f"{tmp_path}/a/b/mine.py:kappa"]
    assert load_recipe(Path("a/r.yaml")).code == [f"cls.metrics={tmp_path}/a/b/mine.py:kappa"]
    loaded = load_recipe(tmp_path / "a/r.yaml", ["cls.metrics=[x.py:f, y.py:g]"])
    assert loaded.cls.metrics == [f"{tmp_path}/x.py:f", f"{tmp_path}/y.py:g"]
    assert load_recipe(None, loaded.code, task="cls").code == loaded.code
    assert load_recipe(tmp_path / "a/r.yaml", forget_columns=True).code == []


def test_entries_of_a_strange_manifest_are_no_metrics() -> None:
    strange = {"{0.__class__}": {}, "a b": {}, "ok": {"higher_is_better": False}, "no": 3, "accuracy": {}}
    added = with_custom_metrics(SINGLE_LABEL, strange).metrics[len(SINGLE_LABEL.metrics) :]
    assert [(each.key, each.higher_is_better) for each in added] == [("ok", False), ("ngram_baseline_ok", False)]
    assert with_custom_metrics(SINGLE_LABEL, None) is SINGLE_LABEL
