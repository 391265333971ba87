"""The checks of output paths refuse what must not be replaced, and give the reason."""

from pathlib import Path

import pytest

from llmkit.core.errors import EnvironmentFault
from llmkit.core.output_paths import check_writable, expand_home


def test_folder_that_cannot_be_written_to_is_an_error_with_the_systems_reason(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for dry_run in (False, True):
        with pytest.raises(EnvironmentFault, match=r"cannot write to .*: (Not a directory|File exists)") as caught:
            check_writable(tmp_path / "file/run", dry_run=dry_run)
        assert "--out" in caught.value.problems[0].hint
    check_writable(tmp_path / "new/run", dry_run=True)
    assert not (tmp_path / "new").exists(), "a dry run makes nothing"
    check_writable(tmp_path / "new/run")
    assert list((tmp_path / "new").iterdir()) == []


def test_home_of_an_unknown_user_is_not_expanded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    assert expand_home("~/a") == Path("/home/me/a")
    assert expand_home(Path("~nobody-of-this-name/a")) == Path("~nobody-of-this-name/a")
