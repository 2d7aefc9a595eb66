"""Writes src/text/unicode_tables.c: the character classes as Hugging Face `tokenizers` sees them.

Its parts were built from different versions of Unicode (its normalisers from version 9 to 12, its
regular expressions and the Rust standard library from 16 and later), so the classes are asked from
the library itself, one character after the other.

    python3 tests/reference/unicode.py > src/text/unicode_tables.c

Needs tokenizers==0.23.3; Python 3.11 for Unicode 14 (that of PCRE2 10.42) in `unicodedata`.
"""
import sys
import unicodedata

import tokenizers
from tokenizers import Regex
from tokenizers import normalizers as N
from tokenizers import pre_tokenizers as P

assert tokenizers.__version__ == "0.23.3", tokenizers.__version__
assert unicodedata.unidata_version == "14.0.0", unicodedata.unidata_version

CODE_POINTS = [c for c in range(1, 0x110000) if not 0xD800 <= c < 0xE000]


def ranges(code_points):
    found = []
    for c in code_points:
        if found and found[-1][1] == c - 1:
            found[-1][1] = c
        else:
            found.append([c, c])
    return found


def emit(name, what, code_points):
    rows = ranges(code_points)
    cells = [f"{{0x{a:X}, 0x{b:X}}}" for a, b in rows]
    print(f"\n/* {what} */")
    print(f"const struct unicode_range unicode_{name}_ranges[] = {{")
    line = "   "
    for cell in cells:
        if len(line) + len(cell) + 2 > 100:
            print(line)
            line = "   "
        line += f" {cell},"
    print(line)
    print("};")
    print(f"const int unicode_{name}_count = {len(rows)};")


def split_class(pre_tokenizer, pieces):
    return [c for c in CODE_POINTS if len(pre_tokenizer.pre_tokenize_str("a" + chr(c) + "a")) == pieces]


def changed(normalizer, to):
    return [c for c in CODE_POINTS if normalizer.normalize_str(chr(c)) == to]


def bert(clean, chinese, accents):
    return N.BertNormalizer(clean_text=clean, handle_chinese_chars=chinese, strip_accents=accents,
                            lowercase=False)


def lower_exceptions():
    """Where the library's lower case is not the one of Unicode 15 (utf8proc 2.8)."""
    lower = N.Lowercase()
    for c in CODE_POINTS:
        ours = unicodedata.normalize("NFC", chr(c)).lower() if c != 0x130 else "i"
        theirs = lower.normalize_str(chr(c))
        if c != 0x130 and len(theirs) == 1 and chr(c).lower() != theirs:
            yield c, ord(theirs)
        assert c == 0x130 or len(theirs) == 1, hex(c)


CATEGORIES = "Lu Ll Lm Lo Lt Mn Mc Me Nd Nl No Po Pd Ps Pe Pi Pf Pc So Sc Sk Sm Cf".split()
# All of Unicode 14: a younger script's name is one that PCRE2 10.42 refuses.
SCRIPTS = """Adlam Ahom Anatolian_Hieroglyphs Arabic Armenian Avestan Balinese Bamum Bassa_Vah Batak
Bengali Bhaiksuki Bopomofo Brahmi Braille Buginese Buhid Canadian_Aboriginal Carian
Caucasian_Albanian Chakma Cham Cherokee Chorasmian Common Coptic Cuneiform Cypriot Cypro_Minoan
Cyrillic Deseret Devanagari Dives_Akuru Dogra Duployan Egyptian_Hieroglyphs Elbasan Elymaic Ethiopic
Georgian Glagolitic Gothic Grantha Greek Gujarati Gunjala_Gondi Gurmukhi Han Hangul Hanifi_Rohingya
Hanunoo Hatran Hebrew Hiragana Imperial_Aramaic Inherited Inscriptional_Pahlavi
Inscriptional_Parthian Javanese Kaithi Kannada Katakana Kayah_Li Kharoshthi Khitan_Small_Script Khmer
Khojki Khudawadi Lao Latin Lepcha Limbu Linear_A Linear_B Lisu Lycian Lydian Mahajani Makasar
Malayalam Mandaic Manichaean Marchen Masaram_Gondi Medefaidrin Meetei_Mayek Mende_Kikakui
Meroitic_Cursive Meroitic_Hieroglyphs Miao Modi Mongolian Mro Multani Myanmar Nabataean Nandinagari
New_Tai_Lue Newa Nko Nushu Nyiakeng_Puachue_Hmong Ogham Ol_Chiki Old_Hungarian Old_Italic
Old_North_Arabian Old_Permic Old_Persian Old_Sogdian Old_South_Arabian Old_Turkic Old_Uyghur Oriya
Osage Osmanya Pahawh_Hmong Palmyrene Pau_Cin_Hau Phags_Pa Phoenician Psalter_Pahlavi Rejang Runic
Samaritan Saurashtra Sharada Shavian Siddham SignWriting Sinhala Sogdian Sora_Sompeng Soyombo
Sundanese Syloti_Nagri Syriac Tagalog Tagbanwa Tai_Le Tai_Tham Tai_Viet Takri Tamil Tangsa Tangut
Telugu Thaana Thai Tibetan Tifinagh Tirhuta Toto Ugaritic Vai Vithkuqi Wancho Warang_Citi Yezidi Yi
Zanabazar_Square""".split()
# Of younger scripts: a character of the category, from scripts that no expression asks for.
OTHER = dict(Lu=0x10400, Ll=0x10428, Lm=0x16B40, Lo=0x10000, Mn=0x11C92, Mc=0x11CA9, Nd=0x104A0,
             Nl=0x103D1, No=0x10858, Pd=0x10EAD, Po=0x10857, So=0x16B3C, Sm=0x1D6C1)


def with_property(name, code_points):
    """Those that the library's \\p{name} matches."""
    probe = P.Split(Regex(rf"\p{{{name}}}"), "removed")
    return [c for c in code_points if not probe.pre_tokenize_str(chr(c))]


def stand_ins():
    """Characters that the regular expressions know and Unicode 14 does not, and others of the same
    category, script and length in UTF-8 that it does."""
    young = [c for c in CODE_POINTS if unicodedata.category(chr(c)) == "Cn"]
    category = {c: name for name in CATEGORIES for c in with_property(name, young)}
    old = [c for c in CODE_POINTS if unicodedata.category(chr(c)) not in ("Cn", "Co")]
    found, length = {}, lambda c: len(chr(c).encode())
    for script in SCRIPTS:
        mine = with_property(script, category)
        known = {}
        for c in with_property(script, old) if mine else []:
            known.setdefault((unicodedata.category(chr(c)), length(c)), c)
        for c in mine:
            to = known.get((category[c], length(c)))
            if not to:
                print(f"U+{c:04X} ({script}, {category[c]}): none of its script", file=sys.stderr)
                to = OTHER[category[c]]
            found[c] = to
    for c in category:
        to = found.setdefault(c, OTHER.get(category[c]))
        assert to and length(to) == length(c), (hex(c), category[c])
    return sorted(found.items())


def emit_map(name, what, pairs, constant):
    rows = []
    for c, to in pairs:
        if rows and rows[-1][1] == c - 1 and (to == rows[-1][2] if constant else to - c == rows[-1][2] - rows[-1][0]):
            rows[-1][1] = c
        else:
            rows.append([c, c, to])
    print(f"\n/* {what} */")
    print(f"const struct unicode_map_range unicode_{name}_ranges[] = {{")
    for a, b, to in rows:
        print(f"    {{0x{a:X}, 0x{b:X}, 0x{to:X}}},")
    print("};")
    print(f"const int unicode_{name}_count = {len(rows)};")


def frozen(form, python_form):
    normalizer = getattr(N, form)()
    return [c for c in CODE_POINTS if c > 0xFF and normalizer.normalize_str(chr(c)) == chr(c)
            and unicodedata.category(chr(c)) != "Cn" and unicodedata.normalize(form, chr(c)) != chr(c)]


print("/* Generated by tests/reference/unicode.py: do not edit. */")
print('#include "text/unicode_tables.h"')
print("\n/* clang-format off */")
emit("punctuation", "Punctuation, and BERT's", split_class(P.Punctuation(), 3))
emit("numeric", "Digits", split_class(P.Digits(individual_digits=True), 3))
emit("word", r"\w of Rust's regular expressions", split_class(P.Whitespace(), 1))
emit("control", "dropped by BertNormalizer's clean_text",
     changed(bert(True, False, False), ""))
emit("nonspacing", "dropped by BertNormalizer's strip_accents",
     changed(bert(False, False, True), ""))
emit("mark", "dropped by StripAccents; others have no combining class", changed(N.StripAccents(), ""))
emit("frozen", "have a compatibility decomposition that the library does not know",
     sorted(set(frozen("NFKD", "NFKD")) | set(range(0x1E030, 0x1E06E))))
emit_map("lower", "lower case: where Rust's tables are newer than utf8proc's",
         [(c, t) for c, t in lower_exceptions() if unicodedata.category(chr(c)) == "Cn" or c > 0x24F and chr(c).lower() == chr(c)], False)
emit_map("stand_in", "unknown to PCRE2 10.42: a character of the same category, script and length instead",
         stand_ins(), True)
