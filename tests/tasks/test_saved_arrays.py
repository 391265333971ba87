"""Arrays come back as they were saved, and a damaged file is an error that names the way out."""

from pathlib import Path

import numpy as np
import pytest

from llmkit.core.errors import ModelError
from llmkit.tasks.saved_arrays import load_arrays, save_arrays, shrink


def test_arrays_and_facts_come_back(tmp_path: Path) -> None:
    assert load_arrays(tmp_path, "test", lambda arrays, facts: 1) is None
    save_arrays(tmp_path, "test", {"keys": np.arange(3, dtype=np.uint64)[::-1]}, {"labels": "a"})
    found = load_arrays(tmp_path, "test", lambda arrays, facts: (arrays["keys"].tolist(), facts["labels"]))
    assert found == ([2, 1, 0], "a")


def test_damaged_file_and_wrong_content_are_errors_of_the_model(tmp_path: Path) -> None:
    save_arrays(tmp_path, "test", {"keys": np.zeros(1)}, {})
    with pytest.raises(ModelError, match="damaged"):
        load_arrays(tmp_path, "test", lambda arrays, facts: facts["labels"])
    path = tmp_path / "predictions" / "test.safetensors"
    path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(ModelError) as error:
        load_arrays(tmp_path, "test", lambda arrays, facts: arrays)
    assert f"llmkit eval {tmp_path} --split test" in error.value.problems[0].hint


def test_counts_take_the_smallest_type_and_numbers_keep_theirs() -> None:
    assert shrink(np.array([0, 255])).dtype == np.uint8 and shrink(np.array([256])).dtype == np.uint16
    assert shrink(np.array([0.5], np.float32)).dtype == np.float64
