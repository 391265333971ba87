"""`llmkit report`."""

from pathlib import Path
from typing import Annotated

import typer

from llmkit.cli import options


def report_command(
    run: options.Run,
    recipe: options.RecipeOption = None,
    set_: options.Set = None,
    tables: Annotated[
        Path | None, typer.Option(help="Folder for all tables as .csv and .tex and all figures as .svg and .png.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace existing files in --tables.")] = False,
    json: options.Json = False,
) -> None:
    """Write the run's report.html again; --tables also writes its tables and figures to files.

    Damaged run files are an error. Unfinished and killed runs get a report too.
    """
    from llmkit.cli.output import echo, show_json
    from llmkit.config.loading import load_recipe
    from llmkit.reporting.export import export_report
    from llmkit.reporting.report import write_report
    from llmkit.training.folder import RunFolder
    from llmkit.training.run_state import check_recipe

    title = load_recipe(recipe, set_ or []).report.title
    folder = RunFolder(run)
    if folder.recipe.is_file():  # the folder of a series of runs has none
        check_recipe(folder.recipe)
    folder.check_files()
    path = str(write_report(folder.path, title=title))
    written = [] if tables is None else [str(each) for each in export_report(run, tables, overwrite=overwrite)]
    if json:
        show_json({"report": path} | ({} if tables is None else {"tables": written}))
        return
    echo(path)
    if tables is not None:
        echo(f"{tables}: {len(written)} files")
