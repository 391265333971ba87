"""Thai: line ends and the spaces between long runs are boundaries, others are not."""

from itertools import pairwise

import pytest

from llmkit.text.language.sentences import find_sentence_ends
from llmkit.text.language.thai_sentences import cut_thai


def cut(text: str) -> list[str]:
    starts = [0, *find_sentence_ends(text).tolist()]
    return [text[start:end] for start, end in pairwise(starts)]


@pytest.mark.parametrize(
    "marked",
    [
        "เมื่อวานนี้แม่ไปตลาดซื้อผักและปลา| พ่ออยู่บ้านซ่อมหลังคาที่รั่วทั้งวัน",
        "น้องชายของฉันชอบอ่านหนังสือมาก|\nพี่สาวชอบฟังเพลง",
        "เขาเดินไปที่สถานีรถไฟตั้งแต่เช้า เพราะเพื่อนจะมาถึงตอนแปดโมง",
        "บ้านหลังนี้สร้างเมื่อ 40 ปีก่อน โดยคุณตาของเขาเอง",
        "จริงหรือ?| ฉันไม่เชื่อ!",
    ],
)
def test_thai_is_cut_at_line_ends_and_between_long_runs(marked: str) -> None:
    assert cut(marked.replace("|", "")) == marked.split("|")


def test_a_thai_name_in_english_text_cuts_nothing() -> None:
    text = "The city of กรุงเทพมหานคร อมรรัตนโกสินทร์ is large and old, and it has many names that nobody uses."
    assert cut_thai(text, 0, [len(text)]) == [len(text)]
