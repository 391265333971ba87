"""`generate` dispatches to the model's task."""

from pathlib import Path

import pytest
from tiny import save_bert, save_gpt2
from transformers import AutoModelForSequenceClassification

from llmkit.config.loading import load_recipe
from llmkit.core.errors import UsageError
from llmkit.generating.generate import generate

SETTINGS = load_recipe(None, ["generate.max_new_tokens=4", "generate.num_samples=2", "generate.top_k=3"]).generate


def test_a_causal_model_gives_samples_and_a_masked_one_candidates_for_its_masks(tmp_path: Path) -> None:
    samples = generate(SETTINGS, model=save_gpt2(tmp_path / "gpt2"), prompts=["free", ""])
    assert [sample["prompt"] for sample in samples] == ["free", "free", "", ""]
    assert all(sample["n_tokens"] <= 4 and sample["tokens_per_second"] > 0 for sample in samples)
    [filled] = generate(SETTINGS, model=save_bert(tmp_path / "bert"), prompts=["win [MASK] now"])
    assert [len(candidates) for candidates in filled["masks"]] == [3]


def test_dropped_part_of_a_long_prompt_is_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    generate(SETTINGS, model=save_gpt2(tmp_path / "gpt2"), prompts=["free cash " * 80])
    assert "longer than the model's context" in capsys.readouterr().err


def test_a_classifier_writes_no_text_and_the_error_names_what_it_is_for(tmp_path: Path) -> None:
    model = AutoModelForSequenceClassification.from_pretrained(save_bert(tmp_path / "bert"))
    model.save_pretrained(tmp_path / "classifier")
    with pytest.raises(UsageError, match="is a classifier") as caught:
        generate(SETTINGS, model=str(tmp_path / "classifier"), prompts=["a"])
    assert "predict" in str(caught.value)


def test_settings_that_a_masked_model_does_not_read_are_reported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = save_bert(tmp_path / "bert")
    generate(SETTINGS, model=model, prompts=["win [MASK] now"])
    assert "not used: generate.max_new_tokens, generate.num_samples; for each mask" in capsys.readouterr().err
    generate(load_recipe(None, ["generate.top_k=3"]).generate, model=model, prompts=["win [MASK] now"])
    assert "not used" not in capsys.readouterr().err
