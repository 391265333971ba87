"""A labelled file, read as the model's training file was: a validation or test file, or what `eval` is given."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from llmkit.config.cls import Cls
from llmkit.config.prepare import Read
from llmkit.tables.labelled import LabelledRow, UnseenLabels, read_labelled, to_ids
from llmkit.tables.rows import RowStream, open_rows
from llmkit.tasks.cls.row_reading import RowFormat, describe_left_out


@dataclass
class LabelledFile:
    """Iterate over it once for the rows whose labels are known."""

    rows: RowStream
    format: RowFormat
    """With the columns of this file."""
    label2id: Mapping[str, int]
    section: Cls
    strangers: UnseenLabels = field(default_factory=UnseenLabels)

    def __iter__(self) -> Iterator[LabelledRow]:
        labels = self.format.labels
        parse = labels.parser(self.section.separator or self.format.separator)
        labelled = read_labelled(self.rows, self.format.columns, parse)
        if not labels.has_names:
            return labelled
        known = to_ids(
            labelled, self.label2id, self.rows.path,
            unseen=self.section.unseen_labels, unit=self.rows.unit, unseen_labels=self.strangers,
        )  # fmt: skip
        return (row for row, _ in known)

    def describe_left_out(self) -> list[str]:
        """What the user should know once all rows are read."""
        skipped = sum(self.rows.source.skipped.values())
        notes = describe_left_out(skipped, self.rows.path, "that cannot be read")
        return notes + describe_left_out(self.strangers.rows.n, self.rows.path, "with labels that training never saw")


@contextmanager
def open_labelled(
    path: str, section: Cls, read: Read, row_format: RowFormat, label2id: Mapping[str, int]
) -> Iterator[LabelledFile]:
    """The file by the format of a model, with the columns that the section names, or those of training, or a guess.

    Raises:
        DataError: what tables/rows.py raises; while the rows are read, what tables/labelled.py raises.
    """
    names = (section.text, section.pair, section.label, row_format.text, row_format.label)
    with open_rows(path, read, header=section.header, wanted=[name for name in names if name]) as rows:
        columns = row_format.find_columns(
            rows, need_label=True, text=section.text, pair=section.pair, label=section.label
        )
        yield LabelledFile(rows, row_format.with_columns(columns), label2id, section)
