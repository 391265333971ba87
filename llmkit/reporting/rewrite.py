"""Write a run's report.html again."""

from pathlib import Path

from llmkit.config.evaluate import Report
from llmkit.reporting.report import write_report
from llmkit.training.folder import open_run


def report(settings: Report, *, run: Path) -> dict[str, str]:
    """The path of the page.

    Raises:
        ModelError: not a run folder.
    """
    return {"report": str(write_report(open_run(run).path, title=settings.title))}
