"""Writes tests/fixtures/text/sentencepiece_bpe.json: a tiny SentencePiece BPE as a GGUF file holds it
(texts, scores, types), and what Hugging Face `tokenizers` makes of the strings of tokenizers.json.gz
with the merges that transformers derives from it (Llama's converter).

    python3 tests/reference/tokenizer_sentencepiece.py > tests/fixtures/text/sentencepiece_bpe.json

Needs tokenizers==0.23.3, sentencepiece==0.2.3, transformers==5.23.0.
"""
import base64
import io
import json
import struct
import sys

import sentencepiece
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, processors
from transformers.convert_slow_tokenizer import generate_merges

from tokenizer import outcome_hashes
from tokenizer_strings import strings
from tokenizer_tiny import corpus

USER = ["<think>", "||"]


def train():
    """(text, score, type) of each token; type as llama.cpp's converter has it."""
    out = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=corpus(), model_writer=out, vocab_size=900, model_type="bpe", byte_fallback=True,
        normalization_rule_name="identity", remove_extra_whitespaces=False, character_coverage=0.99, num_threads=1,
        user_defined_symbols=USER, minloglevel=2)
    p = sentencepiece.SentencePieceProcessor(model_proto=out.getvalue())
    for i in range(p.vocab_size()):
        kind = 2 if p.is_unknown(i) else 3 if p.is_control(i) else 6 if p.is_byte(i) else 5 if p.is_unused(i) else 1
        text = p.id_to_piece(i)
        yield text, p.get_score(i), 4 if text in USER else kind


def reference(tokens):
    vocab = {text: i for i, (text, _, _) in enumerate(tokens)}
    skip = [text for text, _, kind in tokens if kind in (2, 3, 6)]
    merges = generate_merges(vocab, {text: score for text, score, _ in tokens}, skip)
    t = Tokenizer(models.BPE(vocab, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    t.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    t.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(),
                                   decoders.Strip(content=" ", left=1)])
    t.add_special_tokens(["<unk>", "<s>", "</s>"])
    t.add_tokens([AddedToken(text, normalized=False, special=False) for text in USER])
    t.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", vocab["<s>"])])
    return t, len(merges)


def main():
    tokens = list(train())
    t, n = reference(tokens)
    print(len(tokens), "tokens,", n, "merges", file=sys.stderr)
    hashes = b"".join(outcome_hashes(t, s) for s in strings())
    json.dump({"name": "sentencepiece_bpe", "first": 0, "step": 1, "hashes": base64.b64encode(hashes).decode(),
               "texts": [text for text, _, _ in tokens], "scores": [score for _, score, _ in tokens],
               "types": [kind for _, _, kind in tokens]}, sys.stdout, separators=(",", ":"))


if __name__ == "__main__":
    main()
