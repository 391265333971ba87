"""A recipe: one YAML file from raw text, or labelled rows, to a model. Each command reads its own sections."""

from typing import Any, Literal

from pydantic import Field, model_validator

from llmkit.config.cls import Cls
from llmkit.config.evaluate import Evaluate, Report
from llmkit.config.generate import Generate
from llmkit.config.mlm import Mlm
from llmkit.config.model import Model
from llmkit.config.optim import SGD, Optim
from llmkit.config.prepare import Prepare
from llmkit.config.section import Section
from llmkit.config.train import Train

FAMILIES = {"clm": ("gpt2", "llama", "gru", "lstm", "transformer"), "mlm": ("bert", "modernbert")}
"""The `model.family` that each objective can train; the first unless the recipe names one."""

WITHOUT_PAIRS = ("modernbert",)
"""Families of objective mlm that have no head for pairs: `mlm.nsp` is false with them."""

BLOCK_SIZE = {"clm": 256, "mlm": 256, "cls": 512}
"""Of a recipe that names none, by task or objective."""

FINE_TUNING: dict[str, dict[str, Any]] = {
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
"""Where a recipe with a `task` has other defaults than pretraining: those of Devlin et al. 2019, appendix A.3."""


class Recipe(Section):
    """Every section has good defaults, so an empty recipe trains a tiny GPT-2, `objective: mlm` a tiny BERT, and
    `task: cls` a classifier."""

    objective: Literal["clm", "mlm"] = Field(
        default="clm", description="What `llmkit pretrain` trains: clm, next tokens; mlm, masked tokens and pairs."
    )
    task: Literal["cls"] | None = Field(
        default=None, description="What `llmkit finetune` trains: cls, labels of texts. It goes before the objective."
    )
    prepare: Prepare = Prepare()
    model: Model = Model()
    mlm: Mlm = Mlm()
    cls: Cls = Cls()
    optim: Optim = Optim()
    train: Train = Train()
    evaluate: Evaluate = Evaluate()
    generate: Generate = Generate()
    report: Report = Report()

    @property
    def block_size(self) -> int:
        """Tokens per sequence: as given, or the default, as far as the positions that are given for a new model."""
        default = BLOCK_SIZE[self.task or self.objective]
        return self.train.block_size or min(default, self.model.n_positions or default)

    def with_block_size(self, *limits: int | None) -> "Recipe":
        """With `train.block_size` as a number: as given, or the default, as far as the limits that are no None."""
        size = self.train.block_size or min([self.block_size, *(limit for limit in limits if limit is not None)])
        return self.with_updates(train=self.train.with_updates(block_size=size))

    @model_validator(mode="before")
    @classmethod
    def _fill_in_what_follows(cls, values: Any) -> Any:
        values = {name: value for name, value in values.items() if value is not None}  # an empty section: its defaults
        if values.get("task") is not None:
            for name, defaults in FINE_TUNING.items():
                section = values.get(name, {})
                if isinstance(section, dict):
                    classic = SGD if name == "optim" and section.get("name") == "sgd" else {}
                    values |= {name: defaults | classic | section}
        model, objective = values.get("model", {}), values.get("objective")
        if isinstance(model, dict) and "family" not in model and isinstance(objective, str) and objective in FAMILIES:
            return values | {"model": model | {"family": FAMILIES[objective][0]}}
        family = model.get("family") if isinstance(model, dict) else getattr(model, "family", None)
        mlm = values.get("mlm", {})
        if objective == "mlm" and family in WITHOUT_PAIRS:  # nsp is false, unless the recipe says something else
            if isinstance(mlm, dict):
                return values | {"mlm": {"nsp": False} | mlm}
            if isinstance(mlm, Mlm) and "nsp" not in mlm.model_fields_set:
                return values | {"mlm": mlm.with_updates(nsp=False)}
        return values

    @model_validator(mode="after")
    def _objective_trains_the_family(self) -> "Recipe":
        if self.task is None and self.model.family not in FAMILIES[self.objective]:
            fitting = " or ".join(FAMILIES[self.objective])
            raise ValueError(f"objective {self.objective} trains {fitting}, not model.family {self.model.family}")
        if self.objective == "mlm" and self.model.family in WITHOUT_PAIRS and self.mlm.nsp is not False:
            nsp = str(self.mlm.nsp).lower()
            raise ValueError(f"mlm.nsp {nsp} needs a head for pairs, which {self.model.family} lacks: set it to false")
        if not self.train.carry_state and self.model.family not in ("gru", "lstm"):
            raise ValueError(f"train.carry_state is for gru and lstm, not for {self.model.family}")
        if self.task is None and self.optim.learning_rate is None:
            raise ValueError("optim.learning_rate must be a number: only fine-tuning has one by the model's width")
        if self.objective == "mlm" and self.evaluate.stride is not None:
            raise ValueError("evaluate.stride is for objective clm: masked tokens have all of their block as context")
        return self
