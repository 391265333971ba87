"""`llmkit prepare`."""

from llmkit.cli.options import (
    DryRunOption,
    EncodingOption,
    ExecutorOption,
    InputsArgument,
    JsonOption,
    OverwriteOption,
    PreparedOutOption,
    RecipeOption,
    RepairOption,
    SetOption,
    SkipBadFilesOption,
    StrictOption,
    TestTextOption,
    ValidationTextOption,
)


def prepare_command(
    inputs: InputsArgument,
    out: PreparedOutOption,
    recipe: RecipeOption = None,
    validation: ValidationTextOption = None,
    test: TestTextOption = None,
    encoding: EncodingOption = None,
    skip_bad: SkipBadFilesOption = False,
    strict: StrictOption = False,
    set_: SetOption = None,
    overwrite: OverwriteOption = False,
    repair: RepairOption = False,
    engine: ExecutorOption = "local",
    dry_run: DryRunOption = False,
    json: JsonOption = False,
) -> None:
    """Prepare text for training.

    Reads, cleans, de-duplicates, splits and tokenizes text, and prints a receipt. After an interruption, the same
    command continues where it stopped.
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
        from llmkit.text.inputs import find_files

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
