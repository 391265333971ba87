"""Rows of .parquet files: selected columns, and typed cells as plain values."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pyarrow
import pyarrow.parquet

from llmkit.config.prepare import Read
from llmkit.text.entries import find_entries
from llmkit.text.records.fields import get_value
from llmkit.text.records.rows import RowStream
from llmkit.text.records.table_files import read_entry
from llmkit.text.sources import Source


def read(path: Path, **options: object) -> tuple[list[dict[str, object]], RowStream]:
    [entry] = find_entries(str(path), Source(str(path)))
    with RowStream(Source(str(path)), Read(**options)) as rows:  # type: ignore[arg-type]
        rows.start(read_entry(rows, entry))
        return [row.cells for row in rows], rows


def test_parquet_rows_after_the_sample_have_only_the_selected_columns(tmp_path: Path) -> None:
    n = 5000
    table = pyarrow.table(
        {"text": [f"t{i}" for i in range(n)], "more": ["m"] * n, "meta": [{"x": i} for i in range(n)]}
    )
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    [entry] = find_entries(str(tmp_path / "a.parquet"), Source("a.parquet"))
    with RowStream(Source("a.parquet"), Read()) as rows:
        rows.start(read_entry(rows, entry))
        rows.selected = ["text", "meta"]
        found = list(rows)
    assert [row.line for row in found] == list(range(1, n + 1))
    assert [row.cells["text"] for row in found] == [f"t{i}" for i in range(n)]
    assert [get_value(row.cells, "meta.x") for row in found] == list(range(n))
    assert "more" in found[0].cells
    assert "more" not in found[-1].cells


def test_typed_cells_of_parquet_are_plain_values(tmp_path: Path) -> None:
    moment = datetime(2024, 5, 1, 10, tzinfo=UTC)
    given = {
        "text": pyarrow.array(["却说"], pyarrow.large_string()),
        "label": pyarrow.array(["pos"]).dictionary_encode(),
        "words": pyarrow.array([["a", "b"]], pyarrow.large_list(pyarrow.large_string())),
        "price": pyarrow.array([Decimal("1.10")]),
        "day": pyarrow.array([date(2024, 5, 1)]),
        "moment": pyarrow.array([moment]),
        "length": pyarrow.array([timedelta(seconds=5)]),
        "old": pyarrow.array([b"caf\xc3\xa9"]),
        "image": pyarrow.array([b"\xff\xd8"]),
        "deep": pyarrow.array([{"price": Decimal("2.50"), "n": None}]),
    }
    pyarrow.parquet.write_table(pyarrow.table(given), tmp_path / "a.parquet")
    [cells], _ = read(tmp_path / "a.parquet")
    assert cells == {
        "text": "却说", "label": "pos", "words": ["a", "b"], "price": "1.10", "day": "2024-05-01",
        "moment": "2024-05-01 10:00:00+00:00", "length": "0:00:05", "old": "café", "image": b"\xff\xd8",
        "deep": {"price": "2.50", "n": None},
    }  # fmt: skip
