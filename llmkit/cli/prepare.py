"""`llmkit prepare`."""

from pathlib import Path
from typing import Annotated

import typer

from llmkit.cli.options import DryRunOption, JsonOption, OverwriteOption, RecipeOption, SetOption


def prepare_command(
    inputs: Annotated[
        list[str], typer.Argument(metavar="INPUT...", help="Files, folders, globs, - (stdin), hf:NAME, builtin:NAME.")
    ],
    out: Annotated[Path, typer.Option("--out", help="The prepared folder to write.")],
    recipe: RecipeOption = None,
    validation: Annotated[str | None, typer.Option(help="Your own validation text; nothing is held out then.")] = None,
    test: Annotated[str | None, typer.Option(help="Your own test text.")] = None,
    encoding: Annotated[str | None, typer.Option(help="Read every file as this, such as gb18030.")] = None,
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Skip and count what cannot be read.")] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Control characters are an error.")] = False,
    set_: SetOption = None,
    overwrite: OverwriteOption = False,
    repair: Annotated[
        bool, typer.Option("--repair", help="Check every file of --out and make anew what is damaged or missing.")
    ] = False,
    engine: Annotated[
        str, typer.Option(help="Where the work is done: local, ray (at RAY_ADDRESS, or on all cores), slurm.")
    ] = "local",
    dry_run: DryRunOption = False,
    json: JsonOption = False,
) -> None:
    """Turn text into a folder to train on.

    Reads, cleans, de-duplicates, splits and tokenizes it, and shows a receipt. Stopped or killed, the same command goes
    on from what is finished.
    """
    from llmkit.cli.output import echo, show_json, show_receipt
    from llmkit.config.loading import dump_recipe, load_recipe

    overrides = [*(set_ or [])]
    overrides += [f"prepare.read.encoding={encoding}"] if encoding else []
    overrides += ["prepare.read.skip_bad=true"] if skip_bad else []
    overrides += ["prepare.read.strict=true"] if strict else []
    config = load_recipe(recipe, overrides)
    if dry_run:
        from llmkit.core.files import check_writable
        from llmkit.preparing.executors import check_executor
        from llmkit.text.sources import find_files

        check_executor(engine, inputs)
        check_writable(out, dry_run=True)
        files = find_files([*inputs, *filter(None, (validation, test))])
        if json:
            show_json({"recipe": config.model_dump(mode="json"), "inputs": files})
        else:
            echo("\n".join([dump_recipe(config), *files]))
        return
    from llmkit.preparing.prepare import prepare  # transformers loads here, so --help stays instant

    prepared = prepare(
        inputs, out, config.prepare, validation=validation, test=test, overwrite=overwrite, repair=repair, engine=engine
    )
    (show_json if json else show_receipt)(prepared.manifest)
