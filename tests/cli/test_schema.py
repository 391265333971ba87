"""`llmkit schema` prints the schema and nothing else."""

import json
from pathlib import Path

from several import run_command

from llmkit.config.schema import make_schema


def test_schema_is_json_on_stdout(tmp_path: Path) -> None:
    code, out, err = run_command(["schema"], tmp_path / "output")
    assert (code, err) == (0, "")
    assert json.loads(out) == make_schema()
