"""The language filter: wanted languages and short documents stay."""

import sys

import pytest

from llmkit.core.errors import EnvironmentFault, UsageError
from llmkit.text.cleaning import languages
from llmkit.text.cleaning.languages import TOO_SHORT, check_languages, find_language, read_sample


def test_languages_are_distinguished() -> None:
    pytest.importorskip("py3langid")
    texts = {
        "en": "The ferry left at dawn, and nobody on the bank knew where it went.",
        "zh": "话说天下大势，分久必合，合久必分。",
        "de": "Die Fähre fuhr bei Tagesanbruch ab, und niemand wusste wohin.",
        "ja": "私たちが川に着いたとき、もう暗くなっていて",
        "hi": "नदी के पास अँधेरा था। किसी को पता नहीं था।",
        "ru": "Паром ушёл на рассвете, и никто не знал куда.",
    }
    assert {code: find_language(text) for code, text in texts.items()} == {code: code for code in texts}


def test_a_rare_label_is_found_only_where_it_is_wanted() -> None:
    pytest.importorskip("py3langid")
    pidgin = "Di pipol dem dey waka go market wey dem wan buy food for dia pikin dem today."
    assert find_language(pidgin, ["pcm"]) == "pcm"
    assert find_language(pidgin, ["en"]) != "pcm"


@pytest.mark.parametrize("text", ["", "ok", "12345 " * 50, "一二三四", "!!! --- ???"])
def test_a_text_with_few_letters_is_too_short_to_judge(text: str) -> None:
    assert find_language(text) == TOO_SHORT


def test_a_long_text_is_judged_by_passages_from_all_of_it() -> None:
    pytest.importorskip("py3langid")
    header = "This header of the file is in English. " * 30
    assert find_language(header + "Паром ушёл на рассвете, и никто не знал куда. " * 500) == "ru"


@pytest.mark.parametrize(("code", "near"), [("english", "'en'"), ("zh-CN", "'zh'"), ("EN", "'en'"), ("jp", "'ja'")])
def test_an_unknown_code_is_refused_with_the_nearest_one(code: str, near: str) -> None:
    pytest.importorskip("py3langid")
    with pytest.raises(UsageError) as caught:
        check_languages(["zh", code])
    problem = caught.value.problems[0]
    assert repr(code) in problem.what
    assert near in problem.hint


def test_a_missing_package_is_an_error_with_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    languages._known_codes.cache_clear()
    monkeypatch.setitem(sys.modules, "py3langid.langid", None)
    with pytest.raises(EnvironmentFault) as caught:
        check_languages(["zh"])
    assert "pip install 'llmkit[languages]'" in caught.value.problems[0].hint


def test_the_sample_is_read_without_losing_a_part() -> None:
    parts = ["a" * 4000, "b" * 4000, "c" * 4000]
    sample, texts = read_sample(parts)
    assert sample == parts[0] + parts[1]
    assert list(texts) == parts
