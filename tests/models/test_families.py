"""Families by name, initialization schemes, and that transformers' Auto classes load llmkit's models."""

import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import make_bert, make_gpt2, make_recurrent, make_token_ids, make_transformer
from torch import Tensor
from transformers import PreTrainedModel

from llmkit.architectures import families_of
from llmkit.config.model import Model
from llmkit.core.errors import UsageError
from llmkit.models.families import build_causal, encoder_heads, family_of, has_chunked_loss, is_recurrent

OPENING = """
import torch
for name in ("gru", "lstm", "transformer"):
    model = AutoModelForCausalLM.from_pretrained(f"{folder}/{name}").eval()
    logits = model(input_ids=torch.tensor([[3, 1, 4, 1, 5]])).logits
    torch.testing.assert_close(logits, torch.load(f"{folder}/{name}.pt"), msg=name)
    assert model.lm_head.weight is model.model.embed_tokens.weight, name
"""
IMPORTS = (
    "import llmkit; from transformers import AutoModelForCausalLM",
    "from transformers import AutoModelForCausalLM; import llmkit",
    "import llmkit; from transformers import GPT2LMHeadModel, AutoModelForCausalLM",
    "from transformers import GPT2LMHeadModel, AutoModelForCausalLM; import llmkit",
)


@pytest.mark.parametrize("family", families_of("clm"))
def test_each_causal_family_is_built_and_called_as_in_a_recipe(family: str) -> None:
    config = build_causal(Model(family=family), make_token_ids(), 16, 0).config
    assert family_of(config) == family and encoder_heads(config) is None


@pytest.mark.parametrize("family", families_of("clm"))
def test_model_larger_than_the_memory_is_refused_before_it_is_allocated(
    family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("llmkit.models.families.read_memory", lambda: 10**4)
    with pytest.raises(UsageError, match=r"parameters and needs .* this machine has"):
        build_causal(Model(family=family), make_token_ids(), 16, 0)
    with torch.device("meta"):  # `plan` counts the weights of such a model
        build_causal(Model(family=family), make_token_ids(), 16, 0)


def test_family_of_gives_the_recipes_name() -> None:
    models = [make_recurrent("gru"), make_recurrent("lstm"), make_transformer(), make_gpt2(), make_bert()]
    assert [family_of(model.config) for model in models] == ["gru", "lstm", "transformer", "gpt2", "bert"]
    assert [is_recurrent(model.config) for model in models] == [True, True, False, False, False]
    assert [has_chunked_loss(model.config) for model in models] == [True, True, True, False, False]


def test_auto_classes_open_our_models_whichever_of_the_libraries_is_imported_first(tmp_path: Path) -> None:
    for name, model in (
        ("gru", make_recurrent()),
        ("lstm", make_recurrent("lstm")),
        ("transformer", make_transformer()),
    ):
        model.eval().save_pretrained(tmp_path / name)
        torch.save(model(input_ids=torch.tensor([[3, 1, 4, 1, 5]])).logits.detach().clone(), tmp_path / f"{name}.pt")
    programs = [f"{imports}\nfolder = {str(tmp_path)!r}\n{OPENING}" for imports in IMPORTS]
    started = [
        subprocess.Popen([sys.executable, "-W", "ignore", "-c", program], stderr=subprocess.PIPE, text=True)
        for program in programs
    ]
    errors = [process.communicate()[1] for process in started]
    assert [process.returncode for process in started] == [0] * len(IMPORTS), errors


@pytest.mark.parametrize("program", ["import llmkit", "import llmkit, llmkit.cli.app"])
def test_importing_llmkit_loads_neither_torch_nor_transformers(program: str) -> None:
    check = f"{program}; import sys; print({{'torch', 'transformers'}} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


WIDTH, VOCAB = 48, 97
FAMILIES = pytest.mark.parametrize("family", ["gpt2", "gru", "lstm", "transformer"])


def build(family: str, init: str, seed: int = 0, **more: Any) -> PreTrainedModel:
    shape = {"n_layer": 2, "n_embd": WIDTH, **({} if family in ("gru", "lstm") else {"n_head": 4})}
    section = Model.model_validate({"family": family, "init": init, **shape, **more})
    return build_causal(section, make_token_ids(VOCAB), 16, seed)


def list_matrices(model: PreTrainedModel) -> list[tuple[str, Tensor, int, int]]:
    """Name, weights, inputs and outputs of each matrix; of a cell each gate is one, of GPT-2 each is transposed."""
    found = []
    for name, weight in model.named_parameters():
        gates = weight.split(WIDTH) if "weight_ih" in name or "weight_hh" in name else [weight]
        for gate in gates if weight.ndim == 2 else []:
            is_conv1d = name.endswith(("c_attn.weight", "c_proj.weight", "c_fc.weight"))
            n_inputs, n_outputs = gate.shape if is_conv1d else gate.shape[::-1]
            found.append((name, gate, n_inputs, n_outputs))
    return found


def assert_uniform(weight: Tensor, largest: float, name: str) -> None:
    assert weight.abs().max().item() <= largest * (1 + 1e-6), name
    assert weight.abs().max().item() > 0.95 * largest, name
    assert weight.std().item() == pytest.approx(largest / math.sqrt(3), rel=0.1), name
    assert abs(weight.mean().item()) < 0.1 * largest, name


@FAMILIES
def test_normal_init_has_the_given_standard_deviation(family: str) -> None:
    for name, weight, _, _ in list_matrices(build(family, "normal", init_range=0.3)):
        assert weight.std().item() == pytest.approx(0.3, rel=0.1), name
        assert abs(weight.mean().item()) < 0.03, name


@FAMILIES
def test_uniform_init_has_the_given_range(family: str) -> None:
    for name, weight, _, _ in list_matrices(build(family, "uniform", init_range=0.3)):
        assert_uniform(weight, 0.3, name)


@FAMILIES
def test_xavier_counts_the_inputs_and_outputs_of_each_matrix(family: str) -> None:
    for name, weight, n_inputs, n_outputs in list_matrices(build(family, "xavier")):
        assert_uniform(weight, math.sqrt(6 / (n_inputs + n_outputs)), name)


@FAMILIES
def test_he_counts_the_inputs_of_each_matrix(family: str) -> None:
    for name, weight, n_inputs, _ in list_matrices(build(family, "he")):
        assert_uniform(weight, math.sqrt(6 / n_inputs), name)


@pytest.mark.parametrize("family", ["gru", "lstm"])
def test_gates_of_a_wide_embedding_are_matrices_of_their_own(family: str) -> None:
    model = build(family, "xavier", embedding_size=96, tie_embeddings=False)
    gates = model.model.layers[0].weight_ih_l0.split(WIDTH)
    assert len(gates) == {"gru": 3, "lstm": 4}[family]
    for number, gate in enumerate(gates):
        assert_uniform(gate, math.sqrt(6 / (96 + WIDTH)), str(number))


@FAMILIES
@pytest.mark.parametrize("init", ["normal", "uniform", "xavier", "he"])
def test_vectors_keep_the_familys_init(family: str, init: str) -> None:
    auto, other = build(family, "auto"), build(family, init)
    vectors = [name for name, weight in auto.named_parameters() if weight.ndim == 1]
    assert vectors
    assert all(torch.equal(auto.get_parameter(name), other.get_parameter(name)) for name in vectors)


@FAMILIES
@pytest.mark.parametrize("init", ["auto", "normal"])
def test_weights_depend_only_on_the_seed(family: str, init: str) -> None:
    one = build(family, init, 1).state_dict()
    torch.rand(7)
    same, other = build(family, init, 1).state_dict(), build(family, init, 2).state_dict()
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert any(not torch.equal(one[name], other[name]) for name in one)


@FAMILIES
def test_tied_layers_are_one_matrix_under_any_init(family: str) -> None:
    model = build(family, "xavier")
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight


@pytest.mark.parametrize("family", ["gru", "lstm"])
def test_recurrent_models_start_like_pytorchs_word_level_example(family: str) -> None:
    for name, weight in build(family, "auto").named_parameters():
        if name == "lm_head.bias":
            assert (weight == 0).all()
        elif "embed" in name:
            assert_uniform(weight, 0.1, name)
        else:
            assert weight.abs().max().item() <= 1 / math.sqrt(WIDTH), name
            assert weight.abs().max().item() > 0.9 / math.sqrt(WIDTH), name


def test_transformer_starts_with_embeddings_as_large_as_its_positions() -> None:
    model = build("transformer", "auto")
    assert model.model.embed_tokens.weight.std().item() == pytest.approx(WIDTH**-0.5, rel=0.05)
    for name, weight, n_inputs, n_outputs in list_matrices(model):
        if "embed" not in name:
            assert_uniform(weight, math.sqrt(6 / (n_inputs + n_outputs)), name)
