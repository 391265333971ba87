"""Precision and recall of sentence boundaries in six languages, on 200 sentences each with hand-made boundaries.

Each file of data/sentences has one sentence a line. Five of them make a paragraph, joined as the language joins them;
only the boundaries inside paragraphs count. `python -m tests.text.test_sentence_boundaries` prints the table.
"""

from itertools import accumulate
from pathlib import Path

import pytest

from llmkit.text.language.sentences import find_sentence_ends

FOLDER = Path(__file__).parent / "data/sentences"
LANGUAGES = {"hi": "Hindi", "ur": "Urdu", "ar": "Arabic", "th": "Thai", "ru": "Russian", "ja": "Japanese"}
EXPECTED = {
    "hi": (0.99, 0.99),
    "ur": (0.99, 0.99),
    "ar": (0.99, 0.99),
    "th": (0.95, 0.85),
    "ru": (0.99, 0.97),
    "ja": (0.97, 0.98),
}
"""Smallest precision and recall, a little below those measured."""


def measure(language: str) -> tuple[float, float, int]:
    """Precision, recall, and the number of boundaries marked by hand."""
    sentences = (FOLDER / f"{language}.txt").read_text(encoding="utf-8").splitlines()
    space = "" if language == "ja" else " "
    n_marked = n_found = n_right = 0
    for first in range(0, len(sentences), 5):
        paragraph = sentences[first : first + 5]
        marked = set(list(accumulate(len(sentence) + len(space) for sentence in paragraph))[:-1])
        ends = find_sentence_ends(space.join(paragraph)).tolist()[:-1]
        found = {end + len(space) for end in ends}
        n_marked, n_found, n_right = n_marked + len(marked), n_found + len(found), n_right + len(marked & found)
    return n_right / n_found, n_right / n_marked, n_marked


@pytest.mark.parametrize("language", LANGUAGES)
def test_boundaries_marked_by_hand_are_found(language: str) -> None:
    assert len((FOLDER / f"{language}.txt").read_text(encoding="utf-8").splitlines()) == 200
    precision, recall, n_marked = measure(language)
    assert n_marked == 160
    assert precision >= EXPECTED[language][0]
    assert recall >= EXPECTED[language][1]


if __name__ == "__main__":
    print("| language | boundaries | precision | recall |\n| --- | --- | --- | --- |")
    for code, name in LANGUAGES.items():
        right, found, number = measure(code)
        print(f"| {name} | {number} | {right:.1%} | {found:.1%} |")
