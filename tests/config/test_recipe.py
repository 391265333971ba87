"""A recipe has the sections of its task, with that task's defaults."""

from pathlib import Path

import pytest

from llmkit.config.loading import dump_recipe, load_recipe
from llmkit.config.recipe import OWNERS, RECIPES, make_recipe
from llmkit.core.errors import UsageError


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    return path


def errors_of(tmp_path: Path, text: str, *overrides: str) -> list[tuple[str, str, str]]:
    with pytest.raises(UsageError) as caught:
        load_recipe(write(tmp_path, text), overrides)
    return [(p.what, p.where, p.hint) for p in caught.value.problems]


def test_cls_has_fine_tuning_defaults_and_given_values_override_them(tmp_path: Path) -> None:
    recipe = load_recipe(write(tmp_path, "task: cls\noptim: {weight_decay: 0.3}\ntrain:\nmodel: {}\n"))
    assert (recipe.optim.learning_rate, recipe.optim.schedule, recipe.optim.warmup_steps) == (None, "linear", 0.1)
    assert (recipe.optim.weight_decay, recipe.optim.adam_beta2) == (0.3, 0.999)
    assert (recipe.model.dropout, recipe.block_size, recipe.train.sample_prompt) == (0.1, 512, None)
    given = load_recipe(None, ["optim.learning_rate=1e-4", "train.block_size=64"], task="cls")
    assert (given.optim.learning_rate, given.train.block_size, given.optim.schedule) == (1e-4, 64, "linear")
    plain = load_recipe(None)
    assert (plain.task, plain.optim.learning_rate, plain.block_size) == ("clm", 1e-3, 256)
    assert plain.optim.schedule == "cosine"


def test_only_a_block_size_that_is_not_given_follows_the_positions_of_the_model() -> None:
    assert load_recipe(None, ["model.n_positions=64"]).block_size == 64
    for task, default in (("cls", 512), (None, 256)):
        unset, given = load_recipe(None, [], task=task), load_recipe(None, [f"train.block_size={default}"], task=task)
        assert (unset.with_block_size(None, 128).train.block_size, unset.with_block_size().block_size) == (128, default)
        assert given.with_block_size(128).train.block_size == default
        assert unset.with_block_size(10**30).block_size == default, "a tokenizer without a limit"


def test_recipe_of_a_task_is_dumped_with_its_defaults(tmp_path: Path) -> None:
    recipe = load_recipe(None, ["cls.class_weights={a: 2}", "cls.freeze=2"], task="cls")
    assert load_recipe(write(tmp_path, dump_recipe(recipe))) == recipe


def test_section_that_the_task_does_not_read_is_refused_and_names_its_task(tmp_path: Path) -> None:
    [(what, where, hint)] = errors_of(tmp_path, "task: clm\ncls: {text: a}\n")
    assert "task clm does not read section 'cls'" in what
    assert where.endswith("recipe.yaml:2, cls")
    assert "task cls" in hint


def test_a_section_that_one_task_has_says_the_task() -> None:
    assert load_recipe(None, ["cls.text=a"]).task == "cls"
    assert load_recipe(None, ["mlm.sentence_objective=none"]).task == "mlm"


def test_task_that_there_is_not_is_refused_with_those_there_are(tmp_path: Path) -> None:
    [(what, where, hint)] = errors_of(tmp_path, "task: mml\n")
    assert (what, where.split(":")[-1]) == ("task is 'mml'", "1, task")
    assert "mlm" in hint


def test_recipe_of_another_task_keeps_what_both_read_and_refuses_what_is_lost() -> None:
    recipe = load_recipe(None, ["evaluate.batch_size=3", "prepare.read.skip_bad=true"])
    other = recipe.for_task("cls")
    assert (other.task, other.evaluate.batch_size, other.prepare.read.skip_bad) == ("cls", 3, True)
    with pytest.raises(UsageError, match="section cls is not read"):
        load_recipe(None, ["cls.text=a"]).for_task("clm")


def test_rate_by_the_width_is_for_fine_tuning_alone(tmp_path: Path) -> None:
    [(what, _, _)] = errors_of(tmp_path, "optim: {learning_rate: null}\n")
    assert "optim.learning_rate must be a number" in what
    assert load_recipe(None, ["optim.learning_rate=null"], task="cls").optim.learning_rate is None


@pytest.mark.parametrize("family", ["gpt2", "llama", "gru", "lstm", "transformer"])
def test_causal_models_are_of_five_families(family: str) -> None:
    assert load_recipe(None, [f"model.family={family}"]).model.family == family


@pytest.mark.parametrize("family", ["gru", "lstm", "transformer"])
def test_families_of_causal_models_are_refused_for_masked_ones(tmp_path: Path, family: str) -> None:
    assert errors_of(tmp_path, f"task: mlm\nmodel: {{family: {family}}}\n")


def test_each_section_of_one_task_has_one_owner_and_each_recipe_its_defaults() -> None:
    assert OWNERS == {"mlm": ("mlm",), "cls": ("cls",), "qa": ("qa",)}
    for task, kind in RECIPES.items():
        recipe = make_recipe({"task": task})
        assert type(recipe) is kind
        for section, values in kind.DEFAULTS.items():
            assert getattr(recipe, section).model_dump(include=set(values)) == values


def test_state_is_carried_by_recurrent_models_alone() -> None:
    assert load_recipe(None, ["model.family=lstm", "train.carry_state=false"]).train.carry_state is False
    with pytest.raises(UsageError, match="carry_state applies only to gru and lstm, not to gpt2"):
        load_recipe(None, ["train.carry_state=false"])
