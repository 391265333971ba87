"""A recipe: one YAML file from raw text, or labelled rows, to a model. Its `task` says which sections it has."""

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, TypeAdapter, model_validator

from llmkit.config.cls import Cls
from llmkit.config.evaluate import Evaluate, Report
from llmkit.config.generate import Generate
from llmkit.config.mlm import Mlm
from llmkit.config.model import Model
from llmkit.config.optim import SGD, Optim
from llmkit.config.prepare import Prepare
from llmkit.config.section import Section
from llmkit.config.train import Train
from llmkit.core.errors import UsageError

Values = dict[str, dict[str, Any]]


class Recipe(Section):
    """What the recipes of all tasks have. Every section has good defaults."""

    command: ClassVar[str]
    """The command that runs it: pretrain or finetune."""
    FAMILIES: ClassVar[tuple[str, ...]] = ()
    """The `model.family` that it can train; the first unless it names one. Empty: those of a model that exists."""
    BLOCK_SIZE: ClassVar[int]
    """Tokens per sequence of a recipe that names none."""
    DEFAULTS: ClassVar[Values] = {}
    """By section, where they differ from the section's own."""

    task: str
    prepare: Prepare = Prepare()
    model: Model = Model()
    optim: Optim = Optim()
    train: Train = Train()
    evaluate: Evaluate = Evaluate()
    generate: Generate = Generate()
    report: Report = Report()

    @property
    def block_size(self) -> int:
        """Tokens per sequence: as given, or the default, as far as the positions that are given for a new model."""
        return self.train.block_size or min(self.BLOCK_SIZE, self.model.n_positions or self.BLOCK_SIZE)

    def with_block_size(self, *limits: int | None) -> Self:
        """With `train.block_size` as a number: as given, or the default, as far as the limits that are no None."""
        size = self.train.block_size or min([self.block_size, *(limit for limit in limits if limit is not None)])
        return self.with_updates(train=self.train.with_updates(block_size=size))

    def for_task(self, task: str) -> "Recipe":
        """The recipe of another task with what this one says of data, evaluation, generation and the report.

        Raises:
            UsageError: this one sets what the other task does not read.
        """
        if task == self.task:
            return self
        for name in (name for name, owner in OWNERS.items() if owner == self.task):
            if getattr(self, name) != type(self).model_fields[name].default:
                hint = f"leave it out: it is for task {self.task}, and the model is of task {task}"
                raise UsageError(f"section {name} is not read", where=name, hint=hint)
        shared = ("prepare", "evaluate", "generate", "report")
        return RECIPES[task](task=task).with_updates(**{name: getattr(self, name) for name in shared})

    @model_validator(mode="before")
    @classmethod
    def _fill_in_defaults(cls, values: Any) -> Any:
        values = {name: value for name, value in values.items() if value is not None}  # an empty section: its defaults
        for name, defaults in cls.DEFAULTS.items():
            section = values.get(name, {})
            if isinstance(section, dict):
                classic = SGD if name == "optim" and section.get("name") == "sgd" else {}
                values |= {name: defaults | classic | section}
        return values

    @model_validator(mode="after")
    def _carries_state_that_there_is(self) -> "Recipe":
        if not self.train.carry_state and self.model.family not in ("gru", "lstm"):
            raise ValueError(f"train.carry_state is for gru and lstm, not for {self.model.family}")
        return self

    @model_validator(mode="after")
    def _task_trains_the_family(self) -> "Recipe":
        if not self.FAMILIES:
            return self
        if self.model.family not in self.FAMILIES:
            fitting = " or ".join(self.FAMILIES)
            raise ValueError(f"task {self.task} trains {fitting}, not model.family {self.model.family}")
        if self.optim.learning_rate is None:
            raise ValueError("optim.learning_rate must be a number: only fine-tuning has one by the model's width")
        return self


class ClmRecipe(Recipe):
    """Causal language modelling: next tokens."""

    command, BLOCK_SIZE = "pretrain", 256
    FAMILIES = ("gpt2", "llama", "gru", "lstm", "transformer")

    task: Literal["clm"] = "clm"


class MlmRecipe(Recipe):
    """Masked language modelling: masked tokens, and pairs of segments."""

    command, BLOCK_SIZE = "pretrain", 256
    FAMILIES = ("bert",)
    DEFAULTS: ClassVar[Values] = {"model": {"family": "bert"}}

    task: Literal["mlm"] = "mlm"
    mlm: Mlm = Mlm()

    @model_validator(mode="after")
    def _has_no_stride(self) -> "MlmRecipe":
        if self.evaluate.stride is not None:
            raise ValueError("evaluate.stride is for task clm: masked tokens have all of their block as context")
        return self


class ClsRecipe(Recipe):
    """Classification and regression of texts."""

    command, BLOCK_SIZE = "finetune", 512
    # Devlin et al. 2019, appendix A.3.
    DEFAULTS: ClassVar[Values] = {
        "model": {"dropout": 0.1},
        "optim": {
            "learning_rate": None,
            "weight_decay": 0.01,
            "adam_beta2": 0.999,
            "schedule": "linear",
            "warmup_steps": 0.1,
        },
        "train": {"max_eval_blocks": 20_000, "sample_prompt": None},
    }

    task: Literal["cls"] = "cls"
    cls: Cls = Field(default=Cls(), description="Columns, labels, losses and what of the model learns.")


RECIPES: dict[str, type[Recipe]] = {"clm": ClmRecipe, "mlm": MlmRecipe, "cls": ClsRecipe}
"""By task."""
OWNERS = {
    name: task for task, recipe in RECIPES.items() for name in recipe.model_fields if name not in Recipe.model_fields
}
"""The task of a section that only one task has."""


AnyRecipe = Annotated[ClmRecipe | MlmRecipe | ClsRecipe, Field(discriminator="task")]
_ANY: TypeAdapter[Recipe] = TypeAdapter(AnyRecipe)


def make_recipe(values: dict[str, Any]) -> Recipe:
    """The recipe of `values["task"]`; of the task that has one of the sections; or of clm.

    Raises:
        pydantic.ValidationError: unknown keys, wrong types or ranges, no such task.
    """
    owner = next((OWNERS[name] for name in values if name in OWNERS), "clm")
    return _ANY.validate_python(values | {"task": values.get("task") or owner})
