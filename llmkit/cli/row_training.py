"""Run a command that trains on labelled rows, for any task: check its arguments, then train one model or a series.

The commands `finetune` and `finetune-TASK` collect their options in `RowTraining` and call `run`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from llmkit.cli import options


@dataclass(frozen=True, kw_only=True)
class RowTraining:
    """The arguments of a training command."""

    out: Path
    recipe: Path | None
    model: str | None
    data: str | None
    validation: str | None
    test: str | None
    columns: Mapping[str, str | None] = field(default_factory=dict)
    """Keys of the task's section that separate options set, such as the names of columns."""
    overrides: Sequence[str | tuple[str, str]] = ()
    folds: int | None = None
    seeds: int = 1
    learning_curve: str | None = None
    show_samples: bool = False
    resume: options.ResumeMode | None = None
    allow: Sequence[str] = ()
    overwrite: bool = False
    dry_run: bool = False
    json: bool = False
    distributed: options.DistributedOptions = field(default_factory=options.DistributedOptions)

    def run(self, task: str | None) -> None:
        """Train and show the result; `task` is the task that the command's name ends with.

        Raises:
            UsageError, DataError, EnvironmentFault, TrainingFailed, ModelError: see errors.py.
        """
        from llmkit.cli.output import show_dry_run, show_json, show_run, show_series
        from llmkit.config.loading import load_recipe, require_named_code
        from llmkit.training.folder import Series, read_series, read_sizes
        from llmkit.training.inputs import choose_inputs, is_resumed_alone

        model, out, how = self.model, self.out, options.resume_of(self.resume)
        named = {"train": self.data, "validation": self.validation, "test": self.test}
        files = {name: path for name, path in named.items() if path is not None}
        is_alone = is_resumed_alone(out, how, self.recipe)
        is_own = self.resume is not None and self.recipe is None
        recipe = options.own_recipe(out, self.recipe) if self.resume else self.recipe
        config = load_recipe(recipe, self.overrides, task=task, columns=self.columns)
        if is_own and recipe is not None:
            require_named_code(config, recipe, self.overrides)
        options.check_command(config, recipe, "finetune", task)
        if not is_alone:
            model, files = choose_inputs(config, recipe, model, files)
        series = Series(self.folds, self.seeds, read_sizes(self.learning_curve))
        if series.has_several_runs:
            what = "several folds, seeds or sizes run one after the other, in one process"
            self.distributed.refuse(what, "--folds, --seeds, --learning-curve")
        if model is not None:
            options.check_model(model)
        if options.check_run_options(
            out, self.resume, overwrite=self.overwrite, dry_run=self.dry_run, inputs=[*files.values(), model],
            nnodes=self.distributed.nnodes,
        ):  # fmt: skip
            from llmkit.tasks.table import TASKS

            TASKS[config.task].check_request(config, model, files)
        if self.resume and not series.has_several_runs:
            series = read_series(out)
        if series.has_several_runs and not self.dry_run:
            from llmkit.runs.repeat import finetune_repeatedly

            summary = finetune_repeatedly(
                config, series, files=files, out=out, model=model, resume=how, overwrite=self.overwrite,
                show_samples=self.show_samples,
            )  # fmt: skip
            if self.json:
                show_json(summary)
            else:
                show_series(summary, config.task, out)
            return
        if not self.dry_run:
            self.distributed.launch()
        from llmkit.runs.train import finetune  # torch loads here, so --help stays instant

        result = finetune(
            config, files=files, out=out, model=model, resume=how, overwrite=self.overwrite, dry_run=self.dry_run,
            allow=self.allow, started=options.COMMAND_STARTED, show_samples=self.show_samples,
            fold=(0, series.folds) if series.folds else None,
        )  # fmt: skip
        if self.json:
            show_json(result)
        elif self.dry_run:
            show_dry_run(result, "row")
        else:
            show_run(result, out, splits=("test", "validation"))
