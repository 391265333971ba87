"""The word baseline predicts the most frequent tag of each word."""

from llmkit.tasks.ner.baseline import WordBaseline


def test_most_frequent_tag_of_a_word_then_of_its_lower_case_then_o() -> None:
    baseline = WordBaseline([(["Win", "win", "win", "cash"], [1, 2, 2, 3]), (["cash"], [4])])
    assert baseline.predict(["Win", "win", "WIN", "cash", "new"]).tolist() == [1, 2, 2, 3, 0]
