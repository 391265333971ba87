"""Damaged and missing files of a prepared folder are found before they are used, and repaired to the same bytes."""

import json
import shutil
from pathlib import Path

import pytest
from tiny import digests, make_gpt2

import llmkit.tokens.prepared
from llmkit.config.loading import load_recipe
from llmkit.config.prepare import Prepare
from llmkit.core.errors import DataError, UsageError
from llmkit.evaluating.evaluate import evaluate
from llmkit.preparing.prepare import prepare
from llmkit.runs.train import pretrain
from llmkit.tokens.loading import load_tokenizer
from llmkit.tokens.prepared import load_prepared

SETTINGS = ("prepare.tokenizer.vocab_size=300", "prepare.split.validation=0.2", "prepare.split.test=0.1")


def settings(*overrides: str) -> Prepare:
    return load_recipe(None, [*SETTINGS, *overrides]).prepare


@pytest.fixture(scope="module")
def book(tmp_path_factory: pytest.TempPathFactory) -> Path:
    book = tmp_path_factory.mktemp("books") / "book.txt"
    book.write_text("".join(f"It was the {n}th of times.\n却说曹操大喜。\n\n" for n in range(200)), encoding="utf-8")
    return book


@pytest.fixture(scope="module")
def clean(book: Path) -> Path:
    return prepare([str(book)], book.parent / "clean", settings()).path


@pytest.fixture
def data(clean: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(clean, tmp_path / "data"))


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


KINDS = [
    "train/data-00000.arrow",
    "train/state.json",
    "train/dataset_info.json",
    "validation/data-00000.arrow",
    "test/data-00000.arrow",
    "tokenizer/tokenizer.json",
    "tokenizer/tokenizer_config.json",
]


def test_manifest_lists_every_file_but_itself_with_its_size_and_sha256(data: Path) -> None:
    files = json.loads((data / "manifest.json").read_text(encoding="utf-8"))["files"]
    assert {name: known["sha256"] for name, known in files.items()} == {
        name: digest for name, digest in digests(data).items() if name != "manifest.json"
    }
    assert all(known["bytes"] == (data / name).stat().st_size for name, known in files.items())
    assert set(KINDS) <= set(files)


@pytest.mark.parametrize("name", KINDS)
def test_missing_or_cut_file_is_named_when_the_folder_is_opened(data: Path, name: str) -> None:
    n_bytes = (data / name).stat().st_size
    prepared = load_prepared(data)
    for damage, what in ((truncate, f"{name} has {n_bytes - 1:,} bytes instead of {n_bytes:,}"),
                         (Path.unlink, f"{name} is missing")):  # fmt: skip
        damage(data / name)
        with pytest.raises(DataError) as caught:
            load_prepared(data)
        problem = caught.value.problems[0]
        assert (problem.what, problem.where) == (what, str(data / name))
        assert f"--out {data} --repair" in problem.hint
        if "data-" in name:
            with pytest.raises(DataError, match=what):
                prepared.split(name.split("/")[0])


@pytest.mark.parametrize("name", KINDS)
def test_flipped_bit_is_found_before_training_reads_it(data: Path, tmp_path: Path, name: str) -> None:
    expected = digests(data)[name]
    flip(data / name)
    found = digests(data)[name]
    prepared = load_prepared(data)
    with pytest.raises(DataError) as caught:
        prepared.verify(name.split("/")[0])
    assert f"{name} has the SHA-256 {found[:12]}... instead of {expected[:12]}..." in str(caught.value)
    prepared.verify("train" if not name.startswith("train") else "test")
    if not name.startswith("test"):
        recipe = load_recipe(None, ["train.max_steps=1", "model.size=tiny"])
        with pytest.raises(DataError, match="has the SHA-256"):
            pretrain(recipe, data=data, out=tmp_path / "run")
        assert not (tmp_path / "run").exists()


def test_flipped_bit_is_found_before_a_model_is_scored_on_it(data: Path, tmp_path: Path) -> None:
    tokenizer = load_tokenizer(str(data / "tokenizer"))
    tokenizer.save_pretrained(tmp_path / "model")
    make_gpt2(vocab_size=len(tokenizer)).save_pretrained(tmp_path / "model")
    flip(data / "test/data-00000.arrow")
    recipe = load_recipe(None, [])
    assert evaluate(recipe, model=str(tmp_path / "model"), data=[str(data)])["n_tokens"]
    with pytest.raises(DataError, match=r"test/data-00000.arrow has the SHA-256"):
        evaluate(load_recipe(None, ["evaluate.split=test"]), model=str(tmp_path / "model"), data=[str(data)])


def test_folder_of_before_hashes_were_kept_opens(data: Path) -> None:
    manifest = json.loads((data / "manifest.json").read_text(encoding="utf-8"))
    del manifest["files"]
    (data / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    prepared = load_prepared(data)
    prepared.verify("tokenizer", "train", "validation")
    assert len(prepared.split("train").stream) == manifest["splits"]["train"]["tokens"]


def test_verifying_what_takes_long_is_reported(
    data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    load_prepared(data).verify("train")
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(llmkit.tokens.prepared, "MIN_BYTES_TO_REPORT", 100)
    load_prepared(data).verify("train")
    assert capsys.readouterr().err.startswith("verifying 0.0 GB of ")


def test_prepare_does_not_call_a_damaged_folder_done(data: Path, book: Path) -> None:
    (data / "train/data-00000.arrow").unlink()
    with pytest.raises(DataError, match=r"train/data-00000.arrow is missing"):
        prepare([str(book)], data, settings())


@pytest.mark.parametrize(
    ("names", "damage"), [([KINDS[0]], flip), (KINDS[3:6], truncate), (KINDS[:2], Path.unlink), (KINDS, flip)]
)
def test_repair_rebuilds_only_damaged_files(
    data: Path, clean: Path, book: Path, names: list[str], damage: object, capsys: pytest.CaptureFixture[str]
) -> None:
    assert callable(damage)
    for name in names:
        damage(data / name)
    broken = {name.split("/")[0] for name in names}
    sound = [path for path in data.glob("*/*") if path.parent.name not in broken]
    before = {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in sound}
    prepare([str(book)], data, settings(), repair=True)
    err = capsys.readouterr().err
    assert all(name in err for name in names)
    assert f"with the recorded hashes: {', '.join(sorted(broken))}" in err
    assert digests(data) == digests(clean)
    assert before == {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in sound}
    assert [path.name for path in data.parent.iterdir()] == ["data"]


def test_repair_of_an_intact_folder_changes_nothing(data: Path, book: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path: path.stat().st_mtime_ns for path in data.rglob("*")}
    prepare([str(book)], data, settings(), repair=True)
    assert "are intact: nothing to do" in capsys.readouterr().err
    assert before == {path: path.stat().st_mtime_ns for path in data.rglob("*")}


def test_repair_from_other_input_is_refused_and_leaves_the_folder_as_it_is(data: Path, book: Path) -> None:
    flip(data / KINDS[0])
    before = digests(data)
    other = data.parent / "other.txt"
    other.write_bytes(book.read_bytes() + b"\n")
    with pytest.raises(DataError, match="built with different inputs"):
        prepare([str(other)], data, settings(), repair=True)
    with pytest.raises(DataError, match="built with different settings"):
        prepare([str(book)], data, settings("prepare.tokenizer.vocab_size=290"), repair=True)
    with pytest.raises(UsageError, match="--repair and --overwrite cannot be used together"):
        prepare([str(book)], data, settings(), repair=True, overwrite=True)
    assert digests(data) == before


def test_repair_that_would_not_give_the_same_bytes_is_refused(data: Path, book: Path) -> None:
    manifest = json.loads((data / "manifest.json").read_text(encoding="utf-8"))
    manifest["files"]["train/data-00000.arrow"]["sha256"] = "0" * 64
    (data / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    before = digests(data)
    with pytest.raises(DataError, match=r"train/data-00000.arrow would differ from the original"):
        prepare([str(book)], data, settings(), repair=True)
    assert digests(data) == before
    assert sorted(path.name for path in data.parent.iterdir()) == ["data"]
