"""`llmkit doctor`."""

from pathlib import Path

from llmkit.cli import options


def doctor_command(
    out: options.DoctorOut = Path(),
    offline: options.Offline = False,
    json: options.Json = False,
) -> None:
    """Check this machine and advise how to fix problems.

    Checks Python, libraries, GPUs, precision, threads, memory, disk, the hub and the speed of the CPU. The exit code is
    4 if llmkit cannot work.
    """
    from llmkit.cli.output import echo, show_json
    from llmkit.core.console import clean_line
    from llmkit.doctor.doctor import examine, raise_faults, summarize

    findings = []
    for finding in examine(out, offline=offline):
        findings.append(finding)
        if not json:
            echo(f"{finding.status:<6} {finding.name:<18} {clean_line(finding.value)}")
            if finding.advice:
                echo(f"{'':<25} -> {clean_line(finding.advice)}")
    if json:
        show_json(summarize(findings))
    raise_faults(findings)
