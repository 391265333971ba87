"""`llmkit doctor` shows its findings, and its exit code says whether something is missing."""

import pytest
from cli.test_app import run

from llmkit.doctor import doctor
from llmkit.doctor.finding import Finding, fault, ok


@pytest.mark.parametrize(
    ("findings", "code"), [([ok("a", "good")], 0), ([ok("a", "good"), fault("b", "none", "install")], 4)]
)
def test_a_fault_is_exit_code_4_and_its_advice_is_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], findings: list[Finding], code: int
) -> None:
    monkeypatch.setattr(doctor, "examine", lambda *_, **__: iter(findings))
    found, out, _ = run(monkeypatch, capsys, "doctor")
    assert found == code
    assert out.splitlines()[0].split() == ["ok", "a", "good"]
    assert ("-> install" in out) == (code == 4)
