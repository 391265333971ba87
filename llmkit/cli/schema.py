"""`llmkit schema`."""


def schema_command() -> None:
    """Print the JSON Schema of recipes, for editors and validators.

    In an editor that knows YAML schemas, a recipe's first line `# yaml-language-server: $schema=recipe.schema.json`
    makes it complete keys and mark misspelt ones.
    """
    from llmkit.cli.output import show_json
    from llmkit.config.schema import make_schema

    show_json(make_schema())
