"""Unusual texts by name, so that a failing test says which kind of text it is."""

import unicodedata

ENGLISH = (
    "It is a truth universally acknowledged, that a single man in possession of a good fortune, must be in want of a\n"
    'wife.\n\n  CHAPTER II.\n"My dear Mr. Bennet," said his lady to him one day, "have you heard?" — It didn\'t.\n'
)
CHINESE = "却说曹操大喜，遂引兵追之。玄德曰：“此天助我也！”\n　　次日天明，众将皆至……《三国演义》第一回、\n"

ACCENTED = "Ångström Ệ ǭ ế Việt Nam tiếng Việt école Σίσυφος ǰ ガギグ 한국어 ﬁ ① Å Ω ñ ü ṩ ḍ̇ é̂"
CORPUS = {
    "English": ENGLISH,
    "Chinese": CHINESE,
    "mixed scripts": "GPT-2是2019年发布的模型，参数量1.5B。他说：“Hello，world！”然后走了。COVID-19疫情 in 2020年3月。"
    * 20,
    "European": "Straße, ÉCOLE, Œuvre, naïve façade; Ångström, İstanbul'da ılık, Žluťoučký kůň, łódź, ñandú, ẞ ſ ŉ ǰ.",
    "Greek and Russian": "ΣΊΣΥΦΟΣ ὁ Σίσυφος, ᾳ ῼ. Съешь же ещё этих мягких французских булок, да выпей чаю. Ё ё Й й",
    "right to left": "שָׁלוֹם עולם! مرحبا بالعالم، كيف حالك؟ \u202eabc\u202c \u200fא1ב2\u200e ـــ ﷺ ﻼ ١٢٣ ۴۵۶",
    "Indic and Thai": "हिन्दी में नमस्ते क्ष त्र ज्ञ १२३ বাংলা தமிழ் ภาษาไทยไม่มีช่องว่าง ກຂຄ မြန်မာ ខ្មែរ བོད་ཡིག",
    "Korean and Japanese": "한국어 텍스트 ㄱㄴㄷ \u1112\u1161\u11ab カタカナ ひらがな 漢字かな文。ﾊﾝ か\u3099 ー々",
    "emoji": "👩\u200d👩\u200d👧🏽 🏳️\u200d🌈 👍🏿👍🏻 🇫🇷🇩🇪🇯🇵 1️⃣ #️⃣ ☺️☺ 🫠 🤷🏽\u200d♀️ ❤️\u200d🔥 ©️ ™",
    "combining marks": "e\u0301 a\u0302\u0301 n\u0303 \u0301 x"
    + "\u0301" * 60
    + " Z\u0351\u036b\u0343a\u030al\u0353go \u0338<\u0338=\u0338",
    "NFC": unicodedata.normalize("NFC", ACCENTED),
    "NFD": unicodedata.normalize("NFD", ACCENTED),
    "NFKC": unicodedata.normalize("NFKC", ACCENTED),
    "compatibility forms": "ﬁ ﬀ ﬃ ½ ⅷ Ⅻ ① ㈱ ㎏ ㍿ ＡＢＣ１２３！ ｱｲｳ Ω K Å \u2126\u212a\u212b ² ₂ ª º …‥ ﹏﹃",
    "control characters": "".join(map(chr, range(32)))
    + "\x7f"
    + "".join(map(chr, range(0x80, 0xA0)))
    + "a\x00b\x1b[31mred",
    "invisible characters": "a\u00adb\u200bc\u200cd\u200de\u2060f\ufeffg\u180eh\u034fi\ufe0fj\U000e0001k \u2028\u2029",
    "white space": "a\tb\u00a0c\u1680d\u2003e\u202ff\u205fg\u3000h\u0085i \t \n \r\n \f\v  \u3000\u3000 "
    + " " * 40
    + "x",
    "CRLF": ENGLISH.replace("\n", "\r\n"),
    "CR": ENGLISH.replace("\n", "\r"),
    "mixed line ends": "a\r\nb\rc\nd\r\r\ne\n\rf\r\n\r\n\n\r\n  g\n \n\n\n\n",
    "long runs": " ".join(
        c * n for c in ("a", "Z", "7", "!", "é", "中", "。", "\u0301", "_", "-", "ж") for n in (17, 100, 1001)
    ),
    "long line ends": "a" + "\n" * 300 + "b" + "\r\n" * 300 + "c" + " \n" * 300,
    "one long word": "antidisestablishmentarianism" * 400,
    "one long line of Chinese": "天下大势分久必合合久必分" * 400,
    "numbers": "0 00 1,234,567.89 -1.5e-10 1/2 0x1F 192.168.0.1 2026-11-28T21:31:07Z 12345678901234567890 1st x1y22",
    "apostrophes": "it's IT'S we'll've I'd'm 'tis rock'n'roll ’s ‘quoted’ '''s ''ll O'Neill's d'Artagnan",
    "punctuation": '!!! ??? ... --- *** ((( ))) [[]] {{}} <<>> ;;;;:::: """ `` \'\' // \\\\ |||| ~~~ ^^^ $$$ %%% @',
    "code": "def f(x):\n    return {'a': [x**2 for _ in range(10)]}  # ünï\n\tif x!=0&&y<=1||!z { a->b::c(); }\n\n\n",
    "markup": '<p class="x">Tom &amp; Jerry&nbsp;&lt;3</p><br/>\n| a | b |\n|---|---|\n[link](https://x.org/?q=a%20b#e_f)',
    "special tokens": "<|endoftext|> a<|endoftext|>b <pad><unk></s><s><eos> [CLS][SEP] [MASK] [UNK] <|im_start|> ##a",
    "mathematics": "∀x∈ℝ: ⌈x⌉ = −⌊−x⌋ ⇒ ∑ᵢ₌₁ⁿ i² ≈ ∫₀¹ 𝑓(𝑥)d𝑥 𝔘𝔫𝔦𝔠𝔬𝔡𝔢 ≠ ≢ ≮ \u2260\u0338 ½±¼ °C µm Å",
    "rare planes": "𠀀𠮷𡃁 𐍈𐌰 🀄🂡 \U0001f9ff\U0010fffd \ue000\uf8ff \ufffd\ufffe\uffff \U000f0000 \u2f00 〇㐀\uf900",
    "nothing": "",
    "only white space": " \n\t\r\n \u3000",
}
