"""Latin words of Chinese answers are split as NLTK's word_tokenize splits a sentence."""

import pytest

from llmkit.metrics.treebank import split_words

# What nltk 3.10.4's NLTKWordTokenizer returns.
EXPECTED = {
    "windows xp": ["windows", "xp"],
    "nt$25,000": ["nt", "$", "25,000"],
    "0.80%": ["0.80", "%"],
    '"the yes man"': ["``", "the", "yes", "man", "''"],
    '""oxford companion"': ["``", "``", "oxford", "companion", "''"],
    "s.k.": ["s.k", "."],
    "2.8 ghz.": ["2.8", "ghz", "."],
    "dtime(f(n))": ["dtime", "(", "f", "(", "n", ")", ")"],
    "1995—1996": ["1995", "—", "1996"],
    "last six (hours)——": ["last", "six", "(", "hours", ")", "—", "—"],
    "hey! say! jump": ["hey", "!", "say", "!", "jump"],
    "r&b": ["r", "&", "b"],
    "don't cannot": ["do", "n't", "can", "not"],
    "the cook's": ["the", "cook", "'s"],
    "ho(o)p(r)r'": ["ho", "(", "o", ")", "p", "(", "r", ")", "r", "'"],
    "nature, germany": ["nature", ",", "germany"],
    "gtk#": ["gtk", "#"],
    "": [],
}


@pytest.mark.parametrize("text", EXPECTED)
def test_words_are_those_of_nltk(text: str) -> None:
    assert split_words(text) == EXPECTED[text]
