"""An adapter of peft is opened by its folder, and gives the scores that peft gives."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import save_bert, save_gpt2
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from llmkit.core.errors import ModelError
from llmkit.models.adapters import ADAPTER_CONFIG, ADAPTER_WEIGHTS, is_adapter
from llmkit.models.classifier import load_classifier
from llmkit.models.loading import load_causal_lm, resolve_model
from llmkit.tokens.loading import load_tokenizer

peft = pytest.importorskip("peft")
pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")  # peft reads it
IDS = torch.tensor([[2, 40, 41, 42, 43, 44, 3]])


def save_adapter(folder: Path, task: str) -> tuple[Path, Any]:
    """A folder with an adapter of random weights, and its logits in peft."""
    if task == "SEQ_CLS":
        base = save_bert(folder / "base")
        AutoModelForSequenceClassification.from_pretrained(base).save_pretrained(base)  # with a pooler and two labels
        model: Any = AutoModelForSequenceClassification.from_pretrained(
            base, num_labels=4, ignore_mismatched_sizes=True
        )
    else:
        base = save_gpt2(folder / "base")
        model = AutoModelForCausalLM.from_pretrained(base)
    adapted = peft.get_peft_model(
        model, peft.LoraConfig(task_type=task, r=2, fan_in_fan_out=task == "CAUSAL_LM")
    ).eval()
    with torch.no_grad():
        for name, weight in adapted.named_parameters():
            if "lora_B" in name:
                weight.normal_()
        logits = adapted(input_ids=IDS).logits
    adapted.save_pretrained(folder / "adapter")
    return folder / "adapter", logits


def test_classifier_adapter_has_the_scores_and_labels_of_peft(tmp_path: Path) -> None:
    folder, expected = save_adapter(tmp_path, "SEQ_CLS")
    assert is_adapter(folder) and not is_adapter(tmp_path / "base")
    path = resolve_model(str(folder))
    assert path == resolve_model(str(folder)), "merged once"
    with torch.no_grad():
        torch.testing.assert_close(load_classifier(path)(input_ids=IDS).logits, expected, rtol=1e-4, atol=1e-5)
    assert len(load_tokenizer(path)) == len(load_tokenizer(str(tmp_path / "base")))


def test_causal_adapter_has_the_logits_of_peft(tmp_path: Path) -> None:
    folder, expected = save_adapter(tmp_path, "CAUSAL_LM")
    with torch.no_grad():
        found = load_causal_lm(resolve_model(str(folder)))(input_ids=IDS).logits
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_weights_that_neither_adapter_nor_base_has_are_named(tmp_path: Path) -> None:
    folder, _ = save_adapter(tmp_path, "SEQ_CLS")
    shutil.rmtree(tmp_path / "base")
    save_bert(tmp_path / "base")  # without a pooler
    with pytest.raises(ModelError, match=r"the weight bert.pooler.dense.bias is missing from the adapter"):
        resolve_model(str(folder))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"base_model_name_or_path": None}, "does not name its base model"),
        ({"task_type": "QUESTION_ANS"}, "is for the task 'QUESTION_ANS'"),
        ({"base_model_name_or_path": "./nowhere"}, "there is no folder"),
        ({"peft_type": "IA3"}, "of type IA3"),
        ({"target_modules": ["key"]}, "does not fit its base model"),
        ({"base_model_name_or_path": "."}, "is an adapter itself"),
        ({"r": 10**9}, "its rank 1000000000 differs from the rank of its weights"),
        ({"r": 1}, "does not fit its base model"),
    ],
)
def test_adapter_that_cannot_be_merged_is_refused(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    folder, _ = save_adapter(tmp_path, "SEQ_CLS")
    settings = json.loads((folder / ADAPTER_CONFIG).read_text())
    (folder / ADAPTER_CONFIG).write_text(json.dumps(settings | change))
    with pytest.raises(ModelError, match=message):
        resolve_model(str(folder))


def test_adapter_with_pickled_or_damaged_weights_is_refused(tmp_path: Path) -> None:
    folder, _ = save_adapter(tmp_path, "SEQ_CLS")
    weights = (folder / ADAPTER_WEIGHTS).read_bytes()
    (folder / ADAPTER_WEIGHTS).write_bytes(weights[: len(weights) // 2])
    with pytest.raises(ModelError, match="cannot be read"):
        resolve_model(str(folder))
    shutil.move(folder / ADAPTER_WEIGHTS, folder / "adapter_model.bin")
    with pytest.raises(ModelError, match="has no adapter_model"):
        resolve_model(str(folder))
