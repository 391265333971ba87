"""A model's name is a run, a model folder or a hub name; wrong paths are reported without torch."""

import subprocess
import sys
from pathlib import Path

import pytest

from llmkit.core.errors import ModelError
from llmkit.core.model_folder import find_model_folder


def test_run_means_its_model_and_a_bare_name_may_be_of_the_hub(tmp_path: Path) -> None:
    (tmp_path / "run/model").mkdir(parents=True)
    (tmp_path / "run/model/config.json").touch()
    assert find_model_folder(str(tmp_path / "run")) == str(tmp_path / "run/model")
    assert find_model_folder(str(tmp_path / "run/model")) == str(tmp_path / "run/model")
    assert find_model_folder("bert-base-chinese") == "bert-base-chinese"
    with pytest.raises(ModelError, match="there is no folder") as caught:
        find_model_folder(str(tmp_path / "rum"))
    assert caught.value.problems[0].hint == f"did you mean '{tmp_path}/run'?"


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ("pretrain-clm --data nowhere --out r", 3),
        ("pretrain-clm --data . --model ./nowhere --out r", 6),
        ("finetune-cls --data x.csv --model ./nowhere --out r", 6),
        ("eval ./nowhere --data x", 6),
        ("predict ./nowhere --data x.csv", 6),
        ("generate ./nowhere --prompt a", 6),
        ("pretrain-clm nowhere.yaml --data d --out r", 2),
        ("eval . -s train.lr=1", 6),
    ],
)
def test_wrong_paths_and_keys_are_reported_before_torch_is_imported(tmp_path: Path, command: str, code: int) -> None:
    script = "import sys\nsys.modules['torch'] = None\nfrom llmkit.__main__ import main\nmain()"
    words = [sys.executable, "-c", script, *command.split()]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    assert [line.split(":")[0] for line in done.stderr.splitlines()] == ["error", "where", "hint"]


def test_folder_of_an_adapter_is_a_model(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text("{}")
    assert find_model_folder(str(tmp_path)) == str(tmp_path)
