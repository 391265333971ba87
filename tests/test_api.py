"""`import llmkit`: exported names, how recipes are passed, and that a call leaves the process unchanged."""

import inspect
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import llmkit
from llmkit.api import _load_recipe, _running
from llmkit.config.loading import load_recipe
from llmkit.core.errors import Interrupted

ROOT = Path(llmkit.__file__).parents[1]
STEPS = ("prepare", "pretrain", "finetune", "evaluate", "predict", "generate", "load")
USER_PROGRAM = """\
import llmkit

receipt = llmkit.prepare("books", "data/books", prepare__tokenizer__vocab_size=512)
n_tokens: int = receipt["splits"]["train"]["tokens"]
metrics = llmkit.pretrain(data="data/books", out="runs/books", train__max_steps=10)
reveal_type(metrics)
for record in llmkit.generate("runs/books", ["It was"], temperature=0.7):
    text: str = record["text"]
model, tokenizer = llmkit.load("runs/books")
print(model.config.model_type, len(tokenizer), llmkit.__version__)
llmkit.evaluate("runs/books", spilt="test", split="dev")
"""


def test_exported_members_are_the_steps_their_errors_and_the_version() -> None:
    errors = {"LlmkitError", "UsageError", "DataError", "EnvironmentFault", "TrainingFailed", "ModelError"}
    assert set(llmkit.__all__) == {*STEPS, *errors, "Loaded", "__version__"}
    for name in STEPS:
        function = getattr(llmkit, name)
        assert inspect.getdoc(function), name
        hints = [each.annotation for each in inspect.signature(function).parameters.values()]
        assert inspect.Parameter.empty not in hints, name


def test_importing_llmkit_loads_nothing_slow() -> None:
    code = "import sys, llmkit; print(sorted({'torch', 'transformers', 'pydantic', 'numpy'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_types_of_the_package_reach_a_user_program(tmp_path: Path) -> None:
    (tmp_path / "user.py").write_text(USER_PROGRAM)
    # mypy would read all of transformers for the types that `load` gives.
    skipped = "".join(f"[mypy-{name}.*]\nfollow_imports = skip\n" for name in ("transformers", "torch", "pydantic"))
    (tmp_path / "mypy.ini").write_text(f"[mypy]\nstrict = true\nfollow_imports = silent\n{skipped}")
    command = [sys.executable, "-m", "mypy", "user.py"]
    environment = os.environ | {"MYPYPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    lines = done.stdout.splitlines()
    assert [line.split(": ")[0] for line in lines[:-1]] == ["user.py:6", "user.py:11"], done.stdout
    assert "dict[str, Any]" in lines[0]
    assert 'Argument "split"' in lines[1]
    assert (Path(llmkit.__file__).parent / "py.typed").is_file()


@pytest.mark.parametrize(
    "recipe",
    [
        {"train": {"max_steps": 7}, "model": {"size": "mini"}},
        load_recipe(None, ["train.max_steps=7", "model.size=mini"]),
        "recipe.yaml",
        Path("recipe.yaml"),
    ],
)
def test_recipe_is_a_path_a_mapping_or_an_object_and_keywords_beat_it(
    recipe: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("recipe.yaml").write_text("train: {max_steps: 7}\nmodel: {size: mini}\n")
    expected = load_recipe(None, ["train.max_steps=7", "model.size=mini", "generate.seed=3"])
    assert _load_recipe(recipe, {"generate__seed": 3}) == expected
    assert _load_recipe(recipe, {"generate__stop": ["\n", "a: 却"]}).generate.stop == ["\n", "a: 却"]
    with pytest.raises(llmkit.UsageError):
        _load_recipe(recipe, {"train__max_steps": "many"})


def test_keys_that_are_not_of_the_recipe_are_named_with_the_nearest_one() -> None:
    with pytest.raises(llmkit.UsageError) as caught:
        llmkit.pretrain(data="data", out="run", train__max_step=3, trian__seed=1)
    found = [(each.what, each.where, each.hint) for each in caught.value.problems]
    assert found == [
        ("unknown key 'train.max_step'", "train.max_step=3", "did you mean 'max_steps'?"),
        ("unknown key 'trian'", "trian.seed=1", "did you mean 'train'?"),
    ]
    with pytest.raises(TypeError, match="unexpected keyword argument 'overwrit'"):
        llmkit.pretrain(data="data", out="run", overwrit=True)
    with pytest.raises(TypeError, match=r"'lr'; write optim__learning_rate=0\.001"):
        llmkit.pretrain(data="data", out="run", lr=1e-3)
    with pytest.raises(llmkit.UsageError, match="unknown key") as caught:
        llmkit.pretrain(data="data", out="run", train__lr=1e-3)
    assert caught.value.problems[0].hint.startswith("write optim__learning_rate=0.001 (")


def test_recipe_of_another_step_is_refused_with_the_function_that_takes_it() -> None:
    with pytest.raises(llmkit.UsageError, match="task is cls, which pretrain does not train") as caught:
        llmkit.pretrain({"task": "cls"}, data="data", out="run")
    assert "llmkit.finetune" in caught.value.problems[0].hint


def test_call_leaves_handlers_folder_and_transformers_settings_as_they_were(tmp_path: Path) -> None:
    from transformers.utils import logging

    def state() -> list[Any]:
        handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
        return [*handlers, Path.cwd(), logging.get_verbosity(), logging.is_progress_bar_enabled()]

    before = state()
    with pytest.raises(llmkit.DataError):
        llmkit.pretrain(data=tmp_path / "nothing", out=tmp_path / "run")
    assert state() == before


def test_signal_that_was_answered_reaches_python_as_a_keyboard_interrupt() -> None:
    with pytest.raises(KeyboardInterrupt, match="saved at step 3"), _running():
        raise Interrupted(signal.SIGINT, "saved at step 3")
    with pytest.raises(Interrupted), _running():
        raise Interrupted(signal.SIGTERM, "saved at step 3")


def test_predict_writes_a_file_where_one_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def predict(recipe: Any, **given: Any) -> dict[str, Any]:
        asked.update(given, text=recipe.cls.text if recipe.task == "cls" else None)
        given["write"]('{"text": "a", "prediction": "x"}\n')
        return {}

    asked: dict[str, Any] = {}
    monkeypatch.setattr("llmkit.evaluating.predict.predict", predict)
    assert llmkit.predict("model", ["a\nb"]) == [{"text": "a", "prediction": "x"}]
    assert (asked["out"], asked["text"], asked["data"]) == (None, "text", [{"text": "a\nb"}])
    llmkit.predict("model", iter([{"id": 1, "body": "a"}]))
    assert (asked["text"], asked["data"]) == (None, [{"id": 1, "body": "a"}]), "rows that can be read only once"
    llmkit.predict("model", [{"id": 1, "body": "a"}], out=tmp_path / "labelled.csv", text="body")
    assert (asked["out"], asked["text"], asked["file_format"]) == (tmp_path / "labelled.csv", "body", None)
