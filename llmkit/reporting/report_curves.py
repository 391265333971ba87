"""The report's curves: which logged quantity is drawn in which chart, and what was not fit to draw."""

import math
from collections.abc import Sequence

from llmkit.reporting.charts import Curve, draw_chart, smooth
from llmkit.reporting.page import Html, section, tag
from llmkit.reporting.run_record import Record, RunRecord, get_number

CHARTS = (
    # title, unit, key in train records, key in eval records, whether the axis starts at zero
    ("Loss", "nats a token", "loss", "loss", False),
    ("Held-out bits per byte", "", None, "bits_per_byte", False),
    ("Masked-token loss", "nats a masked token", "mlm_loss", "mlm_loss", False),
    ("Next-sentence loss", "nats a pair", "nsp_loss", "nsp_loss", False),
    ("Sentence-order loss", "nats a pair", "sop_loss", "sop_loss", False),
    ("Held-out masked-token accuracy", "", None, "mlm_accuracy", False),
    ("Held-out next-sentence accuracy", "", None, "nsp_accuracy", False),
    ("Held-out sentence-order accuracy", "", None, "sop_accuracy", False),
    ("Held-out accuracy", "", None, "accuracy", False),
    ("Held-out F1, macro", "mean over labels", None, "f1_macro", False),
    ("Held-out F1, micro", "all labels together", None, "f1_micro", False),
    ("Held-out average precision, micro", "all labels together", None, "average_precision_micro", False),
    ("Held-out squared error", "", None, "mse", False),
    ("Held-out correlation", "Pearson", None, "pearson", False),
    ("Learning rate", "", "learning_rate", None, True),
    ("Gradient norm", "before clipping", "grad_norm", None, True),
    ("Tokens a second", "", "tokens_per_second", None, True),
    ("MFU", "share of the machine's peak", "mfu", None, True),
)
ONLY_IN = {
    "clm": ("bits_per_byte",),
    "mlm": ("mlm_", "nsp_", "sop_"),
    "cls": ("accuracy", "f1_", "average_precision_", "mse", "pearson"),
}
"""Beginnings of the keys that are missed, if at all, in runs of one objective only."""

_HELD_OUT_LOOKS = ("orange", "green", "violet")
_SMOOTHED_FROM = 40
"""Train records from which the loss is smoothed; fewer are read well as they are."""


def render_curves(record: RunRecord) -> Html:
    """The charts of what was logged, and the names of what was not."""
    figures, absent = [], []
    # Which pairs a masked model has, and which labels a classifier, is up to the recipe, so none of theirs is ever
    # said to be missing.
    objective = record.manifest.get("objective")
    foreign = (*ONLY_IN["mlm"], *ONLY_IN["cls"], *(ONLY_IN["clm"] if objective in ("mlm", "cls") else ()))
    for title, unit, train_key, eval_key, from_zero in CHARTS:
        if train_key == "loss":
            unit = _name_loss(record) or unit
        curves = [*_make_train_curves(record, train_key), *_make_eval_curves(record, eval_key)]
        if curves:
            figures.append(draw_chart(title, unit, curves, from_zero=from_zero))
        elif not (eval_key or "").startswith(foreign):
            absent.append(title if title.isupper() else title.lower())
    return section(
        "Curves",
        tag("div", *figures, class_="charts") if figures else None,
        tag("p", f"Not in the log: {', '.join(absent)}.", class_="quiet") if absent else None,
    )


def _name_loss(record: RunRecord) -> str | None:
    """What the loss is in, where it is not nats a token; of a classifier, as its other figures tell."""
    objective = record.manifest.get("objective")
    if objective == "mlm":
        return "the losses of tokens and of pairs together"
    if objective != "cls":
        return None
    measured = [*record.log.get("eval", []), *(part for part in record.metrics.values() if isinstance(part, dict))]
    if any("mse" in figures for figures in measured):
        return "squared error"
    return "nats a row and label" if any("average_precision_micro" in figures for figures in measured) else "nats a row"


def _make_train_curves(record: RunRecord, key: str | None) -> list[Curve]:
    steps, values = _pick(record.log.get("train", []), key)
    if not values:
        return []
    if not (key or "").endswith("loss") or len(values) < _SMOOTHED_FROM:
        return [Curve("training", steps, values)]
    window = max(5, len(values) // 25) | 1
    mean = Curve(f"mean of {window}", steps, smooth(values, window))
    return [Curve("training", steps, values, "faint"), mean]


def _make_eval_curves(record: RunRecord, key: str | None) -> list[Curve]:
    records = record.log.get("eval", [])
    curves = []
    splits = list(dict.fromkeys(str(evaluation.get("split", "held-out")) for evaluation in records))
    for split, look in zip(splits, _HELD_OUT_LOOKS, strict=False):
        steps, values = _pick([r for r in records if str(r.get("split", "held-out")) == split], key)
        if values:
            curves.append(Curve(split, steps, values, look))
    return curves


def _pick(records: Sequence[Record], key: str | None) -> tuple[list[float], list[float]]:
    """Steps and values of the records that have a finite number under the key."""
    if key is None:
        return [], []
    found = [(float(record["step"]), get_number(record, key)) for record in records]
    return [step for step, value in found if value is not None], [value for _, value in found if value is not None]


def find_non_finite(record: RunRecord) -> list[str]:
    """One line for each logged quantity that was infinite or not a number at some step.

    The log has null for such a number. A quantity that never had a number was just not measured.
    """
    lines = []
    for kind in ("train", "eval"):
        records = record.log.get(kind, [])
        for key in dict.fromkeys(key for logged in records for key in logged):
            finite = [get_number(logged, key) is not None for logged in records if key in logged]
            at = [int(r["step"]) for r in records if key in r and (r[key] is None or _is_not_finite(r[key]))]
            if at and (any(finite) or key == "loss"):
                times = f" and {len(at) - 1} more times" if len(at) > 1 else ""
                lines.append(f"{kind} {key} is not finite at step {at[0]:,}{times}; the curve leaves this out")
    return lines


def _is_not_finite(value: object) -> bool:
    return isinstance(value, float) and not math.isfinite(value)
