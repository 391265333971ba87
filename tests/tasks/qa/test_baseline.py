"""The word-overlap baseline answers with words near those of the question."""

from llmkit.tables.answers import Answer
from llmkit.tables.questions import Question
from llmkit.tasks.qa.baseline import fit_word_overlap, guess_answer

CONTEXT = "A storm sank the ferry in May. The cook of the harbour inn won the great race in June. Rain fell all night."


def test_answer_is_near_the_words_of_the_question_and_has_none_of_them() -> None:
    assert guess_answer("Who won the great race in June?", CONTEXT, 2).text in {"harbour inn", "cook of", "Rain fell"}
    assert guess_answer("When did the storm sank the ferry?", CONTEXT, 1).text in {"A", "in", "May"}
    found = guess_answer("谁赢得了比赛？", "北京下雨。厨师赢得了比赛。国王回家。", 2)
    assert found.text in {"厨师", "国王"}


def test_score_is_the_sum_of_inverse_counts_in_the_best_window() -> None:
    # One question word, once in the context, within the window of 1 + 1 words: log(1 + 1 / 1).
    assert abs(guess_answer("cook", "the cook won", 1).score - 0.6931471805599453) < 1e-12
    # Twice in the context: log(1 + 1 / 2).
    assert abs(guess_answer("cook", "cook won a b c cook", 1).score - 0.4054651081081644) < 1e-12


def test_length_is_the_median_of_the_train_answers_and_odd_contexts_are_answered() -> None:
    questions = [
        Question("who?", CONTEXT, (Answer(text, 0, 1),), 0) for text in ("one", "two words", "now three words")
    ]
    baseline = fit_word_overlap(questions)
    assert baseline.n_words == 2
    odd = [Question("who?", context, (), 0) for context in ("", "?!", "one", "who", "who who who")]
    assert baseline.predict(odd) == ["", "", "one", "who", "who who"]
    assert fit_word_overlap([]).n_words == 1


def test_threshold_leaves_questions_without_overlap_unanswered() -> None:
    asked = [Question("who won the race?", CONTEXT, (Answer("cook", 0, 1),), 0)] * 3
    other = [Question("wie alt ist Zeus?", CONTEXT, (), 0)] * 3
    baseline = fit_word_overlap(asked).with_threshold([*asked, *other], "squad_2.0")
    assert baseline.predict(other) == ["", "", ""]
