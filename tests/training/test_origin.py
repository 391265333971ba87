"""A run finds its starting model and its data files again, also after they were moved together."""

import json
from pathlib import Path

from llmkit.training.folder import RunFolder
from llmkit.training.origin import describe_origin, load_origin, origin_files


def test_files_are_found_again_after_they_were_moved_with_their_run(tmp_path: Path) -> None:
    files = {"train": str(tmp_path / "data/a.csv"), "test": "hf:imdb@test"}
    relative = describe_origin("hub/model", files, tmp_path / "runs/one")["files"]
    assert relative == {"train": "../../data/a.csv", "test": "hf:imdb@test"}
    moved = origin_files(tmp_path / "elsewhere/runs/one", {"files": relative})
    assert moved == {"train": str(tmp_path / "elsewhere/data/a.csv"), "test": "hf:imdb@test"}
    assert origin_files(tmp_path, {}) == {}


def test_model_and_files_that_are_given_anew_beat_those_of_the_first_start(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    assert load_origin(run, "model", {"train": "a.csv"}) == ("model", {"train": "a.csv"})
    run.path.mkdir()
    (tmp_path / "bert").mkdir()
    origin = describe_origin(str(tmp_path / "bert"), {"train": str(tmp_path / "a.csv")}, run.path)
    run.manifest.write_text(json.dumps({"origin": origin}))
    model, files = load_origin(run, None, {})
    assert model is not None
    assert (Path(model).resolve(), files) == (tmp_path / "bert", {"train": str(tmp_path / "a.csv")})
    assert load_origin(run, "other", {"train": "b.csv"}) == ("other", {"train": "b.csv"})
