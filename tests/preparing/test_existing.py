"""An existing output folder is reused, refused or replaced; users' files and the input are never deleted."""

import json
from pathlib import Path
from typing import Any

import pytest
from tiny import digests

from llmkit.config.loading import load_recipe
from llmkit.config.prepare import Prepare
from llmkit.core.errors import UsageError
from llmkit.core.files import write_json
from llmkit.preparing import prepare as module
from llmkit.preparing.existing import check_out, describe_changes
from llmkit.preparing.prepare import prepare

TEXT = "It was the best of times, it was the worst of times.\n\nCall me Ishmael. Some years ago.\n\n"


def settings(*overrides: str) -> Prepare:
    small = ["prepare.tokenizer.vocab_size=300", "prepare.split.validation=0.2", "prepare.split.test=0.1"]
    return load_recipe(None, [*small, *overrides]).prepare


@pytest.fixture
def book(tmp_path: Path) -> Path:
    path = tmp_path / "books/a.txt"
    path.parent.mkdir()
    path.write_text("".join(f"{n} {TEXT}" for n in range(30)))
    return path


@pytest.fixture
def data(tmp_path: Path, book: Path) -> Path:
    return prepare([str(book)], tmp_path / "data", settings()).path


def test_other_setting_is_refused_by_name_and_replaced_only_with_overwrite(book: Path, data: Path) -> None:
    before = digests(data)
    other = settings("prepare.tokenizer.vocab_size=290")
    with pytest.raises(UsageError, match=r"prepare\.tokenizer\.vocab_size was 300, is 290") as caught:
        prepare([str(book)], data, other)
    assert "--overwrite" in str(caught.value)
    assert digests(data) == before
    assert prepare([str(book)], data, other, overwrite=True).manifest["tokenizer"]["vocab_size"] == 290


def test_other_input_is_refused_by_name(book: Path, data: Path, tmp_path: Path) -> None:
    other = book.with_name("b.txt")
    other.write_text(TEXT * 40)
    with pytest.raises(UsageError, match=r"other input files \(.*a\.txt; now .*b\.txt\)"):
        prepare([str(other)], data, settings())
    with pytest.raises(UsageError, match="--validation was not given"):
        prepare([str(book)], data, settings(), validation=str(other))
    book.write_text(TEXT * 50)
    with pytest.raises(UsageError, match=r"other contents of the input files .*a\.txt"):
        prepare([str(book)], data, settings())


def test_input_that_cannot_be_compared_counts_as_changed(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", None)
    with pytest.raises(UsageError, match="from stdin or the hub cannot be compared"):
        prepare(["-"], data, settings())


def test_folder_of_another_version_is_reused_with_one_line(
    book: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = json.loads((data / "manifest.json").read_text())
    manifest["request"]["llmkit"] = "0.1.0"
    del manifest["request"]["settings"]["tokenizer"]["path"]  # as if the key were new
    write_json(data / "manifest.json", manifest)
    before = digests(data)
    capsys.readouterr()
    prepare([str(book)], data, settings())
    assert "built by llmkit 0.1.0 from the same input with the same settings: it is reused" in capsys.readouterr().err
    assert digests(data) == before
    prepare([str(book)], data, settings(), overwrite=True)
    assert json.loads((data / "manifest.json").read_text())["request"]["llmkit"] != "0.1.0"


@pytest.mark.parametrize("name", ["notes.txt", "train/notes.txt", "mine/thesis.tex", ".hidden"])
def test_files_of_others_are_named_and_never_deleted(
    book: Path, data: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "build_prepared", lambda *_: pytest.fail("it was built before the check"))
    (data / name).parent.mkdir(exist_ok=True)
    (data / name).write_text("my own")
    with pytest.raises(UsageError, match=f"files that llmkit did not write: {name.split('/')[0]}"):
        prepare([str(book)], data, settings("prepare.tokenizer.vocab_size=290"), overwrite=True)
    (data / "train/state.json").unlink()
    with pytest.raises(UsageError, match="files that llmkit did not write"):
        prepare([str(book)], data, settings(), repair=True)
    assert (data / name).read_text() == "my own"


def test_file_that_comes_while_the_folder_is_built_is_kept(
    book: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build = module.build_prepared

    def build_and_write(*arguments: Any) -> Any:
        (data / "notes.txt").write_text("my own")
        return build(*arguments)

    monkeypatch.setattr(module, "build_prepared", build_and_write)
    with pytest.raises(UsageError, match=r"did not write: notes\.txt"):
        prepare([str(book)], data, settings("prepare.tokenizer.vocab_size=290"), overwrite=True)
    assert (data / "notes.txt").read_text() == "my own"
    assert (data.parent / ".data.partial/finished/tokenizer.json").exists(), "the finished stages are kept"


def test_files_of_others_in_what_a_kill_left_are_kept(book: Path, data: Path) -> None:
    old = data.with_name(".data.old")
    data.rename(old)
    prepare([str(book)], data, settings())
    assert not old.exists()  # it was put back
    before = digests(data)
    data.rename(old)
    (old / "notes.txt").write_text("my own")
    data.mkdir()
    with pytest.raises(UsageError, match=r"\.data\.old' has files that llmkit did not write: notes\.txt"):
        prepare([str(book)], data, settings())
    assert (old / "notes.txt").read_text() == "my own"
    (old / "notes.txt").unlink()
    prepare([str(book)], data, settings())
    assert not old.exists()
    assert digests(data) == before


def test_link_to_a_prepared_folder_stays_and_its_folder_is_replaced(book: Path, data: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(data)
    prepare([str(book)], tmp_path / "link", settings("prepare.tokenizer.vocab_size=290"), overwrite=True)
    assert (tmp_path / "link").is_symlink()
    assert json.loads((data / "manifest.json").read_text())["tokenizer"]["vocab_size"] == 290
    assert not (tmp_path / ".link.old").is_symlink()


@pytest.mark.parametrize("how", ["file", "folder", "pattern", "link", "linked out", "validation", "tokenizer"])
def test_input_inside_the_output_is_refused_and_kept(book: Path, tmp_path: Path, how: str) -> None:
    link = tmp_path / "links"
    link.mkdir()
    (link / "a.txt").symlink_to(book)
    (tmp_path / "linked").symlink_to(book.parent)
    other = tmp_path / "other.txt"
    other.write_text(TEXT)
    inputs = {"folder": str(book.parent), "pattern": f"{tmp_path}/boo*/*.txt", "link": str(link)}.get(how, str(book))
    out = tmp_path / "linked" if how == "linked out" else book.parent
    more: dict[str, Any] = {"validation": str(book)} if how == "validation" else {}
    inputs = str(other) if how in ("validation", "tokenizer") else inputs
    tokenizer = [f"prepare.tokenizer.path={book.parent}"] if how == "tokenizer" else []
    with pytest.raises(UsageError, match="is in the output folder") as caught:
        prepare([inputs], out, settings(*tokenizer), overwrite=True, **more)
    assert caught.value.exit_code == 2
    assert book.is_file()


@pytest.mark.parametrize(
    ("name", "out"),
    [("books", "books/data"), ("books", "books/a/b"), ("books*", "books/data"), ("**/*.txt", "data"), ("*", "data")],
)
def test_output_inside_an_input_is_refused_as_the_next_run_would_read_it(
    book: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, out: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="is in the input"):
        check_out(Path(out), [name], None)
    assert not Path(out).exists()


@pytest.mark.parametrize(
    ("name", "out"), [("books", "data"), ("books/*.txt", "books/data"), ("books/a.txt", "books/data"), ("-", "data")]
)
def test_output_that_no_input_will_read_is_accepted(
    book: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, out: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert check_out(Path(out), [name], None) == Path(out)


@pytest.mark.parametrize("out", [".", "", "/", "..", "books/..", "books/a.txt"])
def test_out_that_is_no_name_of_a_folder_is_refused(
    book: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, out: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError) as caught:
        prepare(["books/a.txt"], Path(out), settings())
    assert len(str(caught.value).splitlines()) == 3
    assert [path.name for path in tmp_path.iterdir()] == ["books"]


def test_changes_name_the_order_of_files_and_the_tokenizer() -> None:
    old = {"settings": {}, "inputs": [{"path": "a", "sha256": "1"}], "own_splits": {}, "tokenizer": "x"}
    new = {**old, "inputs": [{"path": "b", "sha256": "1"}], "tokenizer": "y", "chinese_words": None}
    first, second = describe_changes(old, {**new, "settings": Prepare().model_dump(mode="json")})
    assert "under other paths" in first
    assert "prepare.tokenizer.path" in second
