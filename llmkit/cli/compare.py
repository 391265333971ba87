"""`llmkit compare`."""

from pathlib import Path
from typing import Annotated

import typer

from llmkit.cli.options import JsonOption


def compare_command(
    runs: Annotated[list[Path], typer.Argument(help="Two or more run folders of causal language models.")],
    by: Annotated[
        str,
        typer.Option(help="Rank by bits_per_byte, word_perplexity, perplexity, loss or tokens_per_second."),
    ] = "bits_per_byte",
    out: Annotated[Path, typer.Option(help="The folder for compare.html and compare.json.")] = Path("compare"),
    json: JsonOption = False,
) -> None:
    """Compare finished runs on the same held-out text: one table, and one plot in compare.html."""
    from llmkit.cli.compare_output import describe_comparison
    from llmkit.cli.output import echo, show_json
    from llmkit.reporting.compare import compare

    result = compare(runs, by=by, out=out)
    if json:
        show_json(result)
        return
    for line in describe_comparison(result):
        echo(line)
