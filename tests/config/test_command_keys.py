"""A key given for a command is read by that command, or refused."""

import pytest

from llmkit.config.command_keys import READ_BY, check_overrides, is_key, reads
from llmkit.config.schema import make_schema
from llmkit.core.errors import UsageError


def list_keys() -> list[str]:
    """All keys of all recipes."""
    schema = make_schema()
    found: list[str] = []

    def walk(prefix: str, value: dict) -> None:  # type: ignore[type-arg]
        for name, part in value["properties"].items():
            key = f"{prefix}{name}"
            if "$ref" in part:
                walk(f"{key}.", schema["$defs"][part["$ref"].rpartition("/")[2]])
            elif not part.get("deprecated"):
                found.append(key)

    walk("", schema)
    return found


KEYS = list_keys()


@pytest.mark.parametrize("command", list(READ_BY))
def test_every_key_is_read_or_refused_by_name(command: str) -> None:
    refused = [key for key in KEYS if not reads(command, key)]
    assert "train.max_steps" in refused and len(refused) < len(KEYS)
    for key in KEYS:
        assert is_key(tuple(key.split("."))), key
        if key in refused:
            with pytest.raises(UsageError, match=f"does not read {key}"):
                check_overrides(command, [f"{key}=1"])
        else:
            check_overrides(command, [f"{key}=1"])


@pytest.mark.parametrize("command", list(READ_BY))
def test_every_key_that_a_command_reads_exists(command: str) -> None:
    for known in READ_BY[command]:
        assert any(key == known or (known.endswith(".") and key.startswith(known)) for key in KEYS), known


def test_unknown_keys_and_options_are_left_to_the_recipe_and_all_unread_keys_are_listed() -> None:
    check_overrides("predict", ["cls.txet=1", "evaluate.batch_size", ("--split", "train.seed=1")])
    with pytest.raises(UsageError) as caught:
        check_overrides("eval", ["train.seed=1", "cls.split_seed=2"])
    assert len(caught.value.problems) == 2
    assert "cls.split_seed" in str(caught.value)
