"""`llmkit doctor`."""

from pathlib import Path
from typing import Annotated

import typer

from llmkit.cli.options import JsonOption


def doctor_command(
    out: Annotated[Path, typer.Option(help="Where runs will be written: its disk is looked at.")] = Path(),
    offline: Annotated[bool, typer.Option("--offline", help="Do not ask the hub; also with HF_HUB_OFFLINE=1.")] = False,
    json: JsonOption = False,
) -> None:
    """This machine: what is slow, missing or wrong, and what to do.

    Versions, accelerator, precision, threads, memory, disk, hub, and products timed. Exit code 4 when something would
    keep llmkit from working.
    """
    from llmkit.cli.output import echo, show_json
    from llmkit.core.console import clean_line
    from llmkit.doctor.doctor import examine, refuse_faults, summarise

    findings = []
    for finding in examine(out, offline=offline):
        findings.append(finding)
        if not json:
            echo(f"{finding.status:<6} {finding.name:<18} {clean_line(finding.value)}")
            if finding.advice:
                echo(f"{'':<25} -> {clean_line(finding.advice)}")
    if json:
        show_json(summarise(findings))
    refuse_faults(findings)
