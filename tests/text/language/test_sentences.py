"""Sentence ends: a bar in an example stands where the text is cut, and it is cut nowhere else."""

import time
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from llmkit.text.language.sentences import MAX_SENTENCE_CHARS, find_sentence_ends


def cut(text: str) -> list[str]:
    starts = [0, *find_sentence_ends(text).tolist()]
    return [text[start:end] for start, end in pairwise(starts)]


@pytest.mark.parametrize(
    "marked",
    [
        "He said.| He left.",
        "He said. he left.",
        "Is it?| Yes!| What?!| Well...| Then go…| So he did.",
        "The end\nof a line is\nno end.| But this\nis.\nno.",
        # quotes and brackets
        '"Stop!" he cried.| "Why?" she asked.| "Because."| They stopped.',
        "“Stop!” he cried.| “Why?” she asked.| “‘Because.’”| ‘They stopped.’",
        "“Stop!” he cried.| “Stop.”| He stopped.",
        "(It rained.)| We stayed [at home.]| He asked (why?) and left.",
        "_Very_ good._| Yes.| **Bold.**| «Sí.»| Élan.| ¿Qué?| ¡Vamos!",
        "He wrote it.[1]| She read it.[2][13]| Both slept.",
        "“And”|\n\n“Then.”",
        # abbreviations
        "Mr. and Mrs. Brown met Dr. Smith, Prof. Jones and St. Clair.| They left.",
        "—Mr. Darcy—Mr.\nBingley came in.| (Mr. Hurst slept.)| ‘Mr. Hurst?’",
        "Messrs. Carter, Capt. Peleg, Col. Openshaw, Gen. Lee, Rev. Elton and Hon. Arthur came.| They ate.",
        "He saw M. de Treville and M. Defarge.| Then he left.",
        "Use e.g. Alice, i.e. Bob, cf. Carol vs. Dave.| Good.",
        "Apples, pears, etc. are fruit.| Apples, pears, etc.| They are fruit.",
        "See No. 5, Vol. 2, vol. II, Fig. 3 and p. 12.| “No.| I will not.”",
        "He came on Sept. 5.| It was Dec. 6, 1850.| Snow fell.",
        "Smith & Co. Offices were shut.| He works at Acme Inc.| The pay is low.",
        "John Smith, Jr. Esq. Barrister left.| He left John Smith, Jr.| They both left.",
        "In the U.S. Congress.| She left the U.S.| They met at 6 a.m. Monday and at 5 p.m.| It rained.",
        "“The Cat.| ‘Yes,’ said the Cat.| ‘Do you play?’",
        # initials and labels
        "J. R. R. Tolkien met C. S. Lewis.| J.R.R. Tolkien wrote.",
        "We go, you and I.| They stay.| This is Forster's.| Kitty and I don’t.| Fine.",
        "A. S. Pushkin; А. С. Пушкин.| Он пришёл.| Она ушла. и всё.",
        "CHAPTER IV. The Period|\n\n1. Wash it.| 2. Dry it.| 1.E.8. You may copy it.",
        "The H. americanus.| It was P. c. puma.",
        # numbers, addresses, files
        "Pi is 3.14.| It cost $1,000.50 in v2.0.1 of it.| Yes.",
        "In 1850.| 20 men died.| It was 1851.| Snow fell.",
        "See www.example.org/a.b?c=D! or mail a.b@example.com, file readme.md.| Now.",
        # pauses that end nothing
        "He paused.| “...And so on.”| He said, “... And so on.”| ’Tis.| ‘Twas … what?’",
        "He paused . . . and went on.| He stopped . . .| Then he slept; He woke.",
        "Wait ... what?| Well--no!--yes.| Stop!| —And I—stopped.",
        # tokenized text, as in WikiText
        'He said " It is . "| The dog ran .| " Yes , " it said .| <unk> left .',
        'He said " Go . "| Then " he .|\n She said " Go . "| He left .',
        "그는 갔다.| 그녀는 왔다.",
    ],
)
def test_english_is_cut_after_its_sentences_and_nowhere_else(marked: str) -> None:
    assert cut(marked.replace("|", "")) == marked.split("|")


@pytest.mark.parametrize(
    "marked",
    [
        "他来了。|她走了！|真的吗？|好；|不好。",
        "他来了｡|她走了。| 好。|\n好。|\n\n　　好",
        "真的吗？！|太好了！！！|唉……|走吧……|“……好。”",
        # closing quotes and brackets belong to the sentence
        "他说：“你好。”|然后走了。",
        "“开门！”|他喊道：「谁？」|『我。』|（真的。）|【完。】|好",
        "“他说：‘好。’”|然后走了。",
        "他说：「……好。」|走。",
        "“好！”，他说。|“好。”、“坏。”",
        # a straight quote closes or opens
        '他说："你好。"|然后走了。|"再见！"|她说。|"好。|我走。"|走了。',
        '他说："你好。|\n"再见。"|走了。',
        # titles
        "《谁是英雄？》是一本书。|《完了！》|\n好。",
        # ASCII marks after Chinese
        "你好!|你是谁?|走了;|好.",
        "走吧......|好吧...|A;B",
        "他走了.| 她来了.|\n好",
        # full-width full stop, only between Chinese letters
        "他走了．|她来了．|好",
        "一．总则",
        "３．１４，1．总则",
        # numbers, Latin
        "圆周率是3.14，第3.5节。|版本2.0.1，网址a.b.com。|100元；|20元。",
        "我用C++。|Then he left.| 他说 Mr. Smith 来了。|好",
        # lines and paragraphs
        "第一回　桃园结义|\n\n　　话说天下大势。|\n分久必合",
        "道可道\n非常道。|名可名",
        # Japanese
        "「はい。」と言った。|そうですか。|はい！|「ええ」",
        "「はい。」|それから、行った。",
        "注。[1]|然后。",
        "好。|（完）",
        "他说，“好”。|她说，（好）！|走",
        "十二．附则",
        "好？|——不好。——",
        "他（真的。|好）走了",
        "他说。“……”|\n\n“！”",
        "一、好。|二、不好。",
        # ASCII marks without spaces, full-width brackets inside a sentence, Latin abbreviations in Chinese
        "他去了市场.|妈妈在家.|船在哪里?|不知道!",
        "昨天约翰.史密斯和乔治.布什来了。",
        "十二.附则",
        "彼は（もちろん！）行った。|私は行かない。|（完。）|次",
        "一，车马（戎辂，兵车也。）|二，衣服（赤舄，朱履也。）",
        "他说Mr. Smith来了。|好",
    ],
)
def test_chinese_and_japanese_are_cut_after_their_sentences_and_nowhere_else(marked: str) -> None:
    assert cut(marked.replace("|", "")) == marked.split("|")


@pytest.mark.parametrize(
    "marked",
    [
        # danda; a full stop after a short word is an abbreviation
        "वह आया।| वह चला गया।|किसने कहा?| मैंने!",
        "डॉ. शर्मा ने बी.ए. किया।| वे 3.5 कि.मी. चले।| प्रो. वर्मा नहीं आए।",
        "ईसा पूर्व ॥ 12॥| दूसरा श्लोक॥| अंत",
        "সে এল।| তুমি কে?| আমি।",
        "तो आला आहे.| ती गेली नाही.| ठीक.",
        # Arabic, Urdu, Persian
        "من أنت؟| أنا علي.| حسنا!| نعم، أعرف؛ لا.",
        "قال: «هل تأتي؟»| ثم خرج.|‏ وعاد".replace("|‏", "‏|"),
        "د. أحمد هنا.| جاء أ.د. محمد في 3.5 ساعة.",
        "وہ آیا۔| تم کون ہو؟|میں ہوں۔|ایم۔ اے۔ جناح یہاں ہیں۔| وہ پی۔ایچ۔ڈی ہے۔",
        "او می‌رود.| تو کجایی؟| اینجا.",
        # other scripts with marks of their own
        "እሱ መጣ።| እሷ ሄደች።| ማን ነህ፧| እኔ፡፡| እሺ",
        "Նա եկավ։| Դու ո՞վ ես:| Ես",
        "သူ လာသည်။| သူမ သွားသည်၊ ပြန်သည်။|နေသည်",
        "គាត់មក។| នាងទៅ។|ចប់",
        "བཀྲ་ཤིས།| བདེ་ལེགས། །| ཡག་པོ",
        "Τι κάνεις;| Καλά είμαι.| Εσύ;",
        "שלום.| מה שלומך?| טוב!",
        # Russian, German
        "Он жил в г. Москве на ул. Ленина, д. 5, т. е. рядом.| Потом уехал.",
        "В 1999 г.| Он уехал, и т. д.| Да, давно.",
        "— Куда ты? — спросил он.| — Домой.| А. С. Пушкин писал.",
        "Am 3. Oktober kam Dr. Müller, z. B. Hr. Klein bzw. Frau Groß.| Es war gut.",
        "El Sr. López vive en EE. UU. desde 1999.| ¿Y tú?| Il sig. Bianchi è qui.",
        "Prof. dr hab. Jan Kowalski mieszka na ul. Długiej 5.| To np. Warszawa.",
        "אמר: ״לך!״| הוא הלך.",
        "„Komm!“| Er ging.| Sie rief: „Halt.“| Ende.",
        "اس نے کہا: ”چلو۔“| وہ چلا۔",
        # Chinese closed with ASCII marks, Japanese
        "他说：“走吧!”|然后走了。|她说：“好.”|他笑了。",
        "「もう行く？」と聞いた。|「うん。」って言った。|とても寒い。",
    ],
)
def test_other_scripts_are_cut_at_their_own_marks_and_nowhere_else(marked: str) -> None:
    assert cut(marked.replace("|", "")) == marked.split("|")


def test_sixty_lines_of_hindi_give_240_sentences() -> None:
    lines = (f"नदी के पास अँधेरा था। किसी को पता नहीं था। नाव {n} कहाँ है। हम सुबह तक रुके रहे।\n" for n in range(60))
    assert len(cut("".join(lines))) == 240


def test_empty_text_has_no_sentence() -> None:
    ends = find_sentence_ends("")
    assert ends.shape == (0,)
    assert ends.dtype == np.int64


def test_the_last_sentence_takes_the_white_space_that_ends_the_text() -> None:
    assert cut("\n\n  One.\n\nTwo. \n\n \n") == ["\n\n  One.", "\n\nTwo. \n\n \n"]
    assert cut(" \n\n ") == [" \n\n "]


@pytest.mark.parametrize("blank", ["\n\n", "\n \t\n", "\n\u3000\n", "  \n\n\n\n", "\n \n \n   "])
def test_a_blank_line_ends_a_sentence_without_a_mark(blank: str) -> None:
    assert cut(f"CHAPTER I{blank}it was") == ["CHAPTER I", f"{blank}it was"]
    assert cut(f"第一回{blank}话说") == ["第一回", f"{blank}话说"]


def test_only_a_paragraph_of_its_own_is_marks_alone() -> None:
    assert cut("One.\n\n* * *\n\nTwo.") == ["One.", "\n\n* * *", "\n\nTwo."]
    assert cut("他说。\n”\n\n好。") == ["他说。\n”", "\n\n好。"]
    assert cut("“No.” ! Yes.") == ["“No.” !", " Yes."]
    assert cut("One.\n\n?! Two.") == ["One.", "\n\n?! Two."]


@pytest.mark.parametrize(
    ("line", "end"),
    [
        ("a line of verse, no mark; and on\n", "on"),
        ("a clause and one more, and ", ","),
        ("没有句号，只有逗号", "，"),
        ("words 1,000 and ", ""),
    ],
)
def test_a_long_sentence_is_cut_at_its_last_pause(line: str, end: str) -> None:
    text = (line * 200)[:5000]
    pieces = cut(text)
    assert len(pieces) <= 6
    assert max(map(len, pieces)) <= MAX_SENTENCE_CHARS
    assert all(piece.endswith(end) for piece in pieces[:-1])
    assert not any(piece[-1].isspace() for piece in pieces[:-1])
    words = [word for piece in pieces for word in piece.split()]
    assert words == text.split() or end == "，"


def test_a_sentence_of_the_greatest_length_stays_whole() -> None:
    words = "word, " * 166
    text = words + "end."
    assert len(text) == MAX_SENTENCE_CHARS
    assert cut(text + " Then.") == [text, " Then."]
    assert cut("ab " * 333 + "c tail") == ["ab " * 333 + "c", " tail"]
    assert cut("x" + text) == ["x" + words.rstrip(), " end."]


def test_a_word_is_cut_only_where_there_is_no_pause() -> None:
    assert [len(piece) for piece in cut("a" * 2500)] == [1000, 1000, 500]
    assert cut("ab " + "a" * 1000) == ["ab", " " + "a" * 999, "a"]


@pytest.mark.parametrize(
    "text",
    [
        "." * 1_000_000,
        "\n" * 1_000_000,
        "a" * 5_000_000,
        " " * 1_000_000,
        "！" * 1_000_000,
        '"' * 1_000_000,
        "." + "”" * 1_000_000,
        "! " + "(" * 1_000_000,
        "a. " * 100_000,
        '! "' * 100_000,
        '。"' * 100_000,
        "A.B." * 100_000,
        "。——" * 100_000,
        "1. " * 100_000,
        "a\n\n" * 100_000,
        ("a" + " " * 500 + "\n") * 1000,
        "他说：“好。”" * 100_000,
        "।" * 1_000_000,
        "क। " * 100_000,
        "और 5 ॥" * 100_000,
        "กก และ " * 100_000,
        "เมื่อ" * 100_000 + " ก" * 100_000,
        "ایم۔ " * 100_000,
        "፡፡" * 200_000,
        "。“" * 200_000,
    ],
    ids=lambda text: repr(text[:3]),
)
def test_a_hostile_text_takes_linear_time(text: str) -> None:
    start = time.process_time()
    ends = find_sentence_ends(text)
    # A second at most; the square of its length would take many minutes.
    assert time.process_time() - start < 20
    assert ends[-1] == len(text)


_WORDS = ["Mr.", "He", "he", "U.S.", "No. 5", "e.g.", "3.14", "[1]", "<unk>", "……", "...", "?!", "\n\n", "\r\n"]
_LONG = ["x" * 400, "字" * 700, " " * 600, "，" * 300]
_PIECES = st.sampled_from([*"他好。．；.”\"'》)“「—*,，5 \n\u3000\x1c", *_WORDS, *_LONG])


@settings(deadline=None)  # a slow machine is no fault
@given(st.one_of(st.text(max_size=200), st.lists(_PIECES, max_size=40).map("".join)))
@example('." ')
@example("。" + " " * 2000 + "x")
@example("\n\n" + "." * 1001 + "\n\n")
def test_the_pieces_are_the_text_and_none_is_empty_or_too_long(text: str) -> None:
    ends = find_sentence_ends(text)
    assert ends.dtype == np.int64
    assert "".join(cut(text)) == text
    assert (ends[-1] if len(ends) else 0) == len(text)
    lengths = np.diff(ends, prepend=0)
    assert (lengths > 0).all()
    assert (lengths <= MAX_SENTENCE_CHARS).all()


@settings(deadline=None)
@given(st.lists(_PIECES, max_size=40).map("".join))
def test_a_paragraph_is_cut_the_same_whatever_follows_it(text: str) -> None:
    text = "Begin " + text.strip() + " end"
    assert cut(text + "\n\nNext.")[:-1] == cut(text)


def test_lower_cased_text_keeps_its_sentences() -> None:
    text = 'Mr. Holmes sat down. "Well!" said he. It was 3.14 miles, i.e. far. We went on. ' * 20
    cased, lowered = cut(text), cut(text.lower())
    assert 0.9 < len(lowered) / len(cased) < 1.3  # without capitals, said he begins one
    assert "".join(lowered) == text.lower()


@pytest.mark.parametrize(
    "marked",
    [
        "the cat sat.| the dog ran!| “was it?”| yes.",
        "ich kam.| über uns ist es weiß.| äpfel.",
        "łódź jest duża.| żaba skacze.| świat śpi.",
        "đây là nhà.| ở đâu?| ăn cơm.",
        "ένα.| ύστερα ήρθε.| όχι!| άλλο.",
        "see a.com, i.e. this; e.g. that.| mr. smith left.",
        "MR. SMITH SAW DR. JONES.| THEY LEFT.| NO.",
    ],
)
def test_short_text_without_capitals_is_cut_at_its_marks(marked: str) -> None:
    assert cut(marked.replace("|", "")) == marked.split("|")


@pytest.mark.parametrize(
    "marked",
    [
        "სახლში წავედი.| სად ხარ?| ბ-ნი გიორგი მოვიდა.| კი.",
        "나는 갔다.| 3.5미터였다.| 좋아요!",
        "Він народився 1814 р.| Він помер.| То був ХХ ст.| Але ні.",
        "И т.д.| Всё.",
        "Yes!😀| No?😢👍🏽| Done.",
        "好吃。😋|下一句。",
        "彼は「行く。」と「帰る。」を言った。|次。",
        "Tôi về.| TP. Hồ Chí Minh rất đẹp.| GS. Nam đến.",
        "Il vint.| « Où est-il ? »| Marie arriva.| «\u202fOui.\u202f»| Non.",
        "Er ging.| »Ja.«| Sie blieb.| »Nein«, sagte er.",
    ],
)
def test_sentences_of_more_languages(marked: str) -> None:
    assert cut(marked.replace("|", "")) == marked.split("|")


@pytest.mark.parametrize("text", ["वह बाज़ार गया| माँ घर पर थी| “नाव कहाँ है|” कोई नहीं जानता।", "সে গেল| মা ছিল| নৌকা| নেই।"])
def test_a_bar_after_an_indian_word_ends_a_sentence(text: str) -> None:
    assert len(cut(text)) == 4
    assert len(cut("| नाम | उम्र |\n| राम | ५ |")) == 1
