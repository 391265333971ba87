"""An error is three lines per problem and a fixed exit code, and survives pickling."""

import pickle
import re

import pytest

from llmkit.core import errors
from llmkit.core.errors import DataError, Interrupted, LlmkitError, Problem, UsageError, did_you_mean

KINDS = LlmkitError.__subclasses__()


def test_exit_codes_are_those_of_the_table_in_the_docstring() -> None:
    table = re.findall(r"\+-- (\w+) +(\d)", errors.__doc__ or "")
    assert {kind.__name__: str(kind.exit_code) for kind in KINDS} == dict(table)
    assert len({kind.exit_code for kind in KINDS} - {0, 1}) == len(KINDS) == 5
    assert Interrupted(15, "stopped").exit_code == 143
    assert not issubclass(Interrupted, Exception), "whoever handles errors would swallow it"


def test_each_problem_is_three_lines_whatever_its_texts_hold() -> None:
    error = UsageError.from_problems([Problem("a\nb", "c\x1b[2J", "d"), Problem("e", "f", "g")])
    first, second = str(error).split("\n\n")
    assert first == "error: a⏎b\nwhere: c\\x1b[2J\nhint:  d"
    assert second == "error: e\nwhere: f\nhint:  g"


@pytest.mark.parametrize("kind", KINDS)
def test_error_survives_pickling(kind: type[LlmkitError]) -> None:
    error = kind.from_problems([Problem("a", "b", "c"), Problem("d", "e", "f")])
    found = pickle.loads(pickle.dumps(error))
    assert type(found) is kind
    assert (found.problems, found.exit_code, str(found)) == (error.problems, kind.exit_code, str(error))


def test_did_you_mean_suggests_the_nearest_name_or_lists_all() -> None:
    known = ["learning_rate", "weight_decay"]
    assert did_you_mean("lerning_rate", known) == "did you mean 'learning_rate'?"
    assert did_you_mean("zzz", known) == "known: learning_rate, weight_decay"
    assert did_you_mean("zzz", ["a\x1b"]).isprintable()


def test_error_is_caught_by_its_kind_and_as_one_of_ours() -> None:
    with pytest.raises(LlmkitError, match="error: broken"):
        raise DataError("broken", where="a.txt", hint="mend it")
    assert UsageError("what", where="w", hint="h").args == ("what",)
