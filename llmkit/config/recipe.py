"""Recipes: one YAML file describes how a model is made from raw text or labelled rows.

`task` decides which sections the recipe has.
"""

import json
from typing import Annotated, Any, ClassVar, Literal, Self, Union

from pydantic import Field, TypeAdapter, model_validator

from llmkit.architectures import ARCHITECTURES, families_of
from llmkit.config.cls import Cls
from llmkit.config.evaluate import Evaluate, Report
from llmkit.config.generate import Generate
from llmkit.config.inputs import Inputs
from llmkit.config.mlm import Mlm
from llmkit.config.model import Model
from llmkit.config.ner import Ner
from llmkit.config.optim import SGD, Optim
from llmkit.config.prepare import Prepare
from llmkit.config.qa import Qa
from llmkit.config.section import Section
from llmkit.config.train import Train
from llmkit.core.errors import UsageError

Values = dict[str, dict[str, Any]]


class Recipe(Section):
    """The sections that all tasks have."""

    COMMANDS: ClassVar[tuple[str, ...]]
    """Commands that run the recipe: pretrain, finetune."""
    FAMILIES: ClassVar[tuple[str, ...]] = ()
    """Values of `model.family` that the task trains; the first is the default. Empty: an existing model is trained."""
    BLOCK_SIZE: ClassVar[int]
    """Default of `train.block_size`."""
    DEFAULTS: ClassVar[Values] = {}
    """Defaults by section, if they differ from the section's own defaults."""
    COLUMNS_SECTION: ClassVar[str | None] = None
    """Name of the section with the columns of a table, if the task reads rows."""

    task: str
    inputs: Inputs = Inputs()
    prepare: Prepare = Prepare()
    model: Model = Model()
    optim: Optim = Optim()
    train: Train = Train()
    evaluate: Evaluate = Evaluate()
    generate: Generate = Generate()
    report: Report = Report()

    @property
    def block_size(self) -> int:
        """Return the number of tokens per sequence: `train.block_size`, else the default up to `model.n_positions`."""
        return self.train.block_size or min(self.BLOCK_SIZE, self.model.n_positions or self.BLOCK_SIZE)

    def with_block_size(self, *limits: int | None) -> Self:
        """Return a copy with `train.block_size` set: the recipe's value, else the default lowered to the limits.

        A limit of None is ignored.
        """
        size = self.train.block_size or min([self.block_size, *(limit for limit in limits if limit is not None)])
        return self.with_updates(train=self.train.with_updates(block_size=size))

    @property
    def code(self) -> list[str]:
        """Return the settings that name Python code, in the form of `--set`.

        llmkit does not run code that only the recipe in a run folder names, because the run may come from others.
        """
        return []

    def for_task(self, task: str) -> "Recipe":
        """Return a recipe of another task with this recipe's sections prepare, evaluate, generate and report.

        Raises:
            UsageError: this recipe sets a section that the other task does not have.
        """
        if task == self.task:
            return self
        lost = set(type(self).model_fields) - set(RECIPES[task].model_fields)
        for name in (name for name in type(self).model_fields if name in lost):
            if getattr(self, name) != type(self).model_fields[name].default:
                hint = f"remove it: it applies only to task {self.task}, and the model's task is {task}"
                raise UsageError(f"section {name} is not read", where=name, hint=hint)
        shared = ("prepare", "evaluate", "generate", "report")
        return RECIPES[task](task=task).with_updates(**{name: getattr(self, name) for name in shared})

    @model_validator(mode="before")
    @classmethod
    def _fill_in_defaults(cls, values: Any) -> Any:
        values = {name: value for name, value in values.items() if value is not None}  # an empty section: its defaults
        own = {"model": {"family": cls.FAMILIES[0]}} if cls.FAMILIES else {}
        for name, defaults in {**own, **cls.DEFAULTS}.items():
            section = values.get(name, {})
            if isinstance(section, dict):
                classic = SGD if name == "optim" and section.get("name") == "sgd" else {}
                values |= {name: defaults | classic | section}
        return values

    @model_validator(mode="after")
    def _family_carries_state(self) -> "Recipe":
        if not self.train.carry_state and not ARCHITECTURES[self.model.family].carries_state:
            carrying = " and ".join(name for name, each in ARCHITECTURES.items() if each.carries_state)
            raise ValueError(f"train.carry_state applies only to {carrying}, not to {self.model.family}; remove it")
        return self

    @model_validator(mode="after")
    def _rows_are_read(self) -> "Recipe":
        if self.COLUMNS_SECTION is not None:
            return self
        if self.train.max_rows is not None:
            what = f"train.max_rows applies only to tasks that read rows of a table, not to {self.task}"
            raise ValueError(f"{what}; remove it: train.max_steps, epochs or max_minutes set the length of training")
        if self.inputs.validation is not None or self.inputs.test is not None:
            what = f"inputs.validation and inputs.test are files of rows, which {self.task} does not read"
            raise ValueError(f"{what}; remove them: llmkit prepare takes --validation and --test")
        return self

    @model_validator(mode="after")
    def _task_trains_the_family(self) -> "Recipe":
        if not self.FAMILIES:
            return self
        if self.model.family not in self.FAMILIES:
            fitting = " or ".join(self.FAMILIES)
            raise ValueError(
                f"task {self.task} trains {fitting}, not model.family {self.model.family}; change one of them"
            )
        if self.optim.learning_rate is None:
            raise ValueError(
                "optim.learning_rate must be a number; only fine-tuning can derive it from the model's width"
            )
        return self


class ClmRecipe(Recipe):
    """Causal language modelling: next tokens."""

    COMMANDS, BLOCK_SIZE = ("pretrain",), 256
    FAMILIES = families_of("clm")

    task: Literal["clm"] = "clm"


class MlmRecipe(Recipe):
    """Masked language modelling: masked tokens, and pairs of segments."""

    COMMANDS, BLOCK_SIZE = ("pretrain",), 256
    FAMILIES = families_of("mlm")

    task: Literal["mlm"] = "mlm"
    mlm: Mlm = Mlm()

    @model_validator(mode="before")
    @classmethod
    def _pairs_default_to_none_without_a_head(cls, values: Any) -> Any:
        model, mlm = values.get("model"), values.get("mlm")
        family = model.get("family", cls.FAMILIES[0]) if isinstance(model, dict) else getattr(model, "family", None)
        if family not in ARCHITECTURES or ARCHITECTURES[family].reads_pairs:
            return values
        if mlm is None or isinstance(mlm, dict):
            return values | {"mlm": {"sentence_objective": "none"} | (mlm or {})}
        unset = isinstance(mlm, Mlm) and "sentence_objective" not in mlm.model_fields_set
        return values | {"mlm": mlm.with_updates(sentence_objective="none")} if unset else values

    @model_validator(mode="after")
    def _pairs_need_a_head(self) -> "MlmRecipe":
        if self.mlm.sentence_objective != "none" and not ARCHITECTURES[self.model.family].reads_pairs:
            what = f"mlm.sentence_objective {self.mlm.sentence_objective} needs a head for pairs"
            raise ValueError(f"{what}, which {self.model.family} lacks; set it to none")
        return self

    @model_validator(mode="after")
    def _has_no_stride(self) -> "MlmRecipe":
        if self.evaluate.stride is not None:
            raise ValueError(
                "evaluate.stride applies only to task clm; remove it: the context of a masked token is its whole block"
            )
        return self


# Devlin et al. 2019, appendix A.3.
FINE_TUNING: Values = {
    "model": {"dropout": 0.1},
    "optim": {
        "learning_rate": None,
        "weight_decay": 0.01,
        "adam_beta2": 0.999,
        "schedule": "linear",
        "warmup_steps": 0.1,
    },
    "train": {"max_eval_samples": 20_000, "sample_prompt": None},
}
"""Defaults of the tasks that train on labelled rows."""


class ClsRecipe(Recipe):
    """Classification and regression of texts."""

    COMMANDS, BLOCK_SIZE = ("finetune",), 512
    COLUMNS_SECTION = "cls"
    DEFAULTS = FINE_TUNING

    task: Literal["cls"] = "cls"
    cls: Cls = Field(default=Cls(), description="Columns, labels, loss, and which weights are trained.")

    @property
    def code(self) -> list[str]:
        names = self.cls.metrics
        return (
            [f"cls.metrics={names[0] if len(names) == 1 else json.dumps(names, ensure_ascii=False)}"] if names else []
        )


class NerRecipe(Recipe):
    """Tagging of words with entities."""

    COMMANDS, BLOCK_SIZE = ("finetune",), 512
    COLUMNS_SECTION = "ner"
    DEFAULTS = FINE_TUNING

    task: Literal["ner"] = "ner"
    ner: Ner = Field(default=Ner(), description="Words, tags, loss, and which weights are trained.")


class QaRecipe(Recipe):
    """Extractive question answering: the answer is a part of a context."""

    COMMANDS, BLOCK_SIZE = ("finetune",), 384
    COLUMNS_SECTION = "qa"
    DEFAULTS: ClassVar[Values] = {
        **FINE_TUNING,
        "train": {"max_eval_samples": 2_000, "sample_prompt": None},
    }

    task: Literal["qa"] = "qa"
    qa: Qa = Field(default=Qa(), description="Columns, windows, answers, and which weights are trained.")


RECIPES: dict[str, type[Recipe]] = {
    "clm": ClmRecipe, "mlm": MlmRecipe, "cls": ClsRecipe, "ner": NerRecipe, "qa": QaRecipe
}  # fmt: skip
"""Recipe classes by task."""
ROW_TASK = "cls"
"""Task if the command line names columns, and no recipe names a task."""
OWNERS: dict[str, tuple[str, ...]] = {
    name: tuple(task for task, other in RECIPES.items() if name in other.model_fields)
    for recipe in RECIPES.values()
    for name in recipe.model_fields
    if name not in Recipe.model_fields
}
"""For each section that some tasks lack: the tasks that have it."""
_ANY_RECIPE: Any = Annotated[Union[tuple(RECIPES.values())], Field(discriminator="task")]  # noqa: UP007


def find_task(values: dict[str, Any]) -> str | None:
    """Return the task of the first section that only one task has."""
    return next((OWNERS[name][0] for name in values if len(OWNERS.get(name, ())) == 1), None)


def make_recipe(values: dict[str, Any]) -> Recipe:
    """Make a recipe for `values["task"]`, else for the only task that has one of the sections, else for clm.

    Raises:
        pydantic.ValidationError: unknown keys, wrong types or ranges, or an unknown task.
    """
    recipe: Recipe = TypeAdapter(_ANY_RECIPE).validate_python(
        values | {"task": values.get("task") or find_task(values) or "clm"}
    )
    return recipe
