"""Writes tests/fixtures/text/tokenizers.json.gz: what Hugging Face `tokenizers` makes of the strings.

    SIREN_DATA=… SIREN_MODELS=… python3 tests/reference/tokenizer.py > tests/fixtures/text/tokenizers.json.gz
    … python3 tests/reference/tokenizer.py --show qwen3 17      what string 17 becomes

For each tokenizer and string there are two hashes: of the ids (as they are, with the tokenizer's own
special tokens, with special tokens as text), and of what the second of these decodes to (with and without
special tokens).  For the large ones also hashes of their tokens' pieces, a thousand at a time.
Needs tokenizers==0.23.3, sentencepiece==0.2.3, gguf==0.17.1 or newer.
"""
import base64
import glob
import gzip
import json
import os
import struct
import sys

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from tokenizer_strings import strings
from tokenizer_tiny import part_model, tiny


def fnv(data):
    h = 0xCBF29CE484222325
    for byte in data:
        h = (h ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return (h ^ h >> 32) & 0xFFFFFFFF


def outcome(t, data):
    """What is compared."""
    text = data.decode("utf-8", "replace")
    plain = t.encode(text, add_special_tokens=False).ids
    special = t.encode(text, add_special_tokens=True).ids
    t.encode_special_tokens = True
    untrusted = t.encode(text, add_special_tokens=False).ids
    t.encode_special_tokens = False
    return (plain, special, untrusted, t.decode(special, skip_special_tokens=False).encode(),
            t.decode(special, skip_special_tokens=True).encode())


def outcome_hashes(t, data):
    plain, special, untrusted, all_text, text = outcome(t, data)
    ids = b"".join(struct.pack(f"<{len(x) + 1}i", *x, -1) for x in (plain, special, untrusted))
    return struct.pack("<II", fnv(ids), fnv(all_text + b"\xff" + text))


def smollm2():
    """The tokenizer of SmolLM2: digits stand alone, then GPT-2's expression."""
    import gguf
    (path,) = glob.glob(os.environ["SIREN_MODELS"] + "/smollm2-135m-instruct/*.gguf")
    fields = gguf.GGUFReader(path).fields
    tokens = fields["tokenizer.ggml.tokens"].contents()
    merges = [tuple(m.split(" ")) for m in fields["tokenizer.ggml.merges"].contents()]
    types = fields["tokenizer.ggml.token_type"].contents()
    t = Tokenizer(models.BPE(vocab={token: i for i, token in enumerate(tokens)}, merges=merges))
    t.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True),
                                               pre_tokenizers.ByteLevel(add_prefix_space=False)])
    t.decoder = decoders.ByteLevel()
    t.add_special_tokens([AddedToken(token, normalized=False, special=True)
                          for token, kind in zip(tokens, types) if kind == 3])
    return t, "SIREN_MODELS", os.path.relpath(path, os.environ["SIREN_MODELS"])


def qwen3():
    path = os.environ["SIREN_DATA"] + "/qwen3-tokenizer/tokenizer.json.gz"
    return Tokenizer.from_str(gzip.open(path).read().decode()), "SIREN_DATA", "qwen3-tokenizer"


def minilm():
    t = Tokenizer.from_file(os.environ["SIREN_MODELS"] + "/all-minilm-l6-v2/tokenizer.json")
    t.no_truncation()
    t.no_padding()
    return t, "SIREN_MODELS", "all-minilm-l6-v2"


def byte_alphabet():
    """The character that stands for each byte, asked from the library byte by byte."""
    alphabet = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    table = {}
    for c in list(range(0x800)) + list(range(0x800, 0xD800, 64)) + list(range(0xE000, 0x110000, 0x1000)):
        for byte, stand_in in zip(chr(c).encode(), alphabet.pre_tokenize_str(chr(c))[0][0]):
            table[stand_in] = byte
    for byte in range(0xC0, 0x100):  # some of them occur in no UTF-8; they stand for themselves
        table[chr(byte)] = byte
    return table


BYTE_OF = byte_alphabet()


def piece(t, j, token, id):
    """A token's bytes as they stand in a text."""
    if id in t.get_added_tokens_decoder():
        return t.get_added_tokens_decoder()[id].content.encode()
    if '"ByteLevel"' in json.dumps(j["pre_tokenizer"]):
        return bytes(BYTE_OF[c] for c in token)
    if j["model"]["type"] == "WordPiece" and token.startswith("##") and len(token) > 2:
        return token[2:].encode()
    return token.encode()


def pieces_hashes(t):
    j = json.loads(t.to_str())
    size = max(t.get_vocab().values()) + 1
    hashes = []
    for start in range(0, size, 1000):
        block = b""
        for id in range(start, min(start + 1000, size)):
            token = t.id_to_token(id)
            block += (piece(t, j, token, id) if token is not None else b"") + b"\xff"
        hashes.append(struct.pack("<I", fnv(block)))
    return base64.b64encode(b"".join(hashes)).decode()


def collect():
    """name → (tokenizer, what the fixture says about it)"""
    for make in (smollm2, qwen3, minilm):
        t, variable, path = make()
        yield make.__name__, t, {"variable": variable, "path": path, "pieces": pieces_hashes(t)}
    for name, j, parts in tiny():
        full = j | ({"model": part_model()} if parts else {})
        yield name, Tokenizer.from_str(json.dumps(full)), {"json": j}


def main():
    data = strings()
    if sys.argv[1:2] == ["--show"]:
        for name, t, _ in collect():
            if name == sys.argv[2]:
                print(data[int(sys.argv[3])], *outcome(t, data[int(sys.argv[3])]), sep="\n")
        return
    found = []
    for name, t, entry in collect():
        # the many small ones share the strings among them
        step = 11 if name.startswith("part-") else 1
        first = len(found) % step
        hashes = b"".join(outcome_hashes(t, s) for s in data[first::step])
        found.append({"name": name, "first": first, "step": step, "hashes": base64.b64encode(hashes).decode()} | entry)
        print(name, file=sys.stderr)
    fixture = {"strings": [s.hex() for s in data], "part_model": part_model(), "tokenizers": found}
    text = json.dumps(fixture, ensure_ascii=True, separators=(",", ":"))
    sys.stdout.buffer.write(gzip.compress(text.encode(), 9, mtime=0))


if __name__ == "__main__":
    main()
