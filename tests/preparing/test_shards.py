"""Input files are grouped into shards."""

from pathlib import Path

import pytest

from llmkit.preparing import shards
from llmkit.preparing.shards import cut_files


def test_files_are_cut_in_order_and_none_is_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "SHARD_BYTES", 12_000)
    files = []
    for n, size in enumerate([5_000, 5_000, 5_000, 50_000, 0, 12_000, 1]):
        (tmp_path / str(n)).write_bytes(bytes(size))
        files.append(str(tmp_path / str(n)))
    groups = cut_files([*files[:3], "builtin:shakespeare", *files[3:]])
    assert groups == [files[:2], files[2:3], ["builtin:shakespeare"], files[3:4], files[4:6], files[6:]]
