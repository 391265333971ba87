"""Texts are split into words in every script, and words joined to a text keep their places."""

from llmkit.tables.words import find_words, join_words, recognize_split


def split(text: str, how: str) -> list[str]:
    return [text[start:end] for start, end in find_words(text, how)]  # type: ignore[arg-type]


def test_words_end_at_spaces_punctuation_or_every_character() -> None:
    assert split("In Paris, I'm\u00a0ok.", "spaces") == ["In", "Paris,", "I'm", "ok."]
    assert split("In Paris, 3.5%", "punctuation") == ["In", "Paris", ",", "3", ".", "5", "%"]
    assert split("我在Paris 3", "characters") == list("我在Paris3")


def test_chinese_characters_are_words_and_combining_marks_stay_with_their_letters() -> None:
    assert split("我爱GPT4。かな", "punctuation") == ["我", "爱", "GPT4", "。", "か", "な"]
    assert split("हिन्दी भाषा", "punctuation") == ["हिन्दी", "भाषा"]
    assert split("한국어 서울", "punctuation") == ["한국어", "서울"]


def test_joined_words_have_spaces_except_between_chinese_characters() -> None:
    text, places = join_words(["我", "爱", "New", "York", "。"])
    assert text == "我爱 New York 。"
    assert [text[start:end] for start, end in places] == ["我", "爱", "New", "York", "。"]
    assert join_words([]) == ("", [])


def test_split_is_recognized_from_words() -> None:
    assert recognize_split([["Go", "to", "Paris."], ["Hello,", "you"]]) == "spaces"
    assert recognize_split([["Go", "to", "Paris", "."], ["Hello", ",", "A."]]) == "punctuation"
    assert recognize_split([list("我们在P8")]) == "characters"
    assert recognize_split([[*"我在北京", "Paris"]]) == "punctuation"
