"""A recipe: one YAML file from raw text to a model. Each command reads its own sections."""

from typing import Literal

from pydantic import Field

from llmkit.config.evaluate import Evaluate, Report
from llmkit.config.generate import Generate
from llmkit.config.model import Model
from llmkit.config.optim import Optim
from llmkit.config.prepare import Prepare
from llmkit.config.section import Section
from llmkit.config.train import Train


class Recipe(Section):
    """Every section has good defaults, so an empty recipe trains a tiny GPT-2."""

    objective: Literal["clm"] = Field(default="clm", description="What `llmkit pretrain` trains: clm, next tokens.")
    prepare: Prepare = Prepare()
    model: Model = Model()
    optim: Optim = Optim()
    train: Train = Train()
    evaluate: Evaluate = Evaluate()
    generate: Generate = Generate()
    report: Report = Report()
