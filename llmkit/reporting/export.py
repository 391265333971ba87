"""Write the tables of a report as CSV and LaTeX, and its figures as SVG and PNG, into a folder.

Files are named after the title of the table or figure, up to its first colon: `scores-per-label.csv`,
`roc-curve.svg`. Files with the same name are numbered. Does not import torch.
"""

import importlib.util
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from llmkit.core import console
from llmkit.core.errors import EnvironmentFault, UsageError
from llmkit.core.files import write_text
from llmkit.core.output_paths import check_writable
from llmkit.pages.blocks import Block, Chart, Charts, Confusion, Facts, Fold, Headlines, Section, Table
from llmkit.pages.page import render_figure
from llmkit.pages.tables import to_csv, to_latex
from llmkit.reporting.report import make_sections
from llmkit.training.run_record import read_run

PNG_ZOOM = 2
"""Pixels of a PNG per pixel of the SVG, which is 800 wide."""


def export_report(run: Path, out: Path, *, overwrite: bool) -> list[Path]:
    """Write all tables and figures of the run's report to `out`; return the paths.

    PNG files need the extra `figures`. Without it, only SVG files are written, and a message says so.

    Raises:
        ModelError: `run` is not a run folder.
        UsageError: a file exists and `overwrite` is false, or `out` is a file.
        EnvironmentFault: a file cannot be written.
    """
    if out.is_file():
        raise UsageError(f"{str(out)!r} is a file", where="--tables", hint="give the name of a folder")
    texts: dict[str, str] = {}
    charts: dict[str, str] = {}
    for title, content in _list_contents("", make_sections(run, read_run(run))):
        name = _choose_name(title, {Path(known).stem for known in [*texts, *charts]})
        if isinstance(content, Table):
            texts |= {f"{name}.csv": to_csv(content), f"{name}.tex": to_latex(content)}
        else:
            charts[f"{name}.svg"] = render_figure(content)
    has_png = importlib.util.find_spec("resvg_py") is not None
    pictures = {name.replace(".svg", ".png"): text for name, text in charts.items()} if has_png else {}
    names = sorted([*texts, *charts, *pictures])
    taken = [name for name in names if (out / name).exists() or (out / name).is_symlink()]
    if taken and not overwrite:
        what = f"{str(out)!r} already has the files {console.list_some(taken)}"
        raise UsageError(what, where="--tables", hint="give another folder, or --overwrite to replace these files")
    check_writable(out)
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name, text in {**texts, **charts}.items():
            write_text(out / name, text)
        for name, text in pictures.items():
            _write_png(out / name, text)
    except OSError as error:
        hint = "check permissions and free space there"
        raise EnvironmentFault(f"a file cannot be written: {error.strerror}", where=str(out), hint=hint) from error
    if charts and not has_png:
        console.info("figures are written only as .svg; to write .png too: pip install 'llmkit[figures]'")
    return [out / name for name in names]


def _list_contents(title: str, blocks: Sequence[Block | Section]) -> Iterator[tuple[str, Table | Chart]]:
    """Yield tables and charts with their titles; `title` is the title of the enclosing section or fold."""
    for block in blocks:
        if isinstance(block, Section | Fold):
            yield from _list_contents(block.title, block.blocks)
        elif isinstance(block, Charts):
            yield from ((getattr(chart, "title", "Calibration"), chart) for chart in block.charts)
        elif isinstance(block, Confusion):
            yield block.title, block.table
        elif isinstance(block, Table):
            yield block.title or title, block
        elif isinstance(block, Facts):
            yield block.title or title, Table(["name", "value"], block.facts)
        elif isinstance(block, Headlines):
            yield title, Table(["metric", "value", "note"], block.figures)


def _choose_name(title: str, taken: set[str]) -> str:
    """Join the words of the title, up to its first colon, with hyphens; append a number if the name is taken."""
    words = re.findall(r"\w[\w.+]*", title.split(": ")[0].casefold())
    name = "-".join(words).strip(".")[:80] or "table"
    number = 2
    chosen = name
    while chosen in taken:
        chosen, number = f"{name}-{number}", number + 1
    return chosen


def _write_png(path: Path, svg: str) -> None:
    import resvg_py

    picture = resvg_py.svg_to_bytes(svg_string=svg, zoom=PNG_ZOOM, background="#ffffff")
    partial = path.with_name(f".{path.name}.partial")
    partial.write_bytes(bytes(picture))
    partial.replace(path)
