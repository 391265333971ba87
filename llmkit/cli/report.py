"""`llmkit report`."""

from llmkit.cli.options import (
    JsonOption,
    RecipeOption,
    RunArgument,
    SetOption,
)


def report_command(
    run: RunArgument,
    recipe: RecipeOption = None,
    set_: SetOption = None,
    json: JsonOption = False,
) -> None:
    """Write the run's report.html again."""
    from llmkit.cli.output import echo, show_json
    from llmkit.config.loading import load_recipe
    from llmkit.reporting.rewrite import report

    result = report(load_recipe(recipe, set_ or []).report, run=run)
    show_json(result) if json else echo(result["report"])
