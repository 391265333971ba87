"""Pickled weights are converted only on request, and their code is never run."""

import json
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny import save_gpt2

from llmkit.core.errors import ModelError
from llmkit.models.loading import (
    load_causal_lm,
    resolve_model,
)
from llmkit.models.pickles import convert_pickle


def test_pickle_is_read_where_its_name_allows_it_and_runs_no_code(tmp_path: Path) -> None:
    old = tmp_path / "old"
    save_gpt2(old)
    weights = load_file(old / "model.safetensors")
    (old / "model.safetensors").unlink()
    names = sorted(weights)
    torch.save({name: weights[name] for name in names[::2]}, old / "first.bin")
    torch.save({name: weights[name] for name in names[1::2]}, old / "second.bin")
    shards = {name: ("first.bin", "second.bin")[number % 2] for number, name in enumerate(names)}
    (old / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": shards}))
    with pytest.raises(ModelError, match="pickle"):
        load_causal_lm(resolve_model(str(old)))
    found = load_causal_lm(resolve_model(f"pickle:{old}")).state_dict()
    assert all(torch.equal(found[name], value) for name, value in weights.items())
    canary = tmp_path / "canary"
    (old / "second.bin").write_bytes(pickle.dumps({"x": Touch(str(canary))}, protocol=2))
    with pytest.raises(ModelError, match="more than tensors"):
        resolve_model(f"pickle:{old}")
    assert not canary.exists()
    (old / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": {"x": "../first.bin"}}))
    with pytest.raises(ModelError, match="not a file in the folder"):
        resolve_model(f"pickle:{old}")


class Touch:
    """Creates a file when it is unpickled."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return open, (self.path, "w")


def test_converted_copy_has_separate_tied_weights_and_only_needed_files(tmp_path: Path) -> None:
    shared = torch.arange(6.0).view(2, 3)
    torch.save({"a": shared, "b": shared.t(), "step": 7}, tmp_path / "pytorch_model.bin")
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "evil.py").touch()
    (tmp_path / "vocab.txt").symlink_to("/etc/hostname")
    copy = Path(convert_pickle(tmp_path))
    assert sorted(path.name for path in copy.iterdir()) == ["config.json", "model.safetensors"]
    found = load_file(copy / "model.safetensors")
    assert {name: value.tolist() for name, value in found.items()} == {"a": shared.tolist(), "b": shared.t().tolist()}


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"weight_map": 7}'])
def test_folder_without_pickled_weights_is_refused_with_a_hint(tmp_path: Path, text: str) -> None:
    (tmp_path / "pytorch_model.bin.index.json").write_text(text)
    with pytest.raises(ModelError, match="no pickled weights") as caught:
        convert_pickle(tmp_path)
    assert "a hub model must be downloaded first" in caught.value.problems[0].hint


def test_link_to_weights_elsewhere_is_not_followed(tmp_path: Path) -> None:
    torch.save({"a": torch.ones(1)}, tmp_path / "outside.bin")
    (tmp_path / "model").mkdir()
    (tmp_path / "model/pytorch_model.bin").symlink_to(tmp_path / "outside.bin")
    with pytest.raises(ModelError, match="no pickled weights"):
        convert_pickle(tmp_path / "model")
