"""Hostile and random texts for make.py and differential.py."""

import random
import unicodedata

POOL = [
    "the quick ", "it's ", " I'LL", "don't", "  ", "   \n", "\r\n", "\n\n", "\t", " 123", "4567 ",
    "١٢٣", "३४", "你好世界", "こんにちは", "カタカナ", "안녕", "مرحبا", "שלום", "नमस्ते", "café",
    "cafe\u0301", "Cafe\u0301", "é", "\u0301", "\u0323\u0301", "👨\u200d👩\u200d👧", "🇩🇪", "\u200b",
    "\u200d", "\ufeff", "\u00a0", "\u3000", "\u2003", "\u0085", "\u180e", "\u2028", "\0", "\x07",
    "ſ", "'ſ", "'S", "\u212a", "ﬁ", "ß", "İ", "ǅ", "ᾳ", "\u212b\u2126", "\u1100\u1161\u11a8",
    "가\u11a8", "...", "!?", "  !", "$%^", "<div>", "</", "{}[]();", "==", "word", "wordy", " word ",
    " the ", "th", "qq", "qqq", "aei", "ou", "<s>", "</s>", " <l> ", " <r>  x", "  <lr>  ", "<sl>",
    " <ls> ", "<|im_start|>", "<|im_end|>", "<|endoftext|>", "<think>", "<｜User｜>",
    "<｜begin▁of▁sentence｜>", "<unk>", "[INST]", "▁", "▁▁", "<0x41>", "<|begin_of_text|>",
    "<|eot_id|>", "_", "a_b", "--", "'re'", "²", "½", "Ⅷ", "①", "𝟘", "\U0001e95e", "\u0e01\u0e33",
    "\u0915\u094d\u0937", "ﷺ", "\U00020000", "\U000e0041", "\U00031350", "\U0002ebf0", "\u1c89",
]  # fmt: skip

FIXED = [
    "", " ", "  ", "\n", "\0", "a", " a", "Hello, world!", "Hello  world", "  leading", "trailing  ",
    "I'm, you're, HE'LL; they'Ve 's", "x = 3.14159e-10;\n\tif (x != y) {\r\n    return 'ok'; }\n\n\n",
    "1234567890 12 1 123 ١٢٣٤ १२३ 𝟙𝟚𝟛 ⅧⅨ ½¼ ①②",
    "\t\n\x0b\x0c\r \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2009\u200a\u2028\u2029\u202f\u205f\u3000",
    "\u180e\u200b\u200c\u200d\u2060\ufeff", "e\u0301 é E\u0323\u0301 \u0301alone", "\u1100\u1161\u11a8 각",
    "👨\u200d👩\u200d👧\u200d👦 👍🏽 🇩🇪🇫🇷 ❤️ ☺︎", "مرحبا بالعالم \u202eevil\u202c שלום עולם", "नमस्ते ক্ষ กำ",
    "你好，世界！人工智能。こんにちは、カタカナ。안녕하세요", "ſ'ſ 'ſ K'K Å Ω ﬁﬂ ß İi ıI ǅ", "a\u0000b\u0000",
    "<|im_start|>user\nhi<|im_end|>", "<s>[INST] a [/INST] b</s>", "x<s>y", "< s >", "<|im_start|",
    "<｜begin▁of▁sentence｜><｜User｜>hi<｜Assistant｜>", "<unk> <0x41><0x0A>", "▁▁a▁b ▁c", "wordyword word",
    " <l>  <l> <r>  <r>x<lr>  <sl> y", "\U000e0001\U000e007f\U0010ffff\U000f0000", "\ufffd\ufffe\uffff",
    "a" * 40, "ab" * 30, "aaaa bbbb " * 10, "!" * 50, "\u0301" * 40, "👍" * 20,
]  # fmt: skip

RUNS = ["a", " ", "\n", "1", "!", "é", "你", "\u0301", "ab", " a", "\u3000", "👍", "<s", "q", "▁"]

INVALID = [
    b"\x80", b"a\x80b", b"\xc3", b"\xc3(", b"\xe2\x82", b"\xe2\x82(", b"\xf0\x9f\x91", b"\xf0\x9f\x91 x",
    b"\xc0\xaf", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xff\xfe", b"ok\xe4\xbd\xe4\xbd\xa0", b"\xf8\x88\x80\x80\x80",
    b"\xe0\x80\x80", b"\xf0\x80\x80\x80", b"\xbf\xbf\xbf", b"\xc3\xa9\xa9 \xe9",
]  # fmt: skip

ASSIGNED = [
    c for c in range(0x110000) if not 0xD800 <= c < 0xE000 and unicodedata.category(chr(c)) != "Cn"
]


def random_text(rng, most=12):
    out = []
    for _ in range(rng.randint(0, most)):
        pick = rng.random()
        if pick < 0.6:
            out.append(rng.choice(POOL))
        elif pick < 0.75:
            out.append("".join(chr(rng.choice(ASSIGNED)) for _ in range(rng.randint(1, 5))))
        elif pick < 0.85:
            out.append("".join(chr(rng.randint(32, 126)) for _ in range(rng.randint(1, 10))))
        elif pick < 0.9:
            out.append(rng.choice(" \n\t\r\u00a0") * rng.randint(1, 40))
        else:
            out.append("".join(rng.choice("abcdefghijklmnopqrstuvwxyz") for _ in range(rng.randint(1, 60))))
        if rng.random() < 0.4:
            out.append(" ")
    return "".join(out)
