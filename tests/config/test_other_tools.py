"""Names of other tools lead to a valid key, option or advice."""

import inspect
import re

import pytest

from llmkit.cli import options
from llmkit.config.loading import load_recipe
from llmkit.config.other_tools import NAMES, VALUES, find_meaning, find_value, normalize
from llmkit.config.problems import describe_unknown
from llmkit.config.recipe import RECIPES

SETTING = re.compile(r"[a-z]\w*(?:\.\w+)+=[^\s;,]+")
OPTIONS = set(re.findall(r'"(--[a-z-]+)"', inspect.getsource(options)))


@pytest.mark.parametrize("name", NAMES)
def test_every_setting_and_option_of_the_table_exists(name: str) -> None:
    meaning = NAMES[name]
    assert name == normalize(name)
    if match := SETTING.match(meaning):
        section = match[0].partition(".")[0]
        task = section if section in RECIPES else "cls" if "train.max_rows" in meaning else "clm"
        load_recipe(None, SETTING.findall(meaning)[: 2 if ", with " in meaning else 1], task)
    for option in re.findall(r"(?<![\w-])--[a-z-]+", meaning):
        assert option in OPTIONS


@pytest.mark.parametrize("key", VALUES)
def test_every_value_of_the_table_is_one_of_ours(key: str) -> None:
    section = key.partition(".")[0]
    for theirs, ours in VALUES[key].items():
        assert theirs == normalize(theirs)
        family = {"bert": "mlm"}.get(ours, "clm")
        load_recipe(None, [f"{key}={ours}"], section if section in RECIPES else family if key != "task" else None)


@pytest.mark.parametrize(
    ("typed", "setting"),
    [
        ("learning_rate", "optim.learning_rate=3e-4"),
        ("train.lr", "optim.learning_rate=3e-4"),
        ("--LR", "optim.learning_rate=3e-4"),
        ("--num-train-epochs", "train.epochs=3"),
        ("train.batch_size", "train.global_batch_size=32"),
        ("warmup_ratio", "optim.warmup_steps=0.05"),
        ("n_embd", "model.n_embd=256"),
        ("generate.max_length", "generate.max_new_tokens=100"),
        ("max_length", "train.block_size=256"),
    ],
)
def test_case_dashes_and_sections_do_not_matter(typed: str, setting: str) -> None:
    assert find_meaning(typed) == setting
    assert str(describe_unknown(typed)).startswith(f"write -s {setting} (")


def test_values_of_other_tools_are_those_of_one_key() -> None:
    assert find_value("prepare.tokenizer.kind", "BPE") == "byte-bpe"
    assert find_value("train.precision", 16) == "bf16"
    assert find_value("optim.name", "BPE") is None


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("class_weight", "cls.class_weights=balanced"), ("max_iter", "train.max_steps=1000"), ("cv", "--folds N"),
        ("n_splits", "--folds N"), ("stratify", "stratified"), ("scoring", "cls.metric=f1_macro"),
        ("C", "n-gram baseline"), ("id2label", "--label-map"), ("threshold", "cls.positive_label"),
        ("push_to_hub", "hf upload"), ("group_by_length", "leave it out"),
        ("label_smoothing_factor", "cls.label_smoothing=0.1"), ("body_learning_rate", "optim.learning_rate=3e-4"),
        ("num_iterations", "train.epochs=3"), ("samples_per_label", "train.max_rows=1000"),
        ("peft_config", "cls.lora_rank=8"), ("packing", "leave it out"), ("dataset_text_field", "--text COLUMN"),
        ("base_model", "--model MODEL"), ("sequence_len", "train.block_size=256"), ("val_set_size", "cls.validation"),
        ("wandb_project", "train.trackers=[wandb]"), ("manual_seed", "train.seed=1"),
        ("sliding_window", "cls.long_texts=windows"), ("use_cuda", "leave it out"),
        ("labels_list", "read from the data"), ("do_regression", "cls.labels=regression"),
        ("pad_to_max_length", "leave it out"), ("task_name", "--data FOLDER"), ("trust_remote_code", "never run"),
        ("sheet_name", "--sheet"), ("sep", "--delimiter"), ("dev_file", "--validation"),
    ],
)  # fmt: skip
def test_names_of_sklearn_trainer_setfit_trl_axolotl_and_run_glue_lead_to_ours(typed: str, meant: str) -> None:
    assert meant in str(find_meaning(typed))
    assert meant in str(describe_unknown(f"--{typed.replace('_', '-')}"))
