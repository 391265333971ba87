"""`llmkit schema`."""


def schema_command() -> None:
    """Print the JSON Schema of recipes, for editors and validators.

    With `# yaml-language-server: $schema=recipe.schema.json` as the first line of a recipe, an editor that knows YAML
    schemas completes keys and marks misspelt ones.
    """
    from llmkit.cli.output import show_json
    from llmkit.config.schema import make_schema

    show_json(make_schema())
