"""Small tokenizers in the styles of the model families, trained here on synthetic text.

Each keeps the published pre-tokenizer, normalizer, decoder and post-processor of its family; only
the vocabulary is small. Used by make.py and differential.py.
"""

import json
import random

from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

QWEN2_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
LLAMA3_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
DEEPSEEK_V2_SPLITS = [
    "[\r\n]",
    # Letters of the scripts with case; escaped where an editor might compose a character.
    r"\s?[A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-ՖႠ-ჅᎠ-Ᏽᏸ-ᏽᲐ-ᲺᲽ-Ჿᴀ-ᴫᵫ-ᵷᵹ-ᶚ"
    "\u1e00-\u1f15\u1f18-\u1f1d\u1f20-\u1f45\u1f48-\u1f4d\u1f50-\u1f57\u1f59\u1f5b\u1f5d\u1f5f-\u1f7d"
    "\u1f80-\u1fb4\u1fb6-\u1fbc\u1fbe\u1fc2-\u1fc4\u1fc6-\u1fcc\u1fd0-\u1fd3\u1fd6-\u1fdb\u1fe0-\u1fec"
    "\u1ff2-\u1ff4\u1ff6-\u1ffc\u2102\u2107\u210a-\u2113\u2115\u2119-\u211d\u2124\u2126\u2128\u212a-\u212d"
    "\u212f-\u2134\u2139\u213c-\u213f\u2145-\u2149\u214e\u2183\u2184Ⰰ-ⱻⱾ-ⳤⳫ-ⳮⲳⳳꙀ-ꙭꚀ-ꚛꜢ-ꝯꝱ-ꞇꞋ-ꞎ"
    "ꭰ-ꮿﬀ-ﬆﬓ-ﬗＡ-Ｚａ-ｚ𐐀-𐑏𐒰-𐓓𐓘-𐓻𐲀-𐲲𐳀-𐳲𑢠-𑣟𞤀-𞥃]+",
    r"\s?[!-/:-~！-／：-～‘-‟　-。]+",
    r"\s+$",
    "[一-龥ࠀ-一가-퟿]+",
]
DEEPSEEK_V3_SPLITS = [
    r"\p{N}{1,3}",
    "[一-龥぀-ゟ゠-ヿ]+",
    "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+"
    "| ?[\\p{P}\\p{S}]+[\r\n]*|\\s*[\r\n]+|\\s+(?!\\S)|\\s+",
]


def words(seed=7, lines=3000):
    """Synthetic training text: made-up words, numbers, code, and several scripts."""
    rng = random.Random(seed)
    onsets = "b c d f g h j k l m n p r s t v w th st pr ch".split()
    vowels = "a e i o u ai ou ea".split()
    codas = ["", "", "n", "r", "s", "t", "ng", "ll", "d"]
    latin = ["".join(rng.choice(p) for p in (onsets, vowels, codas) * rng.randint(1, 3)) for _ in range(400)]
    others = "привет мир 你好 世界 人工智能 こんにちは カタカナ 안녕하세요 مرحبا שלום नमस्ते café naïve Straße".split()
    code = ["def f(x):", "return", "    ", "{", "}", "==", "!=", "->", "//", "\t", "i += 1", "<div>"]
    contractions = ["it's", "I'll", "you're", "they've", "don't", "I'M", "we'd"]
    for _ in range(lines):
        line = []
        for _ in range(rng.randint(3, 14)):
            pick = rng.random()
            if pick < 0.7:
                word = rng.choice(latin)
                line.append(word.capitalize() if rng.random() < 0.2 else word)
            elif pick < 0.78:
                line.append(str(rng.randint(0, 99999)))
            elif pick < 0.88:
                line.append(rng.choice(others))
            elif pick < 0.94:
                line.append(rng.choice(code))
            else:
                line.append(rng.choice(contractions))
        yield " ".join(line) + rng.choice([".", "!", "?\n", ",", "\r\n", " \n\n"])


def split(pattern):
    return pre_tokenizers.Split(Regex(pattern), "isolated", invert=False)


def byte_level_tokenizer(parts, normalizer, size, model=None, add_prefix_space=False, use_regex=False):
    tokenizer = Tokenizer(model or models.BPE())
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    last = pre_tokenizers.ByteLevel(add_prefix_space=add_prefix_space, use_regex=use_regex)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([*parts, last]) if parts else last
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(words(), trainer)
    return tokenizer


def specials(tokenizer, texts, **options):
    tokenizer.add_special_tokens([AddedToken(t, normalized=False, special=True, **options) for t in texts])


def template(tokenizer, token, extra=()):
    token_id = tokenizer.token_to_id(token)
    processor = processors.TemplateProcessing(
        single=f"{token} $A", pair=f"{token} $A {token}:1 $B:1", special_tokens=[(token, token_id)]
    )
    tokenizer.post_processor = processors.Sequence([*extra, processor]) if extra else processor


def qwen2():
    tokenizer = byte_level_tokenizer([split(QWEN2_SPLIT)], normalizers.NFC(), 700)
    tokenizer.post_processor = processors.ByteLevel(add_prefix_space=False, trim_offsets=False)
    specials(tokenizer, ["<|endoftext|>", "<|im_start|>", "<|im_end|>"])
    tokenizer.add_tokens([AddedToken(t, normalized=False) for t in ["<think>", "</think>", "<tool_call>"]])
    return tokenizer


def llama3():
    tokenizer = byte_level_tokenizer(
        [split(LLAMA3_SPLIT)], None, 700, model=models.BPE(ignore_merges=True)
    )
    specials(tokenizer, ["<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>"])
    template(tokenizer, "<|begin_of_text|>", [processors.ByteLevel(trim_offsets=False)])
    return tokenizer


def deepseek_v2():
    parts = [*map(split, DEEPSEEK_V2_SPLITS), pre_tokenizers.Digits(individual_digits=True)]
    tokenizer = byte_level_tokenizer(parts, normalizers.Sequence([]), 700)
    specials(tokenizer, ["<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>"])
    tokenizer.add_tokens([AddedToken("<｜User｜>", normalized=False), AddedToken("<｜Assistant｜>")])
    template(tokenizer, "<｜begin▁of▁sentence｜>")
    return tokenizer


def deepseek_v3():
    tokenizer = byte_level_tokenizer(
        [*map(split, DEEPSEEK_V3_SPLITS)], normalizers.Sequence([]), 700
    )
    specials(tokenizer, ["<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜▁pad▁｜>"])
    tokenizer.add_tokens([AddedToken(t) for t in ["<｜User｜>", "<｜Assistant｜>", "<think>"]])
    template(tokenizer, "<｜begin▁of▁sentence｜>")
    return tokenizer


def gpt2():
    tokenizer = byte_level_tokenizer([], None, 600, add_prefix_space=True, use_regex=True)
    specials(tokenizer, ["<|endoftext|>"])
    return tokenizer


def sentencepiece(size=700, fallback=True, across_words=False):
    """Character BPE with byte fallback, as converted from SentencePiece."""
    base = ["<unk>", "<s>", "</s>", *(f"<0x{b:02X}>" for b in range(256))]
    trained = Tokenizer(models.BPE(unk_token="<unk>"))
    if across_words:
        trained.normalizer = normalizers.Replace(" ", "▁")
    else:
        trained.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")
    trainer = trainers.BpeTrainer(vocab_size=size - 256, special_tokens=["<unk>", "<s>", "</s>"], show_progress=False)
    # A part of the characters is left out, so that byte fallback has work to do.
    text = ("".join(c for c in line if c.isascii() or ord(c) % 3) for line in words())
    trained.train_from_iterator(text, trainer)
    model = json.loads(trained.to_str())["model"]
    names = base if fallback else base[:3]
    names += [t for t in sorted(model["vocab"], key=model["vocab"].get) if t not in names]
    return Tokenizer(
        models.BPE(
            vocab={t: i for i, t in enumerate(names)},
            merges=[tuple(m) for m in model["merges"]],
            unk_token="<unk>",
            fuse_unk=True,
            byte_fallback=fallback,
        )
    )


LLAMA_DECODER = [
    decoders.Replace("▁", " "),
    decoders.ByteFallback(),
    decoders.Fuse(),
    decoders.Strip(" ", 1, 0),
]


def mixtral():
    """Legacy Llama-2 style: Prepend and Replace as normalizers, no pre-tokenizer."""
    tokenizer = sentencepiece()
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(LLAMA_DECODER)
    specials(tokenizer, ["<unk>", "<s>", "</s>"])
    template(tokenizer, "<s>")
    return tokenizer


def mixtral_new():
    """The same after the switch to Metaspace."""
    tokenizer = sentencepiece()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="first", split=False)
    tokenizer.decoder = decoders.Sequence(LLAMA_DECODER)
    specials(tokenizer, ["<unk>", "<s>", "</s>", "[INST]", "[/INST]"])
    template(tokenizer, "<s>")
    return tokenizer


def across_words():
    """Tokens that reach over a space, as SentencePiece makes when told not to split at it."""
    tokenizer = sentencepiece(across_words=True)
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.decoder = decoders.Sequence(LLAMA_DECODER[:3])
    specials(tokenizer, ["<unk>", "<s>", "</s>"])
    return tokenizer


def metaspace():
    """Metaspace everywhere, no byte fallback: unknown characters are fused."""
    tokenizer = sentencepiece(fallback=False)
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always", split=True)
    tokenizer.decoder = decoders.Metaspace(replacement="▁", prepend_scheme="always", split=True)
    specials(tokenizer, ["<s>", "</s>"])
    return tokenizer


def mixed():
    """Every option of added tokens and the rarer kinds of splits."""
    parts = [
        pre_tokenizers.Punctuation("merged_with_previous"),
        pre_tokenizers.Digits(individual_digits=False),
        pre_tokenizers.Split("th", "merged_with_next"),
        pre_tokenizers.Split(Regex(r"\s+"), "contiguous", invert=True),
        pre_tokenizers.Split(Regex("[aeiou]{2}"), "removed"),
    ]
    normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Replace(Regex(r"q+"), "k")])
    tokenizer = byte_level_tokenizer(parts, normalizer, 500)
    tokenizer.add_tokens(
        [
            AddedToken("<l>", lstrip=True, normalized=False),
            AddedToken("<r>", rstrip=True, normalized=False),
            AddedToken("<lr>", lstrip=True, rstrip=True, normalized=False),
            AddedToken("word", single_word=True, normalized=False),
            AddedToken("wordy", normalized=False),
            AddedToken("qq", normalized=True),
            AddedToken("Cafe\u0301", normalized=True, single_word=True),
            AddedToken("<ls>", lstrip=True, single_word=True, normalized=True),
        ]
    )
    specials(tokenizer, ["<s>", "</s>"])
    tokenizer.add_special_tokens([AddedToken("<sl>", lstrip=True, rstrip=True, special=True)])
    return tokenizer


FAMILIES = {
    f.__name__: f
    for f in (
        qwen2, llama3, deepseek_v2, deepseek_v3, gpt2, mixtral, mixtral_new, across_words, metaspace,
        mixed,
    )
}
