"""A change of the encoding inside a file is found only if there is one."""

from languages import ENCODINGS, TEXTS, encode

from llmkit.text.decoding.encoding_changes import find_change
from llmkit.text.decoding.encoding_detection import (
    CANDIDATES,
)


def test_no_text_of_one_encoding_has_a_change_of_encoding() -> None:
    for language, encodings in ENCODINGS.items():
        for encoding in encodings.split():
            data = encode(TEXTS[language], encoding)
            if data is not None and encoding in CANDIDATES:
                assert find_change(data * 3, encoding) is None, (language, encoding)
