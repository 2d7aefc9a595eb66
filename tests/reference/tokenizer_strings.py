"""Strings that tokenizers find hard: the same ones on every run."""
import random
import unicodedata

WORDS = ("the The a of and movie film Drama|Comedy rating: 3.0 1.88 1999 Tape, don't I'll you're it's we've "
         "THEY'RE DON'T 'tis o'clock naïve café Straße İstanbul ﬁne Ⅷ x² ½ №5 C++ e.g. user@example.org "
         "https://example.org/a?b=c&d=%20 __init__ snake_case CamelCase 0x1F 1,000,000.00 $5 €9.99 100% #1 "
         "hello-world (nested [brackets]) “quoted” ‘single’ — … ... !!! ?! ;) <b>bold</b> {json: null} \\n").split(" ")

ALPHABETS = [
    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ", "0123456789", "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~",
    "   \n\t\r", "éüñçÅøłžß̧́̂", "αβγΩЖдыџאבגדمراحبا٠١٢हिन्दीবাংলাதமிழ்ไทยລາວမြန်မာខ្មែរ",
    "中文漢字日本語ひらがなカタカナ한국어㐀𠀀", "\u0300\u0301\u0308\u0327\u0345\u05b0\u064e\u093c\u0e31\u20d0",
    "\0\x01\x08\x0b\x0c\x1b\x1f\x7f\x80\x85\x9f\xa0\xad\u180e\u200b\u200d\u2028\u202e\u2060\u3000\ufeff\ufffd",
]
EMOJI = ["👨‍👩‍👧‍👦", "🏳️‍🌈", "👍🏽", "🇩🇪", "❤️", "🧑🏿‍🚀", "1️⃣", "🏴󠁧󠁢󠁳󠁣󠁴󠁿", "😀", "👩‍❤️‍💋‍👨"]
SPECIALS = ["<|im_start|>", "<|im_end|>", "<|endoftext|>", "<think>", "</think>", "<tool_call>", "[CLS]", "[SEP]",
            "[MASK]", "[UNK]", "[unused5]", "<s>", "</s>", "<mask>", "<unk>", "<pad>", "<|begin_of_text|>", "<|eot_id|>",
            "<extra>", "<tok en>", "WORD", "<|im_", "im_start|>", "<filename>", "<empty_output>", "<0x41>"]
BROKEN = [b"\x80", b"\xff", b"\xc3", b"\xe2\x82", b"\xf0\x9f\x98", b"\xc0\xaf", b"\xed\xa0\x80", b"\xf4\x90\x80\x80",
          b"\xe0\x80\x80", b"\xf0\x80\x80\x80", b"\xc3\x28", b"\xe2\x28\xa1", b"\xf8\x88\x80\x80\x80"]


def blocks():
    """A few characters of every block of 128 that Unicode 14 has assigned: all scripts."""
    rnd = random.Random(14)
    for start in range(0, 0xE0200, 0x80):
        if 0x3400 <= start < 0xD7A0 and start % 0xA00:
            continue
        if 0x17000 <= start < 0x18D00 and start % 0x400 or 0x20000 <= start < 0x31380 and start % 0x2000:
            continue
        assigned = [chr(c) for c in range(start, start + 0x80)
                    if unicodedata.category(chr(c)) not in ("Cn", "Cs", "Co")]
        if assigned:
            picked = [rnd.choice(assigned) for _ in range(10)]
            yield "".join(picked[:4]) + " " + "".join(picked[4:8]) + "a" + picked[8] + " b" + picked[9] + "1"


def runs():
    """Runs of one character and of pairs, of lengths around the places where loops change."""
    for c in [" ", "\n", "\t", "\r\n", " \n", "\n ", "a", "A", "0", "12", "-", ".", "é", "e\u0301", "\u0301", "中", "😀", "ab ",
              "  a", "'s", "▁", " ▁"]:
        for n in (1, 2, 3, 4, 5, 7, 8, 9, 16, 31, 48, 49, 50, 64, 101, 130):
            yield c * n
            if n < 6:
                yield "x" + c * n + "y"


def mixtures(n):
    rnd = random.Random(2026)
    for i in range(n):
        parts = []
        for _ in range(rnd.randint(1, 14)):
            kind = rnd.random()
            if kind < 0.40:
                parts.append(rnd.choice(WORDS).encode())
            elif kind < 0.62:
                parts.append(b" " * rnd.choice([1, 1, 1, 1, 2, 3, 9]))
            elif kind < 0.80:
                alphabet = rnd.choice(ALPHABETS)
                parts.append("".join(rnd.choice(alphabet) for _ in range(rnd.randint(1, 7))).encode())
            elif kind < 0.86:
                low, high = rnd.choice([(0, 0x24F), (0x250, 0x36F), (0x370, 0x1FFF), (0x2000, 0x2FFF), (0x3000, 0xD7FF),
                                        (0xE000, 0xFFFF), (0x10000, 0x1FFFF), (0x20000, 0x10FFFF)])
                parts.append("".join(chr(rnd.randint(low, high)) for _ in range(rnd.randint(1, 3))).encode())
            elif kind < 0.91:
                parts.append(rnd.choice(EMOJI).encode())
            elif kind < 0.97:
                parts.append(rnd.choice(SPECIALS).encode())
            elif i % 4 == 0:
                parts.append(rnd.choice(BROKEN))
        yield b"".join(parts)


def chosen():
    yield ""
    yield "Tape,  1.88"
    yield "Tape (2001), Drama|Arts, Entertainment, and Culture, 3.0"
    yield "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n  hi <|im_end|>\n"
    yield "Title: The Matrix\nCategory: Action|Sci-Fi\n<think>\n</think>\n<answer>"
    yield "a <mask> b<mask>  c  <mask>"
    yield "WORD xWORD WORDx (WORD) WORD_ éWORD WORD\u0301 WORD9"
    yield "A\u030a Å Å ﬀ ﬁ ① ㍿ ﷺ ½ Ⅳ ｆｕｌｌ ｶﾞ"
    yield "q\u0307\u0323 q\u0323\u0307 \u0344 \u0958 \u2126 \u212b \ufb1d 각 ᄀ\u1161\u11a8"
    yield "ǅ ß ẞ ſ K İ ı Σς ΑΣ ŉ ﬃ"
    yield "supercalifragilisticexpialidocious " * 3
    yield "x" * 99 + " " + "x" * 100 + " " + "x" * 101
    for word in WORDS:
        yield word
        yield " " + word
    for token in SPECIALS:
        yield from (token, "a" + token + "b", " " + token + " ", token + token, token.lower(), token.upper())
    for emoji in EMOJI:
        yield from (emoji, "a" + emoji + "b", emoji * 2)


def strings():
    """All of them, as bytes."""
    found = [s.encode() for s in list(chosen()) + list(runs()) + list(blocks())]
    found += [b"a" + b + b"b" for b in BROKEN] + BROKEN
    found += list(mixtures(2700 - len(found)))
    return found
