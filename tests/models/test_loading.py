"""What a user may call a model, which kind it is, and what is said where it is none."""

import json
from pathlib import Path

import pytest
from tiny import make_bert, make_gpt2, make_recurrent, make_transformer, save_bert
from transformers import RobertaConfig, RobertaForMaskedLM

from llmkit.core.errors import ModelError, UsageError
from llmkit.models.loading import (
    check_causal,
    check_vocabulary,
    embedding_rows,
    load_causal_lm,
    max_context_length,
    read_kind,
    resolve_model,
    translate_loading_errors,
    wrong_kind,
)


def write_config(folder: Path, **values: object) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(values))
    return str(folder)


def test_run_stands_for_its_model_and_a_hub_name_for_itself(tmp_path: Path) -> None:
    write_config(tmp_path / "run/model")
    assert resolve_model(str(tmp_path / "run")) == str(tmp_path / "run/model")
    assert resolve_model(str(tmp_path / "run/model")) == str(tmp_path / "run/model")
    assert resolve_model("who/what") == "who/what"
    assert resolve_model("gpt2") == "gpt2"


def test_each_thing_that_is_no_model_has_its_own_way_out(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "empty").mkdir()
    (tmp_path / "unfinished").mkdir()
    (tmp_path / "unfinished/recipe.yaml").touch()
    for number in (1, 2):
        write_config(tmp_path / f"series/seed-{number}/model")
    cases = {
        "file": ("is a file, not a model", "give the folder"),
        "empty": ("there is no model in", "has a config.json"),
        "unfinished": ("there is no model in", "continue it with --resume"),
        "series": ("a folder of several runs", "seed-1 to seed-2"),
        "unfinishd": ("there is no folder", "did you mean"),
    }
    for name, (what, hint) in cases.items():
        with pytest.raises(ModelError, match=what) as caught:
            resolve_model(str(tmp_path / name))
        assert hint in caught.value.problems[0].hint, name


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ({"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"]}, "causal"),
        ({"model_type": "llama", "architectures": ["LlamaForCausalLM"]}, "causal"),
        ({"model_type": "llmkit_recurrent", "architectures": ["RecurrentForCausalLM"]}, "causal"),
        ({"model_type": "gpt2"}, "causal"),
        ({"model_type": "bert"}, "masked"),
        ({"model_type": "bert", "architectures": ["BertForPreTraining"]}, "masked"),
        ({"model_type": "roberta", "architectures": ["RobertaForMaskedLM"]}, "masked"),
        ({"model_type": "gpt2", "architectures": ["GPT2ForSequenceClassification"]}, "classifier"),
    ],
)
def test_kind_of_a_model_follows_from_its_configuration(tmp_path: Path, values: dict[str, object], kind: str) -> None:
    assert read_kind(write_config(tmp_path / "model", **values)) == kind


def test_model_that_predicts_nothing_of_ours_is_refused_by_its_architecture(tmp_path: Path) -> None:
    for architecture in ("BertForQuestionAnswering", "BertLMHeadModel"):
        path = write_config(tmp_path / architecture, model_type="bert", architectures=[architecture])
        with pytest.raises(UsageError, match=f"is a {architecture}"):
            read_kind(path)


def test_model_of_another_kind_names_the_commands_that_it_is_for(tmp_path: Path) -> None:
    path = write_config(tmp_path / "model", model_type="bert", architectures=["BertForMaskedLM"])
    with pytest.raises(UsageError, match="a masked language model") as caught:
        check_causal(path)
    assert "pretrain-mlm" in caught.value.problems[0].hint
    assert "predict" in wrong_kind("a", "classifier", "a").problems[0].hint


def test_longest_context_is_what_the_model_has_positions_for() -> None:
    assert max_context_length(make_gpt2(n_positions=16)) == 16
    assert max_context_length(make_bert()) == 64
    assert max_context_length(make_transformer()) == 64
    assert max_context_length(make_recurrent()) is None
    config = RobertaConfig(
        vocab_size=30, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8,
        max_position_embeddings=34, pad_token_id=1,
    )  # fmt: skip
    assert max_context_length(RobertaForMaskedLM(config)) == 32, "two rows are before the first position"


def test_tokenizer_larger_than_the_embedding_is_refused_with_both_sizes() -> None:
    model = make_gpt2(vocab_size=50)
    assert embedding_rows(model) == 50
    check_vocabulary(model, range(50), "m")
    with pytest.raises(ModelError, match="51 entries, the model's embedding only 50"):
        check_vocabulary(model, range(51), "m")


def test_opened_model_is_ready_to_be_used_and_nothing_else_is_opened_as_one(tmp_path: Path) -> None:
    make_gpt2(dropout=0.5).save_pretrained(tmp_path / "gpt2")
    assert not load_causal_lm(str(tmp_path / "gpt2")).training
    with pytest.raises(UsageError, match="a masked language model"):
        load_causal_lm(save_bert(tmp_path / "bert"))


def test_failure_of_the_library_gets_a_way_out_and_an_error_of_ours_stays(tmp_path: Path) -> None:
    path = write_config(tmp_path / "model", model_type="gpt2")
    errors = {"cannot be loaded: bad": ValueError("bad\nmore"), "never run": OSError("use trust_remote_code")}
    for what, error in errors.items():
        with pytest.raises(ModelError, match=what) as caught, translate_loading_errors(path):
            raise error
        assert caught.value.problems[0].where == path
    ours = UsageError("a", where="b", hint="c")
    with pytest.raises(UsageError) as kept, translate_loading_errors(path):
        raise ours
    assert kept.value is ours
    with pytest.raises(KeyboardInterrupt), translate_loading_errors(path):
        raise KeyboardInterrupt
