"""Tables for sentence boundaries: final marks of all scripts, and abbreviations.

The marks are the characters with Sentence_Break=STerm of the Unicode Character Database (UAX #29), except those of
English and Chinese, which sentences.py handles by rules, and the Burmese comma U+104A. The Tibetan shad is added;
Unicode omits it because it also ends clauses.
"""

import re

TERMINALS = (  # of scripts other than Latin and Chinese; ranges of a character class
    "\u0589\u061d-\u061f\u06d4\u0700-\u0702\u07f9\u0837\u0839\u083d\u083e\u0964\u0965\u0f0d-\u0f11\u104b"
    "\u1362\u1367\u1368\u166e\u1735\u1736\u17d4\u17d5\u1803\u1809\u1944\u1945\u1aa8-\u1aab\u1b4e\u1b4f"
    "\u1b5a\u1b5b\u1b5e\u1b5f\u1b7d-\u1b7f\u1c3b\u1c3c\u1c7e\u1c7f\u2cf9-\u2cfb\u2e2e\u2e3c\u2e53\u2e54"
    "\u2e60\u2e61\ua4ff\ua60e\ua60f\ua6f3\ua6f7\ua876\ua877\ua8ce\ua8cf\ua92f\ua9c8\ua9c9\uaa5d-\uaa5f"
    "\uaaf0\uaaf1\uabeb\ufe12\ufe15\ufe16\ufe56\ufe57\U00010a56\U00010a57\U00010f55-\U00010f59"
    "\U00010f86-\U00010f89\U00011047\U00011048\U000110be-\U000110c1\U00011141-\U00011143"
    "\U000111c5\U000111c6\U000111cd\U000111de\U000111df\U00011238\U00011239\U0001123b\U0001123c\U000112a9"
    "\U000113d4\U000113d5\U0001144b\U0001144c\U000115c2\U000115c3\U000115c9-\U000115d7"
    "\U00011641\U00011642\U0001173c-\U0001173e\U00011944\U00011946\U00011a42\U00011a43"
    "\U00011a9b\U00011a9c\U00011c41\U00011c42\U00011ef7\U00011ef8\U00011f43\U00011f44\U00016a6e\U00016a6f"
    "\U00016af5\U00016b37\U00016b38\U00016b44\U00016d6e\U00016d6f\U00016e98\U0001bc9f\U0001da88"
)
NEVER_FIRST = "،؛؍:,;\u055d\u104a\u1363-\u1366\u1802\u1808\u07f8"
"""Commas and colons of these scripts, which never begin a sentence."""

UNCASED = re.compile("[\u0590-\u10ff\u1200-\u137f\u1700-\u1cff\ua800-\uabff]")
"""A letter or vowel sign of a script without capitals, from Hebrew to Khmer; Korean and Chinese have other rules."""

STAND_INS = re.compile(
    r"(?P<danda>(?<=[\u0900-\u0dff])\|(?=[\s\"'”’)]|\Z))"
    r"|(?P<greek>(?<=[\u0370-\u03ff\u1f00-\u1fff]);(?=[»”’\"')]*(?:\s|\Z)))|(?<=[\u0561-\u0587]):(?=\s|\Z)|\u1361\u1361"
)
"""Characters used in place of a script's own mark: a bar after Indian letters is a danda, Greek `;` a question mark,
Armenian `:` a full stop, two Ethiopic word separators a full stop."""
HAS_STAND_IN = re.compile("[\u0370-\u03ff\u0561-\u0587\u1361\u1f00-\u1fff]|[\u0900-\u0dff]\\|")


def replace_stand_ins(text: str) -> str:
    """Replace STAND_INS with the marks they represent; the length stays the same."""
    if text.isascii() or not HAS_STAND_IN.search(text):
        return text
    marks = {"danda": "\u0964", "greek": "?"}
    return STAND_INS.sub(lambda found: marks.get(found.lastgroup or "") or "\u0589" * len(found[0]), text)


EUROPEAN = (  # German, French, Spanish, Portuguese, Italian, Turkish, Polish, Vietnamese
    r"bzw|ca|evtl|ggf|inkl|exkl|sog|vgl|Nr|Str|Hr|Frl|Dipl|Ing|Tel|Abs|Bd|Kap|Abb|Hrsg|Mio|Mrd|geb|gest|ehem|allg|"
    r"bes|insb|Sra?|Srta|Dra|Uds?|EE|pág|núm|Exmo|Dott|Avv|[Ss]ig|Mme|Mlles|Doç|hab|np|tzn|tj|św|ks|mgr|inż|ul|"
    r"TP|Tp|PGS|GS|ThS|TS|BS|KS"
)
RUSSIAN = (
    r"гг|вв|ул|пл|просп|пер|корп|кв|стр|см|ср|рис|табл|гл|тт|проф|акад|доц|им|напр|гр|тов|гос|св|оз|обл|пос|дер|изд|"
    r"ред|сост|англ|нем|прим|тел|руб|коп|тыс|млн|млрд|долл|чел|ок|др|пр|вул|бул|див"
)
"""Abbreviations that may end a sentence if a common first word follows: в 1999 гг. Он уехал."""
RUSSIAN_ET_CETERA = re.compile(r"\b[Ии] (?:т\. ?[дп]|др|пр)\Z")
"""Abbreviations that end a sentence if a capital letter follows."""
RUSSIAN_FIRST_WORDS = (
    r"Он|Она|Оно|Они|Это|Этот|Эта|Эти|Но|И|А|В|Во|На|По|С|Со|У|За|К|Ко|О|Об|От|Из|До|При|Для|Без|Я|Мы|Вы|Ты|Его|Её|Ее|"
    r"Их|Как|Когда|Если|Что|Чтобы|Где|Там|Тогда|Так|Потом|После|Затем|Теперь|Сейчас|Все|Всё|Весь|Вся|Кто|Не|Ни|Да|Нет|"
    r"Тем|Только|Уже|Ещё|Еще|Здесь|Тут|Поэтому|Однако|Сегодня|Вчера|Завтра|Позже|"
    r"Він|Вона|Воно|Вони|Це|Цей|Ця|Ці|Але|Та|І|Й|Ми|Ви|Ти|Його|Її|Їх|Коли|Якщо|Що|Щоб|Де|Тоді|Потім|Після|Тепер|Зараз|"
    r"Усі|Всі|Хто|Ні|Так|Лише|Тільки|Вже|Ще|Тут|Однак|Сьогодні|Учора|Вчора|Пізніше|Від|Із|Під|Про"
)
GERMAN_ORDINAL = re.compile(
    r"\s(?:Januar|Februar|März|April|Mai|Juni|Juli|August|September|Oktober|November|Dezember|Jahrhunderts?|"
    r"Jh|Weltkriegs?|Kapitel|Stock|Geburtstag)\b"
)
"""Text after `3.` that shows an ordinal number."""

INDIC_ABBREVIATION = re.compile(
    r"(?!(?:है|हो|था|थी|थे|दो|लो|गा|गी|गे|ना|दे|ले|जा|की|के|को|से|में|ही|भी|तो|कर)\Z)[\u0900-\u0dff]{1,2}|"
    r"प्रो|ग्रा|श्री|श्रीमती|स्व|திரு|எம்|எஸ்|என்|ஆர்|எல்"
)
"""डॉ. कि.मी. बी.ए.: at most two characters, but not the short verbs and postpositions that end sentences."""
ARABIC_ABBREVIATION = re.compile(r"(?:[^\W\d_]\.)*[^\W\d_]|هـ|أ\.د|ق\.م")

_LETTER_NAMES = "ایم|ایس|اے|بی|سی|ڈی|ای|ایف|ایچ|جے|ایل|این|او|کیو|آر|ٹی|یو|وی|ڈبلیو"
_AMBIGUOUS_NAMES = "پی|آئی|جی|کے"
_URDU_NAME = re.compile(rf"(?:^|(?<=[\s(“\"۔]))(?:({_LETTER_NAMES})|{_AMBIGUOUS_NAMES})\Z")
_URDU_NEXT_INITIAL = re.compile(rf"۔\s?(?:{_LETTER_NAMES}|{_AMBIGUOUS_NAMES})۔")


def is_urdu_initial(text: str, start: int, dot: int) -> bool:
    """Whether the full stop at `dot` follows the name of a Latin letter, as in ایم۔ اے۔ جناح; looks back to `start`.

    Names that are also words (پی drank, آئی came) are initials only next to another initial.
    """
    found = _URDU_NAME.search(text[start:dot])
    if not found:
        return False
    follows_initial = text[start + found.start() - 1] == "۔" if found.start() else False
    return bool(found[1]) or follows_initial or _URDU_NEXT_INITIAL.match(text, dot) is not None


JAPANESE_QUOTATIVE = re.compile(r"と(?!て|にか|ころ|りあ|うと|きど|もか|もあ|もだ|ても)|って|を|などと|なんて|という")
"""Text that follows 」 if the sentence continues: 「はい。」と言った."""
