"""What a model name may mean, which kind of model it is, and errors for folders that hold no usable model."""

import json
from pathlib import Path

import pytest
import torch
from tiny import make_bert, make_gpt2, make_recurrent, make_transformer, save_bert
from transformers import RobertaConfig, RobertaForCausalLM, RobertaForMaskedLM

from llmkit.core.errors import ModelError, UsageError
from llmkit.models.loading import (
    check_causal,
    check_vocabulary,
    embedding_rows,
    load_causal_lm,
    max_context_length,
    read_config,
    read_kind,
    resolve_model,
    translate_loading_errors,
    wrong_kind,
)


def write_config(folder: Path, **values: object) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(values))
    return str(folder)


def test_run_folder_means_its_model_and_a_hub_name_stays(tmp_path: Path) -> None:
    write_config(tmp_path / "run/model")
    assert resolve_model(str(tmp_path / "run")) == str(tmp_path / "run/model")
    assert resolve_model(str(tmp_path / "run/model")) == str(tmp_path / "run/model")
    assert resolve_model("who/what") == "who/what"
    assert resolve_model("gpt2") == "gpt2"


def test_each_path_without_a_model_has_its_own_hint(tmp_path: Path) -> None:
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


def test_model_without_a_known_head_is_refused_by_its_architecture(tmp_path: Path) -> None:
    for architecture in ("BertForMultipleChoice", "BertLMHeadModel"):
        path = write_config(tmp_path / architecture, model_type="bert", architectures=[architecture])
        with pytest.raises(UsageError, match=f"is a {architecture}"):
            read_kind(path)


def test_error_for_another_kind_of_model_names_its_commands(tmp_path: Path) -> None:
    path = write_config(tmp_path / "model", model_type="bert", architectures=["BertForMaskedLM"])
    with pytest.raises(UsageError, match="a masked language model") as caught:
        check_causal(path)
    assert "pretrain-mlm" in caught.value.problems[0].hint
    assert "predict" in wrong_kind("a", "classifier", "a").problems[0].hint


def test_max_context_length_is_the_number_of_positions() -> None:
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
    with pytest.raises(ModelError, match="51 entries, but the model's embedding has only 50"):
        check_vocabulary(model, range(51), "m")


def test_loaded_model_is_in_evaluation_mode_and_other_models_are_refused(tmp_path: Path) -> None:
    make_gpt2(dropout=0.5).save_pretrained(tmp_path / "gpt2")
    assert not load_causal_lm(str(tmp_path / "gpt2")).training
    with pytest.raises(UsageError, match="a masked language model"):
        load_causal_lm(save_bert(tmp_path / "bert"))


def test_library_errors_get_a_hint_and_llmkits_errors_stay(tmp_path: Path) -> None:
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


def test_causal_model_that_lacks_weights_is_refused_and_not_initialized_at_random(tmp_path: Path) -> None:
    model = make_gpt2()
    weights = {name: value for name, value in model.state_dict().items() if name != "transformer.h.0.mlp.c_fc.bias"}
    weights.pop("lm_head.weight", None)
    model.save_pretrained(tmp_path, state_dict=weights)
    with pytest.raises(ModelError, match=r"lacks 1 tensor of its weights: transformer\.h\.0\.mlp\.c_fc\.bias"):
        load_causal_lm(str(tmp_path))


@pytest.mark.parametrize("is_decoder", [False, True])
def test_causal_model_whose_tokens_see_later_ones_is_refused(is_decoder: bool, tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = RobertaConfig(
        vocab_size=60, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
        initializer_range=0.4, is_decoder=is_decoder,
    )  # fmt: skip
    RobertaForCausalLM(config).save_pretrained(tmp_path)
    if is_decoder:
        load_causal_lm(str(tmp_path))
        return
    with pytest.raises(UsageError, match="attend to later tokens"):
        load_causal_lm(str(tmp_path))


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"n_layer": 10**9}, "num_hidden_layers is 1,000,000,000, which does not fit the weights"),
        ({"n_embd": 10**12}, "hidden_size is 1,000,000,000,000, which does not fit"),
        ({"vocab_size": 10**12}, "vocab_size is 1,000,000,000,000, which does not fit"),
        ({"n_head": -1}, "num_attention_heads is -1"),
        ({"n_layer": 0}, "num_hidden_layers is 0"),
        ({"attn_pdrop": float("nan")}, "attn_pdrop is nan"),
        ({"resid_pdrop": 1.5}, "resid_pdrop is 1.5"),
    ],
)
def test_sizes_that_do_not_fit_the_weights_are_refused_before_memory_is_taken(
    change: dict[str, int], what: str, tmp_path: Path
) -> None:
    make_gpt2().save_pretrained(tmp_path)
    assert read_config(str(tmp_path)).n_layer >= 1
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ModelError, match=what) as caught:
        read_config(str(tmp_path))
    assert caught.value.problems[0].where == str(path)


def test_weights_of_other_shapes_are_named_without_the_words_of_the_library(tmp_path: Path) -> None:
    make_gpt2().save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"n_positions": 99}))
    with pytest.raises(ModelError, match="the shapes of its weights differ"):
        load_causal_lm(str(tmp_path))


@pytest.mark.parametrize("names", [[1.5], 7, "GPT2LMHeadModel", {"a": 1}])
def test_architectures_that_are_not_names_are_refused(tmp_path: Path, names: object) -> None:
    make_gpt2().save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"architectures": names}))
    with pytest.raises(ModelError):
        read_kind(str(tmp_path))
