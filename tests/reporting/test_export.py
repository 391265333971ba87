"""Each table and figure of a report becomes a file with a predictable name; existing files are kept."""

import csv
import importlib.util
import io
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
from reporting.test_report import HOSTILE, make_log, make_run
from tasks.cls.test_report import make_scores

from llmkit.core.errors import ModelError, UsageError
from llmkit.reporting import export
from llmkit.reporting.export import export_report


def make_classifier(folder: Path, names: list[str]) -> Path:
    manifest = {"task": "cls", "label_type": "single_label", "machine": {"cpu": "a_b"}}
    return make_run(folder, make_log(), metrics={"test": make_scores(len(names), names=names)}, manifest=manifest)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return make_classifier(tmp_path / "run", ["垃圾", HOSTILE, "100%_&"])


def test_tables_and_figures_are_files_named_after_their_titles(run: Path, tmp_path: Path) -> None:
    written = export_report(run, tmp_path / "out", overwrite=False)
    assert sorted(written) == sorted((tmp_path / "out").iterdir())
    names = {path.name for path in written}
    assert {"scores-per-label.csv", "scores-per-label.tex", "confusion-matrix.csv", "all-metrics.tex"} <= names
    assert {"roc-curve.svg", "precision-recall-curve.svg", "calibration.svg", "loss.svg"} <= names
    rows = list(csv.reader(io.StringIO((tmp_path / "out/scores-per-label.csv").read_text(encoding="utf-8"))))
    assert [row[0] for row in rows] == ["label", "垃圾", HOSTILE, "100%_&"]
    assert r"100\%\_\& &" in (tmp_path / "out/scores-per-label.tex").read_text()
    assert export_report(run, tmp_path / "again", overwrite=False) == [tmp_path / "again" / n for n in sorted(names)]


def test_figures_are_whole_svg_files_without_variables_and_code(run: Path, tmp_path: Path) -> None:
    export_report(run, tmp_path / "out", overwrite=False)
    for path in (tmp_path / "out").glob("*.svg"):
        text = path.read_text(encoding="utf-8")
        root = ElementTree.fromstring(text)
        assert root.tag == "{http://www.w3.org/2000/svg}svg" and "var(" not in text
        assert not list(root.iter("{http://www.w3.org/2000/svg}script"))
    assert "垃圾 AUC 0." in (tmp_path / "out/roc-curve.svg").read_text(encoding="utf-8")


@pytest.mark.skipif(importlib.util.find_spec("resvg_py") is None, reason="the extra figures is not installed")
def test_each_svg_has_a_png(run: Path, tmp_path: Path) -> None:
    export_report(run, tmp_path / "out", overwrite=False)
    pictures = {path.stem: path.read_bytes()[:8] for path in (tmp_path / "out").glob("*.png")}
    assert set(pictures) == {path.stem for path in (tmp_path / "out").glob("*.svg")}
    assert set(pictures.values()) == {b"\x89PNG\r\n\x1a\n"}


def test_without_the_extra_there_are_svg_files_and_a_hint(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(export.importlib.util, "find_spec", lambda name: None)
    names = {path.suffix for path in export_report(run, tmp_path / "out", overwrite=False)}
    assert names == {".csv", ".tex", ".svg"} and "pip install 'llmkit[figures]'" in capfd.readouterr().err


def test_files_are_replaced_only_with_overwrite_and_others_stay(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "loss.svg").write_text("mine")
    (out / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match=r"already has the files loss\.svg"):
        export_report(run, out, overwrite=False)
    assert sorted(path.name for path in out.iterdir()) == ["loss.svg", "notes.txt"]
    export_report(run, out, overwrite=True)
    assert (out / "loss.svg").read_text() != "mine" and (out / "notes.txt").read_text() == "mine"
    with pytest.raises(UsageError, match="is a file"):
        export_report(run, out / "notes.txt", overwrite=True)
    with pytest.raises(ModelError, match="not a run folder"):
        export_report(out, tmp_path / "other", overwrite=False)


def test_equal_titles_are_numbered_and_odd_ones_become_words(tmp_path: Path) -> None:
    taken: set[str] = set()
    for title in ("Scores per label: 77 labels", "Scores per label", "../../etc/passwd", "CON: x", "测试.csv", "/"):
        taken.add(export._choose_name(title, taken))
    assert taken == {"scores-per-label", "scores-per-label-2", "etc-passwd", "con", "测试.csv", "table"}
