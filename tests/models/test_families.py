"""The architectures by name, and that transformers' Auto classes know ours in any program that imports llmkit."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tiny import make_bert, make_gpt2, make_recurrent, make_token_ids, make_transformer

from llmkit.architectures import families_of
from llmkit.config.model import Model
from llmkit.models.families import build_causal, encoder_heads, family_of, is_recurrent, sums_its_loss

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


def test_families_are_called_as_in_a_recipe() -> None:
    models = [make_recurrent("gru"), make_recurrent("lstm"), make_transformer(), make_gpt2(), make_bert()]
    assert [family_of(model.config) for model in models] == ["gru", "lstm", "transformer", "gpt2", "bert"]
    assert [is_recurrent(model.config) for model in models] == [True, True, False, False, False]
    assert [sums_its_loss(model.config) for model in models] == [True, True, True, False, False]


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
