"""Tiny tokenizers, trained here on made-up text, in the shapes of the large ones."""
import io
import json
import random
import struct

import sentencepiece
import tokenizers
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from tokenizer_strings import ALPHABETS, EMOJI, WORDS

assert tokenizers.__version__ == "0.23.3", tokenizers.__version__
assert sentencepiece.__version__ == "0.2.3", sentencepiece.__version__

LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
          r"|\s+(?!\S)|\s+")


def corpus():
    rnd = random.Random(7)
    syllables = ["ba", "ko", "ri", "ten", "mu", "la", "sha", "por", "in", "est", "qua", "dy", "the", "ing", "er", "on"]
    for _ in range(3000):
        words = ["".join(rnd.choice(syllables) for _ in range(rnd.randint(1, 4))) for _ in range(rnd.randint(3, 9))]
        words.insert(rnd.randint(0, 2), rnd.choice(WORDS))
        if rnd.random() < 0.3:
            words.append("".join(rnd.choice(rnd.choice(ALPHABETS[4:8])) for _ in range(4)))
        if rnd.random() < 0.1:
            words.append(rnd.choice(EMOJI))
        yield " ".join(words).replace("\0", "")


def llama3():
    """Byte-level BPE with Llama 3's expression, whole words first, a text's beginning marked."""
    t = Tokenizer(models.BPE(ignore_merges=True))
    t.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(LLAMA3), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    t.decoder = decoders.ByteLevel()
    specials = ["<|begin_of_text|>", "<|eot_id|>", "<|im_start|>", "<|im_end|>"]
    t.train_from_iterator(corpus(), trainers.BpeTrainer(
        vocab_size=900, special_tokens=specials, show_progress=False,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet())))
    t.post_processor = processors.Sequence([
        processors.ByteLevel(trim_offsets=False),
        processors.TemplateProcessing(single="<|begin_of_text|> $A",
                                      special_tokens=[("<|begin_of_text|>", t.token_to_id("<|begin_of_text|>"))])])
    return json.loads(t.to_str())


def llama2():
    """BPE on SentencePiece's marks with bytes for what is unknown."""
    t = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    t.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    specials = ["<unk>", "<s>", "</s>"] + [f"<0x{b:02X}>" for b in range(256)]
    t.train_from_iterator([c.split(" ")[0] for c in corpus()], trainers.BpeTrainer(
        vocab_size=800, special_tokens=specials, show_progress=False))
    j = json.loads(t.to_str())
    j["added_tokens"] = j["added_tokens"][:3]
    j["decoder"] = {"type": "Sequence", "decoders": [
        {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"},
        {"type": "Strip", "content": " ", "start": 1, "stop": 0}]}
    j["post_processor"] = json.loads(processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 1)]).__getstate__().decode())
    return j


def fields(message):
    """(number, value) of a protobuf message's fields."""
    at = 0

    def varint():
        nonlocal at
        value, shift = 0, 0
        while True:
            byte = message[at]
            at += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    while at < len(message):
        key = varint()
        if key & 7 == 0:
            yield key >> 3, varint()
        else:
            length = {1: 8, 5: 4}.get(key & 7) or varint()
            yield key >> 3, message[at:at + length]
            at += length


def xlmr():
    """Unigram with SentencePiece's compiled normalisation, as XLM-R and BGE-M3 have it."""
    out = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=corpus(), model_writer=out, vocab_size=1000, model_type="unigram", hard_vocab_limit=False,
        normalization_rule_name="nmt_nfkc", character_coverage=0.995, num_threads=1, minloglevel=2)
    model = list(fields(out.getvalue()))
    pieces = [dict(fields(value)) for number, value in model if number == 1]
    charsmap = next(dict(fields(value))[2] for number, value in model if number == 3)
    vocab = [("<s>", 0.0), ("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
    vocab += [(p[1].decode(), struct.unpack("<f", p[2])[0]) for p in pieces[3:]] + [("<mask>", 0.0)]
    t = Tokenizer(models.Unigram(vocab, 3))
    t.normalizer = normalizers.Sequence([normalizers.Precompiled(charsmap),
                                         normalizers.Replace(Regex(" {2,}"), " ")])
    t.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()])
    t.decoder = decoders.Metaspace()
    t.add_special_tokens(["<s>", "<pad>", "</s>", "<unk>",
                          AddedToken("<mask>", lstrip=True, special=True, normalized=False)])
    t.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)])
    return json.loads(t.to_str())


def bert():
    """WordPiece, cased."""
    t = Tokenizer(models.WordPiece(unk_token="[UNK]", max_input_chars_per_word=40))
    t.normalizer = normalizers.BertNormalizer(lowercase=False)
    t.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    t.decoder = decoders.WordPiece()
    t.train_from_iterator(corpus(), trainers.WordPieceTrainer(
        vocab_size=700, show_progress=False, special_tokens=["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]))
    t.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return json.loads(t.to_str())


def part_model():
    """BPE that shows where words begin: their characters but the first have a prefix."""
    vocab, merges = {"<unk>": 0}, []
    for token in [f"<0x{b:02X}>" for b in range(256)] + [p + chr(c) for p in ("", "##") for c in range(33, 127)] + [
            p + c for p in ("", "##") for c in "éàçñ▁ ĠÃ©"]:
        vocab.setdefault(token, len(vocab))
    for left, right in [("t", "##h"), ("th", "##e"), ("##o", "##n"), ("##1", "##2"), ("d", "##on")]:
        merges.append([left, right])
        vocab.setdefault(left + right[2:], len(vocab))
    return {"type": "BPE", "dropout": None, "unk_token": "<unk>", "continuing_subword_prefix": "##",
            "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": True, "ignore_merges": False, "vocab": vocab,
            "merges": merges}


def added(content, id, **flags):
    return {"id": id, "content": content, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
            "special": False} | flags


def parts():
    """Each normaliser, pre-tokenizer and decoder by itself, on part_model()."""
    n = len(part_model()["vocab"])
    split = lambda pattern, behavior, invert=False: {"type": "Split", "pattern": pattern, "behavior": behavior,
                                                     "invert": invert}
    yield "plain", {}
    for form in ("NFC", "NFD", "NFKC", "NFKD", "Lowercase", "StripAccents", "Nmt", "ByteLevel"):
        yield form, {"normalizer": {"type": form}}
    yield "accents", {"normalizer": {"type": "Sequence", "normalizers": [
        {"type": "NFD"}, {"type": "StripAccents"}, {"type": "Lowercase"}, {"type": "NFC"}]}}
    for clean, cjk, accents, lower in ((1, 1, None, 1), (1, 0, False, 1), (0, 1, True, 0), (0, 0, None, 0), (1, 1, True, 1)):
        yield f"bert-{clean}{cjk}{accents}{lower}", {"normalizer": {
            "type": "BertNormalizer", "clean_text": bool(clean), "handle_chinese_chars": bool(cjk),
            "strip_accents": accents, "lowercase": bool(lower)}, "pre_tokenizer": {"type": "BertPreTokenizer"}}
    yield "strip", {"normalizer": {"type": "Strip", "strip_left": True, "strip_right": True},
                    "pre_tokenizer": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": True}}
    yield "replace", {"normalizer": {"type": "Sequence", "normalizers": [
        {"type": "Replace", "pattern": {"Regex": r"[\s\d]+"}, "content": "-"},
        {"type": "Replace", "pattern": {"String": "the"}, "content": "é"}, {"type": "Prepend", "prepend": "¿"}]}}
    for behavior in ("Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous"):
        for invert in (False, True):
            yield f"split-{behavior}-{invert}", {"pre_tokenizer": split({"Regex": r"\s|[aeiou]"}, behavior, invert)}
        yield f"string-{behavior}", {"pre_tokenizer": split({"String": "-"}, behavior)}
        yield f"punctuation-{behavior}", {"pre_tokenizer": {"type": "Punctuation", "behavior": behavior}}
    yield "words", {"pre_tokenizer": {"type": "Whitespace"}}
    yield "spaces", {"pre_tokenizer": {"type": "WhitespaceSplit"}}
    yield "regex-classes", {"pre_tokenizer": split({"Regex": r"\w+|[^\w\s]\d*|\S(?=\W)"}, "Isolated")}
    yield "gpt4o", {"pre_tokenizer": split({"Regex": (
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
        r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
        r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")}, "Isolated")}
    for individual in (False, True):
        yield f"digits-{individual}", {"pre_tokenizer": {"type": "Digits", "individual_digits": individual}}
    yield "smollm", {"pre_tokenizer": {"type": "Sequence", "pretokenizers": [
        {"type": "Digits", "individual_digits": True},
        {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}]},
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}}
    yield "roberta", {"pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True,
                                        "use_regex": True},
                      "post_processor": {"type": "RobertaProcessing", "sep": ["<0x02>", 3], "cls": ["<0x01>", 2],
                                         "trim_offsets": True, "add_prefix_space": True}}
    for scheme in ("always", "first", "never"):
        for cut in (True, False):
            yield f"metaspace-{scheme}-{cut}", {
                "pre_tokenizer": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": cut},
                "decoder": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": cut}}
    yield "first-of-words", {"pre_tokenizer": {"type": "Sequence", "pretokenizers": [
        {"type": "WhitespaceSplit"}, {"type": "Metaspace", "replacement": "_", "prepend_scheme": "first", "split": True}]}}
    yield "added", {"normalizer": {"type": "Lowercase"}, "pre_tokenizer": {"type": "WhitespaceSplit"}, "added_tokens": [
        added("WORD", n, single_word=True), added("<extra>", n + 1, rstrip=True), added("<mask>", n + 2, lstrip=True, special=True),
        added("<TOK en>", n + 3, normalized=True), added("<s>", n + 4, special=True), added("<s>x", n + 5),
        added("[sep]", n + 6, lstrip=True, rstrip=True, special=True, normalized=True), added("and", n + 7, normalized=True, single_word=True),
        added("\n\n", n + 8, lstrip=True)]}
    yield "decoder-wordpiece", {"decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True}}
    yield "decoder-bpe", {"decoder": {"type": "BPEDecoder", "suffix": "e"}}
    yield "decoder-strip", {"decoder": {"type": "Sequence", "decoders": [
        {"type": "ByteFallback"}, {"type": "Strip", "content": "#", "start": 2, "stop": 0},
        {"type": "Replace", "pattern": {"Regex": "[0-9]+"}, "content": "n"}, {"type": "Fuse"}]}}


def suffix_model():
    """BPE whose words end in a mark, as in CLIP and OpenAI's first GPT."""
    vocab = {"<unk>": 0}
    for c in "abcdefghijklmnopqrstuvwxyz-'.0123456789":
        vocab[c] = len(vocab)
        vocab[c + "</w>"] = len(vocab)
    merges = [["t", "h"], ["th", "e</w>"], ["o", "n</w>"], ["i", "n"], ["in", "g</w>"]]
    for left, right in merges:
        vocab.setdefault(left + right, len(vocab))
    return {"model": {"type": "BPE", "dropout": None, "unk_token": "<unk>", "continuing_subword_prefix": None,
                      "end_of_word_suffix": "</w>", "fuse_unk": True, "byte_fallback": False, "ignore_merges": False,
                      "vocab": vocab, "merges": [" ".join(m) for m in merges]},
            "normalizer": {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True,
                           "strip_accents": None, "lowercase": True},
            "pre_tokenizer": {"type": "BertPreTokenizer"}, "decoder": {"type": "BPEDecoder", "suffix": "</w>"}}


def unigram_bytes():
    """Unigram that falls back to bytes, without anything around it."""
    vocab = [["<unk>", 0.0]] + [[f"<0x{b:02X}>", 0.0] for b in range(256)]
    vocab += [[t, -float(i) / 7 - 1] for i, t in enumerate(
        ["▁", "e", "t", "a", "o", "n", "the", "▁the", "th", "on", "ing", "é", "中", "12", "▁▁", "an", "and", "1", "s", "."])]
    return {"model": {"type": "Unigram", "unk_id": 0, "vocab": vocab, "byte_fallback": True},
            "normalizer": {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
            "decoder": {"type": "Sequence", "decoders": [{"type": "ByteFallback"}, {"type": "Metaspace",
                        "replacement": "▁", "prepend_scheme": "never", "split": True}]}}


def complete(j):
    """With all fields that the library wants."""
    empty = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": [], "normalizer": None,
             "pre_tokenizer": None, "post_processor": None, "decoder": None}
    return empty | j


def tiny():
    """(name, tokenizer.json without a model that part_model() is to fill, or with one)"""
    for make in (llama3, llama2, xlmr, bert, suffix_model, unigram_bytes):
        yield make.__name__, complete(make()), False
    for name, j in parts():
        yield "part-" + name, complete(j), True
