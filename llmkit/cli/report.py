"""`llmkit report`."""

from llmkit.cli import options


def report_command(
    run: options.Run,
    recipe: options.RecipeOption = None,
    set_: options.Set = None,
    json: options.Json = False,
) -> None:
    """Write the run's report.html again."""
    from llmkit.cli.output import echo, show_json
    from llmkit.config.loading import load_recipe
    from llmkit.reporting.learning_curve import write_learning_curve
    from llmkit.reporting.report import write_report
    from llmkit.training.folder import open_run, read_series

    title = load_recipe(recipe, set_ or []).report.title
    write = write_learning_curve if read_series(open_run(run).path).sizes else write_report
    path = str(write(run, title=title))
    show_json({"report": path}) if json else echo(path)
