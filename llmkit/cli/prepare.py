"""`llmkit prepare`."""

from llmkit.cli import options


def prepare_command(
    inputs: options.Inputs,
    out: options.PreparedOut,
    recipe: options.RecipeOption = None,
    validation: options.ValidationText = None,
    test: options.TestText = None,
    encoding: options.Encoding = None,
    delimiter: options.Delimiter = None,
    sheet: options.Sheet = None,
    header: options.HasHeader = None,
    skip_bad: options.SkipBadFiles = False,
    strict: options.Strict = False,
    set_: options.Set = None,
    overwrite: options.Overwrite = False,
    repair: options.Repair = False,
    engine: options.Executor = "local",
    dry_run: options.DryRun = False,
    json: options.Json = False,
) -> None:
    """Prepare text for training.

    Reads, cleans, de-duplicates, splits and tokenizes text, and prints a receipt. After an interruption, the same
    command continues where it stopped.
    """
    from llmkit.cli.output import echo, show_json, show_receipt
    from llmkit.config.loading import dump_recipe, load_recipe

    overrides = options.overrides_of(
        set_, encoding=("prepare.read.encoding", encoding), skip_bad=("prepare.read.skip_bad", skip_bad),
        strict=("prepare.read.strict", strict), delimiter=("prepare.read.delimiter", delimiter),
        sheet=("prepare.read.sheet", sheet),
        header=("prepare.read.header", options.word_of(header)),
    )  # fmt: skip
    config = load_recipe(recipe, overrides)
    if dry_run:
        from llmkit.core.output_paths import check_writable
        from llmkit.preparing.executors import check_executor
        from llmkit.preparing.existing import check_out
        from llmkit.text.inputs import display_name, find_files

        check_executor(engine, inputs)
        out = check_out(out, [*inputs, *filter(None, (validation, test))], config.prepare.tokenizer.path)
        check_writable(out, dry_run=True)
        files = [display_name(name) for name in find_files([*inputs, *filter(None, (validation, test))])]
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
