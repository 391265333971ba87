"""What tasks on labelled rows have in common when their runs are compared: held-out rows, settings to show."""

from typing import ClassVar

from llmkit.tasks.base import HeldOut, Task
from llmkit.training.run_record import Record, RunRecord, get_number, get_section


class RowTask(Task):
    """A task that is trained and scored on the rows of a table."""

    writes_samples = False
    reads_rows = True
    unit: ClassVar[str] = "rows"
    """What is scored, in the plural; metrics have its number as `n_rows`."""

    def describe_method(self, record: RunRecord, method: Record) -> Record:
        """Return the settings of this task to show in a comparison; `method` is that of the split's metrics."""
        return {}

    def describe_held_out(self, record: RunRecord, split: str) -> HeldOut:
        splits = get_section(get_section(record.manifest, "data"), "splits")
        held_out, train = get_section(splits, split), get_section(splits, "train")
        n_scored = get_number(get_section(record.metrics, split), f"n_{self.unit}") or get_number(held_out, "rows")
        size = None if n_scored is None else int(n_scored)
        return HeldOut(size, "rows", held_out.get("rows_hash"), train.get("rows_hash"))

    def describe_compared(self, record: RunRecord, split: str) -> Record:
        data, figures = get_section(record.manifest, "data"), get_section(record.metrics, split)
        method = get_section(figures, "method")
        return {
            "started from": get_section(record.manifest, "origin").get("start"),
            **self.describe_method(record, method),
            f"train {self.unit}": get_number(get_section(get_section(data, "splits"), "train"), "rows"),
            "epochs": get_section(record.metrics, "training").get("epochs"),
            f"scored {self.unit}": figures.get(f"n_{self.unit}"),
            "weights chosen on": "these rows" if "weights" in method else "other rows",
        }
