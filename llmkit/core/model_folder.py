"""Find the model that a name on the command line refers to; without torch, so a wrong path is reported in a second."""

from pathlib import Path

from llmkit.core.errors import ModelError, did_you_mean


def find_model_folder(name: str) -> str:
    """Return the folder of a run's model, a saved model or an adapter; or `name` itself if it may be a hub name.

    Raises:
        ModelError: an unfinished run, a folder without a model, or a path that does not exist.
    """
    path = Path(name)
    if (path / "model" / "config.json").is_file():
        return str(path / "model")
    if (path / "config.json").is_file() or (path / "adapter_config.json").is_file():  # a model, or an adapter of peft
        return str(path)
    if path.is_file():
        hint = "give the folder of a run or a model"
        raise ModelError(f"{name!r} is a file, not a model", where=str(path), hint=hint)
    if path.is_dir() and (runs := sorted(each.parent.parent.name for each in path.glob("*/model/config.json"))):
        hint = f"give one of its runs: {path / runs[0]}" + (f" to {runs[-1]}" if len(runs) > 1 else "")
        raise ModelError(f"{name!r} is a folder of several runs", where=str(path), hint=hint)
    if path.is_dir():
        is_run = (path / "recipe.yaml").is_file()
        hint = "the run has not ended: continue it with --resume" if is_run else "give a folder that has a config.json"
        raise ModelError(f"there is no model in {name!r}", where=str(path), hint=hint)
    if name.startswith((".", "/", "~")) or name.count("/") > 1 or (path.parent.is_dir() and "/" in name):
        near = [str(path.parent / p.name) for p in path.parent.iterdir()] if path.parent.is_dir() else []
        hint = did_you_mean(name, near) if near else "check the path"
        raise ModelError(f"there is no folder {name!r}", where=str(path.parent), hint=hint)
    return name
