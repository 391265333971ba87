"""The report is one self-contained file, correct for finished, unfinished and damaged runs."""

import json
import math
import re
import subprocess
import sys
from base64 import b64encode
from hashlib import sha256
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from llmkit.core.errors import EnvironmentFault, ModelError
from llmkit.pages import page as pages
from llmkit.reporting.report import write_report

HOSTILE = "</pre></script></title>\"'><script>alert(1)</script><img src=x onerror=alert(2)>"

SCRIPT = (pages._TEMPLATES / "script.js").read_text()

METRICS = {
    "train": {"loss": 1.1111, "bits_per_byte": 1.6029, "n_tokens": 1_003_854, "n_bytes": 1_003_854},
    "validation": {"loss": 1.6291, "perplexity": 5.0993, "bits_per_byte": 2.3503, "accuracy": 0.5213},
    "test": {"loss": 1.7, "perplexity": 5.4739, "bits_per_byte": 2.4526, "accuracy": 0.5075}
    | {"n_tokens": 111_540, "n_bytes": 123_456}
    | {"method": {"windows": "sliding", "block_size": 256, "stride": 64, "split": "test"}},
    "training": {"seconds": 185.2, "steps": 2000},
}
MANIFEST = {
    "command": ["llmkit", "pretrain-clm", "--data", "my books"],
    "machine": {"cpu": "Xeon", "cores": 2, "accelerator": None},
    "versions": {"torch": "2.13.0"},
    "model": {"family": "gpt2", "n_parameters": 809_984},
    "precision": "bf16",
    "data": {
        "sources": [{"path": "books/三国演义.txt", "encoding": "gb18030", "documents": 120, "characters": 606_000}],
        "steps": {"quality": {"documents_in": 1201, "documents_out": 116, "dropped": {"too short": 3, "digits": 1}}},
        "splits": {
            "train": {"documents": 104, "characters": 500_000, "bytes": 1_500_000, "tokens": 500_000},
            "validation": {"documents": 12, "characters": 50_000, "bytes": 150_000, "tokens": 50_000},
        },
        "split_by": "document",
        "overlap": {"validation": {"share": 0.0125, "n_windows": 800, "n_found": 10, "window_bytes": 50}},
        "samples": ["却说曹操引兵追至"],
        "tokenizer": {"kind": "char", "vocab_size": 4190},
        "bytes_per_token": 3.0,
    },
}


class Page(HTMLParser):
    """What a browser would see: elements with their attributes, scripts, styles, and the visible text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.html = html
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.contents: dict[str, list[str]] = {}
        self._open = ["html"]
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self.contents.setdefault(tag, []).append("")
        if tag != "meta":
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag, f"</{tag}> closes another element"

    def handle_data(self, data: str) -> None:
        self.contents.setdefault(self._open[-1], [""])[-1] += data

    @property
    def text(self) -> str:
        return " ".join(text for name, texts in self.contents.items() if name != "script" for text in texts)

    def get_curves(self, title: str) -> list[dict[str, list[float]]]:
        for name, attributes in self.elements:
            if name == "svg" and (attributes["aria-label"] or "").startswith(title):
                return json.loads(attributes["data-curves"] or "")
        raise AssertionError(f"no chart {title!r}")


def make_run(run: Path, log: list[Any], **files: Any) -> Path:
    """A run folder with these log records and, by name, metrics, manifest and recipe."""
    run.mkdir(parents=True)
    (run / "log.jsonl").write_text("".join(json.dumps(record) + "\n" for record in log), encoding="utf-8")
    for name, content in files.items():
        file, text = ("recipe.yaml", content) if name == "recipe" else (f"{name}.json", json.dumps(content))
        (run / file).write_text(text, encoding="utf-8")
    return run


def read_report(run: Path) -> Page:
    return Page(write_report(run).read_text(encoding="utf-8"))


def make_log(n_steps: int = 60) -> list[dict[str, Any]]:
    train = [
        {"kind": "train", "step": step, "loss": 4.0 - step / 100, "learning_rate": 1e-3, "grad_norm": 1.0}
        | {"tokens_per_second": 28_000.0, "mfu": 0.3}
        for step in range(1, n_steps + 1)
    ]
    evals = [{"kind": "eval", "step": n_steps, "split": "validation", "loss": 3.5, "bits_per_byte": 5.05}]
    return [*train, *evals, {"kind": "sample", "step": n_steps, "prompt": "ROMEO:", "text": "ROMEO: 却说曹操"}]


def test_everything_a_run_left_is_on_the_page(tmp_path: Path) -> None:
    page = read_report(make_run(tmp_path / "r", make_log(), metrics=METRICS, manifest=MANIFEST, recipe="a: 1 # mine"))
    for expected in (
        *(
            "2.4526",
            "5.47",
            "50.75%",
            "111,540 tokens and 123,456 bytes",
            "; sliding, block size 256, stride 64.",
        ),  # result
        *("ROMEO:", "却说曹操", "a: 1 # mine", "'my books'"),  # sample, recipe, command
        *(
            "books/三国演义.txt",
            "gb18030",
            "too short 3, digits 1",
            "1,201",
            "1,650,000",
            "3.000",
            "4,190",
            "by document",
        ),  # data
        *("1.25% of the validation split", "曹操引兵追至"),
        *("Xeon", "2.13.0", "809,984 parameters", "3 min 5 s"),  # machine
    ):
        assert expected in page.text
    for title in ("Loss", "Held-out bits per byte", "Learning rate", "Gradient norm", "Tokens per second", "MFU"):
        assert page.get_curves(title)
    assert len(page.get_curves("Loss")) == 3  # as logged, smoothed, held out
    assert "This report is incomplete" not in page.text


def test_markup_in_data_recipe_and_names_never_becomes_markup(tmp_path: Path) -> None:
    log = [
        *make_log(),
        {"kind": "eval", "step": 10, "split": HOSTILE, "loss": 3.5, "bits_per_byte": 5.0},
        {"kind": "sample", "step": 90, "prompt": HOSTILE, "text": HOSTILE * 2},
        {"kind": "note", "step": 3, "text": HOSTILE},
    ]
    hostile = {HOSTILE: HOSTILE}
    data = {
        "sources": [{"path": HOSTILE, "encoding": HOSTILE, "sha256": HOSTILE, "documents": HOSTILE}],
        "steps": {HOSTILE: {"documents_in": 3, "dropped": {HOSTILE: 1}}},
        "splits": {HOSTILE: {"documents": 1}},
        "tokenizer": {"kind": HOSTILE, "fingerprint": HOSTILE},
    }
    manifest = {
        "machine": hostile,
        "versions": hostile,
        "model": {"family": HOSTILE},
        "command": [HOSTILE],
        "data": data,
    }
    metrics = {HOSTILE: {"loss": 1.0, HOSTILE: HOSTILE, "method": HOSTILE}, "training": hostile}
    run = tmp_path / HOSTILE.replace("/", "|")
    page = read_report(make_run(run, log, metrics=metrics, manifest=manifest, recipe=HOSTILE))
    assert "img" not in page.contents
    assert page.contents["script"] == [SCRIPT]
    assert not [key for _, attributes in page.elements for key in attributes if key.startswith("on")]
    # One for each place that shows text: escaped, not dropped.
    assert page.text.count("<script>alert(1)</script>") >= 20


def test_control_characters_and_lone_surrogates_are_removed(tmp_path: Path) -> None:
    log = [{"kind": "sample", "step": 1, "prompt": "", "text": "a\x00b\x1b[31mc\u202ed\ud800e\x9ff\nnext\tline"}]
    text = write_report(make_run(tmp_path / "r", log)).read_text(encoding="utf-8")
    assert "ab[31mcdef\nnext\tline" in text
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]", text)


def test_page_refers_to_nothing_outside_itself(tmp_path: Path) -> None:
    page = read_report(make_run(tmp_path / "r", make_log(), metrics=METRICS, manifest=MANIFEST, recipe="a: 1"))
    assert not [key for _, attributes in page.elements for key in attributes if key in ("src", "href", "action")]
    assert not re.search(r"https?:|@import|url\(", page.html)


def test_security_policy_allows_the_pages_own_script_and_style_and_no_other(tmp_path: Path) -> None:
    page = read_report(make_run(tmp_path / "r", make_log()))
    policy = next(a["content"] or "" for name, a in page.elements if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none';")
    for name in ("script", "style"):
        digest = b64encode(sha256(page.contents[name][0].encode()).digest()).decode()
        assert re.search(rf"{name}-src '([^']*)';", policy)[1] == f"sha256-{digest}"  # type: ignore[index]


def test_torn_last_line_is_left_out_and_reported(tmp_path: Path) -> None:
    run = make_run(tmp_path / "r", make_log(30))
    with (run / "log.jsonl").open("ab") as log:
        log.write('{"kind": "train", "step": 31, "text": "曹'.encode()[:-1])
    page = read_report(run)
    assert page.get_curves("Loss")[0]["steps"][-1] == 30
    assert "line 33 of 33 cannot be read (the last one, cut off when the process was killed)" in page.text


@pytest.mark.parametrize(
    "line", ["[1]", "null", '{"kind": "train"}', '{"kind": "train", "step": Infinity}', "[" * 9999]
)
def test_damaged_line_in_the_middle_of_the_log_loses_only_that_line(tmp_path: Path, line: str) -> None:
    run = make_run(tmp_path / "r", [])
    before, after = (json.dumps({"kind": "train", "step": step, "loss": 2.0}) for step in (1, 2))
    (run / "log.jsonl").write_text(f"{before}\n{line}\n{after}\n", encoding="utf-8")
    page = read_report(run)
    assert page.get_curves("Loss")[0]["steps"] == [1, 2]
    assert "line 2 of 3 cannot be read" in page.text


def test_line_separators_inside_a_sample_do_not_cut_its_log_line(tmp_path: Path) -> None:
    run = make_run(tmp_path / "r", [])
    record = {"kind": "sample", "step": 1, "text": "one\u2028two\x85three"}
    (run / "log.jsonl").write_text(json.dumps(record, ensure_ascii=False), encoding="utf-8")
    assert "one\u2028twothree" in read_report(run).text


def test_unfinished_run_gives_a_page_that_says_what_is_missing(tmp_path: Path) -> None:
    page = read_report(make_run(tmp_path / "r", [], recipe="a: 1 # mine"))
    for expected in (
        "log.jsonl is empty",
        "no metrics.json",
        "no manifest.json",
        "There is no evaluation on held-out data yet",
        "# mine",
    ):
        assert expected in page.text


@pytest.mark.parametrize("name", ["metrics.json", "manifest.json"])
@pytest.mark.parametrize("content", ['{"a": ', "[]", ""])
def test_damaged_json_file_is_named_and_the_rest_is_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, content: str
) -> None:
    run = make_run(tmp_path / "r", make_log(), metrics=METRICS, manifest=MANIFEST)
    (run / name).write_text(content, encoding="utf-8")
    page = read_report(run)
    assert f"{name} " in page.text and "This report is incomplete" in page.text and page.get_curves("Loss")
    assert f"report.html is incomplete: {name} " in capsys.readouterr().err


def test_folder_that_is_no_run_is_refused_and_left_alone(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="not a run folder"):
        write_report(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("splits", "headline", "is_final"),
    [(["validation", "test"], "2.4526", True), (["train", "validation"], "2.3503", True), (["train"], "5.0500", False)],
)
def test_result_is_of_the_test_split_and_never_of_the_training_text(
    tmp_path: Path, splits: list[str], headline: str, is_final: bool
) -> None:
    page = read_report(make_run(tmp_path / "r", make_log(), metrics={split: METRICS[split] for split in splits}))
    assert page.contents["b"][0] == headline
    assert ("the last evaluation in the log, at step 60; there is no final" in page.text) is not is_final


def test_metrics_of_any_task_are_shown(tmp_path: Path) -> None:
    metrics = {"test": {"accuracy": 0.9, "f1_macro": 0.875, "per_label": {"spam": {"f1": 0.8125}}, "confusion": [[1]]}}
    page = read_report(make_run(tmp_path / "r", [], metrics=metrics))
    for expected in ("90.00%", "0.8750", "per_label.spam.f1", "0.8125", "[[1]]"):
        assert expected in page.text


def test_step_logged_again_after_a_resume_is_drawn_once_with_its_later_value(tmp_path: Path) -> None:
    steps = [(1, 4.0), (2, 3.0), (3, 9.0), (2, 2.5), (3, 2.0)]
    page = read_report(make_run(tmp_path / "r", [{"kind": "train", "step": s, "loss": v} for s, v in steps]))
    assert page.get_curves("Loss") == [{"steps": [1, 2, 3], "values": [4.0, 2.5, 2.0]}]


def test_loss_that_is_not_finite_or_null_is_reported_and_does_not_spoil_the_curve(tmp_path: Path) -> None:
    log = [{"kind": "train", "step": s, "loss": v} for s, v in [(1, 4.0), (2, math.nan), (3, None)]]
    page = read_report(make_run(tmp_path / "r", log))
    assert page.get_curves("Loss") == [{"steps": [1], "values": [4.0]}]
    assert "train loss is not finite at step 2 and 1 more" in page.text


def test_quantity_that_was_not_logged_is_named_instead_of_drawn_empty(tmp_path: Path) -> None:
    page = read_report(make_run(tmp_path / "r", [{"kind": "train", "step": 1, "loss": 1.0, "mfu": None}]))
    assert "Not in the log: held-out bits per byte, learning rate, gradient norm, tokens per second, MFU." in page.text


def test_full_disk_leaves_the_old_report_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_run(tmp_path / "r", make_log())
    before = write_report(run).read_bytes()

    def fill_disk(self: Path, target: Path) -> None:
        raise OSError(28, "No space left on device")

    (run / "recipe.yaml").write_text("changed: 1", encoding="utf-8")
    monkeypatch.setattr(Path, "replace", fill_disk)
    with pytest.raises(EnvironmentFault, match="No space left"):
        write_report(run)
    assert (run / "report.html").read_bytes() == before


def test_report_is_written_without_torch() -> None:
    code = "import sys; from llmkit.reporting.report import write_report; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
