"""Write a run's report.html again."""

from pathlib import Path

from llmkit.config.evaluate import Report
from llmkit.evaluation.report import write_report
from llmkit.runs.folder import open_run


def report(settings: Report, *, run: Path) -> dict[str, str]:
    """The path of the page.

    Raises:
        ModelError: not a run folder.
    """
    return {"report": str(write_report(open_run(run).path, title=settings.title))}
