"""Untrusted model folders, with every way to load a model or tokenizer: no code is run and nothing outside is read."""

import ast
import json
import os
import pickle
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny import make_messages, save_gpt2, write_table
from transformers import AutoModelForCausalLM

from llmkit.cli import app
from llmkit.cli.app import main
from llmkit.config.loading import load_recipe
from llmkit.core.errors import EnvironmentFault, ModelError
from llmkit.core.untrusted import check_model_files
from llmkit.models.loading import load_causal_lm, read_kind
from llmkit.preparing.prepare import prepare
from llmkit.tokens.loading import load_tokenizer

ROOT = Path(__file__).parents[2]
CANARY = "import pathlib\npathlib.Path({!r}).touch()\n"


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An intact model, a prepared folder for it, a text and rows."""
    home = tmp_path_factory.mktemp("good")
    save_gpt2(home / "model")
    (home / "text.txt").write_text("".join(f"the time is {n} and you call\n" for n in range(300)))
    write_table(home / "rows.csv", make_messages(40))
    recipe = load_recipe(None, [f"prepare.tokenizer.path={home / 'model'}"])
    prepare([str(home / "text.txt")], home / "data", recipe.prepare)
    return home


def change_json(path: Path, **values: Any) -> None:
    known = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(known | values))


class RunsCode:
    """Creates a file when it is unpickled."""

    def __init__(self, canary: str) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Any, ...]:
        return exec, (CANARY.format(self.canary),)


def write_pickle(path: Path, canary: str) -> None:
    path.write_bytes(pickle.dumps(RunsCode(canary)))


def leave_pickle_alone(model: Path) -> None:
    (model / "model.safetensors").unlink()
    write_pickle(model / "pytorch_model.bin", str(model / "canary"))


def name_pickle_in_config(model: Path) -> None:
    write_pickle(model / "adapter_model.bin", str(model / "canary"))
    change_json(model / "config.json", transformers_weights="adapter_model.bin")


def shard(model: Path, name: str) -> None:
    """The weights under another name, with an index of it."""
    weights = load_file(model / "model.safetensors")
    (model / "model.safetensors").unlink()
    if not (model / name).exists():
        save_file(weights, model / name)
    change_json(model / "model.safetensors.index.json", metadata={}, weight_map=dict.fromkeys(weights, name))


def name_weights_above(model: Path) -> None:
    shard(model, "../secret.safetensors")


def name_weights_elsewhere(model: Path) -> None:
    shard(model, str(model.parent / "secret.safetensors"))


def name_pickle_in_index(model: Path) -> None:
    write_pickle(model / "shard.bin", str(model / "canary"))
    shard(model, "shard.bin")


def name_index_in_config(model: Path) -> None:
    change_json(model / "config.json", transformers_weights="../model.safetensors.index.json")


def link(model: Path, name: str) -> None:
    outside = model.parent / f"outside-{name}"
    shutil.move(model / name, outside)
    (model / name).symlink_to(outside)


def link_weights(model: Path) -> None:
    link(model, "model.safetensors")


def link_tokenizer(model: Path) -> None:
    link(model, "tokenizer.json")


def link_templates(model: Path) -> None:
    (model.parent / "templates").mkdir()
    (model / "additional_chat_templates").symlink_to(model.parent / "templates")


def name_another_model(model: Path) -> None:
    change_json(model / "adapter_config.json", base_model_name_or_path="/somewhere/else", peft_type="LORA")


def want_kernel(model: Path) -> None:
    change_json(model / "config.json", attn_implementation="stranger/kernel")


def name_wrong_class(model: Path) -> None:
    change_json(model / "tokenizer_config.json", tokenizer_class="AutoModel")


def put_pipe(model: Path) -> None:
    (model / "tokenizer_config.json").unlink()
    os.mkfifo(model / "tokenizer_config.json")


HOSTILE: dict[Callable[[Path], None], str] = {
    leave_pickle_alone: "not safetensors but pytorch_model.bin",
    name_pickle_in_config: "'adapter_model.bin' as a file of its weights",
    name_weights_above: "'../secret.safetensors' as a file of its weights",
    name_weights_elsewhere: "secret.safetensors' as a file of its weights",
    name_pickle_in_index: "'shard.bin' as a file of its weights",
    name_index_in_config: "as a file of its weights",
    link_weights: "model.safetensors is a link to a place outside",
    link_tokenizer: "tokenizer.json is a link to a place outside",
    link_templates: "additional_chat_templates is a link to a place outside",
    name_another_model: "this is an adapter",
    want_kernel: "'stranger/kernel'",
    name_wrong_class: "'AutoModel' is not a tokenizer class",
    put_pipe: "tokenizer_config.json is not a regular file",
}
ROADS = {
    "eval": ["MODEL", "--data", "HOME/text.txt"],
    "generate": ["MODEL"],
    "predict": ["MODEL", "--data", "HOME/rows.csv"],
    "pretrain-clm": ["--data", "HOME/data", "--out", "run", "--model", "MODEL"],
    "pretrain-mlm": ["--data", "HOME/data", "--out", "run", "--model", "MODEL"],
    "finetune-cls": ["--data", "HOME/rows.csv", "--out", "run", "--model", "MODEL"],
    "prepare": ["HOME/text.txt", "--out", "run", "-s", "prepare.tokenizer.path=MODEL"],
}


def call(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: str, home: Path, model: Path
) -> tuple[int, str]:
    words = [word.replace("MODEL", str(model)).replace("HOME", str(home)) for word in ROADS[command]]
    monkeypatch.setattr(sys, "argv", ["llmkit", command, *words])
    monkeypatch.setattr(app.signal, "signal", lambda *_: None)
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("the user was asked"))
    capsys.readouterr()
    with pytest.raises(SystemExit) as caught:
        main()
    return int(caught.value.code or 0), capsys.readouterr().err


@pytest.mark.parametrize("command", ROADS)
@pytest.mark.parametrize("spoil", HOSTILE, ids=lambda spoil: spoil.__name__)
def test_hostile_model_folder_is_refused_by_every_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, good: Path,
    spoil: Callable[[Path], None], command: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    shutil.copytree(good / "model", tmp_path / "model")
    spoil(tmp_path / "model")
    if spoil is leave_pickle_alone and command == "prepare":
        return  # its tokenizer is sound, and the weights are not looked at
    code, err = call(monkeypatch, capsys, command, good, tmp_path / "model")
    assert code == 6, err
    assert HOSTILE[spoil] in err
    assert [line.split(":")[0] for line in err.splitlines()[-3:]] == ["error", "where", "hint"]
    assert not (tmp_path / "model/canary").exists()
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("command", ROADS)
def test_code_in_a_model_folder_is_neither_run_nor_asked_about(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, good: Path, command: str
) -> None:
    monkeypatch.chdir(tmp_path)
    model = tmp_path / "model"
    shutil.copytree(good / "model", model)
    (model / "evil.py").write_text(CANARY.format(str(tmp_path / "canary")))
    (model / "custom_generate").mkdir()
    shutil.copy(model / "evil.py", model / "custom_generate/generate.py")
    names = ("AutoConfig", "AutoModel", "AutoModelForCausalLM", "AutoModelForSequenceClassification")
    change_json(model / "config.json", auto_map=dict.fromkeys(names, "evil.Evil"), model_type="evil")
    change_json(model / "tokenizer_config.json", auto_map={"AutoTokenizer": ["evil.Evil", "evil.Evil"]})
    code, err = call(monkeypatch, capsys, command, good, model)
    assert code == (0 if command == "prepare" else 6), err  # the tokenizer does without its code
    assert "trust_remote_code" not in err
    assert not (tmp_path / "canary").exists()


def test_code_beside_a_known_architecture_is_ignored(tmp_path: Path, good: Path) -> None:
    model = tmp_path / "model"
    shutil.copytree(good / "model", model)
    (model / "evil.py").write_text(CANARY.format(str(tmp_path / "canary")))
    change_json(model / "config.json", auto_map={"AutoConfig": "evil.Evil", "AutoModelForCausalLM": "evil.Evil"})
    assert read_kind(str(model)) == "causal"
    assert load_causal_lm(str(model)).config.model_type == "gpt2"
    assert not (tmp_path / "canary").exists()


def test_file_of_a_model_without_read_permission_is_named(
    tmp_path: Path, good: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(good / "model", tmp_path / "model")
    access = os.access  # root may read everything
    monkeypatch.setattr("os.access", lambda path, mode: not str(path).endswith(".safetensors") and access(path, mode))
    with pytest.raises(EnvironmentFault, match=r"no permission to read model\.safetensors"):
        load_causal_lm(str(tmp_path / "model"))


def test_sharded_and_linked_folders_that_stay_inside_are_taken(tmp_path: Path, good: Path) -> None:
    snapshot = tmp_path / "models--who--what/snapshots/0123"
    (tmp_path / "models--who--what/blobs").mkdir(parents=True)
    shutil.copytree(good / "model", snapshot)
    shard(snapshot, "part-1.safetensors")
    for file in [*snapshot.iterdir()]:
        blob = tmp_path / "models--who--what/blobs" / f"blob-{file.name}"
        shutil.move(file, blob)
        file.symlink_to(Path("../../blobs") / blob.name)
    (snapshot / "latest").symlink_to(tmp_path)  # a folder that nobody reads
    (tmp_path / "short").symlink_to(snapshot)
    weights = load_causal_lm(str(good / "model")).state_dict()
    for name in (snapshot, tmp_path / "short"):
        found = load_causal_lm(str(name)).state_dict()
        assert all(torch.equal(found[key], weights[key]) for key in weights)
        assert len(load_tokenizer(str(name))) == len(load_tokenizer(str(good / "model")))


def test_names_in_a_hub_model_are_checked_before_its_files_are_opened(tmp_path: Path) -> None:
    change_json(tmp_path / "model.safetensors.index.json", metadata={}, weight_map={"a": "../../b.safetensors"})
    files = {path.name: path for path in tmp_path.iterdir()}
    with pytest.raises(ModelError, match=r"'\.\./\.\./b\.safetensors'"):
        check_model_files("who/what", files.get)


def test_a_hub_model_in_the_cache_goes_through_the_same_check(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, good: Path
) -> None:
    snapshot = tmp_path / "models--who--what/snapshots/0123"
    shutil.copytree(good / "model", snapshot)
    (tmp_path / "models--who--what/refs").mkdir()
    (tmp_path / "models--who--what/refs/main").write_text("0123")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    assert read_kind("who/what") == "causal"
    assert load_tokenizer("who/what").eos_token == "<|endoftext|>"
    name_another_model(snapshot)
    for road in (read_kind, load_tokenizer):
        with pytest.raises(ModelError, match="this is an adapter"):
            road("who/what")


@pytest.mark.parametrize("text", ["", "[]", "{", "[" * 100_000, '{"weight_map": 7}', '{"tokenizer_class": 7}', "\x00"])
@pytest.mark.parametrize("file", ["config.json", "tokenizer_config.json", "model.safetensors.index.json"])
def test_damaged_json_in_a_model_folder_is_an_error_of_three_lines(
    tmp_path: Path, good: Path, file: str, text: str
) -> None:
    shutil.copytree(good / "model", tmp_path / "model")
    if file.startswith("model."):
        (tmp_path / "model/model.safetensors").unlink()
    (tmp_path / "model" / file).write_text(text)
    with pytest.raises(ModelError):
        load_causal_lm(str(tmp_path / "model"))
        load_tokenizer(str(tmp_path / "model"))
        raise ModelError("some of these are harmless", where="", hint="")


def test_every_from_pretrained_stands_behind_the_check() -> None:
    """A new road without the check would be seen here. Only `load_tokenizer`, which checks, calls `_open`."""
    allowed = ("with translate_loading_errors(", "def _open(shown", "def _is_generation_config_bad")
    for path in (ROOT / "llmkit").rglob("*.py"):
        lines = path.read_text().splitlines()
        for node in ast.walk(ast.parse("\n".join(lines))):
            if isinstance(node, ast.Attribute) and node.attr == "from_pretrained":
                before = "\n".join(lines[max(0, node.lineno - 6) : node.lineno - 1])
                assert any(words in before for words in allowed), f"{path}:{node.lineno}"


def test_the_command_that_converts_a_pickle_does_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, good: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(good / "model", tmp_path / "OLD")
    weights = load_file(tmp_path / "OLD/model.safetensors")
    torch.save(weights, tmp_path / "OLD/pytorch_model.bin")
    (tmp_path / "OLD/model.safetensors").unlink()
    page = (ROOT / "docs/faults.md").read_text()
    exec(page.partition("```python\n")[2].partition("```")[0], {})
    found = load_causal_lm("NEW").state_dict()
    assert all(torch.equal(found[key], value) for key, value in weights.items())
    assert AutoModelForCausalLM.from_pretrained("NEW", use_safetensors=True) is not None
