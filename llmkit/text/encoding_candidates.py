"""The encodings that a text without a byte order mark may have, with how rare each is."""

# In the order of preference among those that give the same text. The number is subtracted from the score of a text:
# Windows, then ISO and KOI8, then DOS and Mac, then the rest.
_BY_RARITY = {
    0.0: "cp1252 cp1250 cp1251 cp1253 cp1254 cp1255 cp1256 cp1257 cp1258 cp874",
    1.0: "latin-1 iso8859-2 iso8859-5 iso8859-7 iso8859-8 iso8859-9 iso8859-15 koi8-r koi8-u iso8859-13 iso8859-6",
    2.5: "cp866 cp852 cp850 cp437 mac-roman mac-cyrillic mac-latin2 cp857 cp737 cp862 cp775",
    4.0: "iso8859-4 iso8859-16 iso8859-10 iso8859-3 iso8859-14 mac-greek mac-turkish mac-iceland cp855 cp720 cp869 cp865"
    " cp861 cp860 cp863",
}  # fmt: skip
SINGLE_BYTE = {name: rarity for rarity, names in _BY_RARITY.items() for name in names.split()}
MULTI_BYTE = {"gb18030": 0.0, "big5hkscs": 0.0, "cp950": 0.0, "cp932": 0.0, "euc_jp": 1.0, "cp949": 0.0}
CANDIDATES = SINGLE_BYTE | MULTI_BYTE
