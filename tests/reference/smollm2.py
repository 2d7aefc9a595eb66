"""Writes tests/fixtures/models/real/smollm2.json: log-probabilities of SmolLM2-135M-Instruct
(Q4_1 GGUF, weights dequantised exactly) on 20 real prompts, by transformers in float32.

  python tests/reference/smollm2.py MODEL.gguf MOVIES/test.jsonl.gz

A prompt is made from row `row` (0-based) of the file:

    "Past ratings of the user:\\n" + LINES + "\\nCandidate: " + target + "\\nRating from 1 to 5: "

where LINES are the last `lines` of the history's lines that are not empty, joined with "\\n".
The fixture holds no text and no ids of the prompt: "tokens" is their number, "hash" is FNV-1a
(64 bits, hexadecimal) over the ids as little-endian int32.  "stars" are the log-probabilities of
the tokens "1" to "5" after the prompt, "top" the ten most probable tokens as [id, log-probability].

The tokenizer is built from the vocabulary and merges in the file, with the pre-tokenizer that the
model was trained with: single digits, then byte level.  (transformers, loading the GGUF, forgets
the digits.)  Pinned: torch 2.15.0, transformers 5.23.0, tokenizers 0.23.3, gguf 0.19.0.
"""

import gzip
import json
import pathlib
import sys

import numpy as np
import torch
import transformers as tf
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers.modeling_gguf_pytorch_utils import load_gguf_checkpoint

OUT = pathlib.Path(__file__).resolve().parent.parent / "fixtures" / "models" / "real"
MOST, PROMPTS = 1000, 20


def load_model(path):
    meta = load_gguf_checkpoint(path)
    config = tf.LlamaConfig(**{k: v for k, v in meta["config"].items() if k != "model_type"})
    assert config.rope_parameters["rope_theta"] == 100000 and config.tie_word_embeddings
    model = tf.LlamaForCausalLM._from_config(config, attn_implementation="eager").eval()
    tensors = load_gguf_checkpoint(path, return_tensors=True, model_to_load=model)["tensors"]
    missing, unexpected = model.load_state_dict(tensors, strict=False)
    assert missing in ([], ["lm_head.weight"]) and not unexpected
    model.tie_weights()
    return model


def load_tokenizer(path):
    meta = load_gguf_checkpoint(path)["tokenizer"]
    merges = [tuple(m.split(" ")) for m in meta["merges"]]
    tok = Tokenizer(models.BPE(vocab={t: i for i, t in enumerate(meta["tokens"])}, merges=merges))
    tok.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Digits(individual_digits=True),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)])
    tok.add_special_tokens([t for t, k in zip(meta["tokens"], meta["token_type"]) if k == 3])
    return tok


def prompt(row, lines):
    kept = [line for line in row["history"].split("\n") if line][-lines:] if lines else []
    return ("Past ratings of the user:\n" + "\n".join(kept) + "\nCandidate: " + row["target"] +
            "\nRating from 1 to 5: ")


def fit(tok, row):
    """The most lines of history whose prompt has at most MOST tokens: (lines, ids)."""
    lines = sum(1 for line in row["history"].split("\n") if line)
    while True:
        ids = tok.encode(prompt(row, lines), add_special_tokens=False).ids
        if len(ids) <= MOST:
            return lines, ids
        lines -= max(1, lines * (len(ids) - MOST) // (2 * len(ids)))


def choose(tok, rows):
    """For each of 20 lengths up to MOST the unused row that comes nearest."""
    fitted = [(i, *fit(tok, row)) for i, row in enumerate(rows) if len(row["history"]) < 12000]
    chosen = []
    for j in range(PROMPTS):
        wanted = MOST * (j + 1) // PROMPTS
        best = min(fitted, key=lambda f: (abs(len(f[2]) - wanted), f[0]))
        fitted.remove(best)
        chosen.append(best)
    return chosen


def fnv1a(ids):
    h = 0xCBF29CE484222325
    for byte in np.array(ids, dtype="<i4").tobytes():
        h = (h ^ byte) * 0x100000001B3 % 2**64
    return f"{h:016x}"


@torch.no_grad()
def main(model_path, data_path):
    tok, model = load_tokenizer(model_path), load_model(model_path)
    stars = [tok.encode(str(i), add_special_tokens=False).ids for i in range(1, 6)]
    assert all(len(s) == 1 for s in stars)
    rows = [json.loads(line) for line in gzip.open(data_path, "rt", encoding="utf-8")]
    out = []
    for i, lines, ids in choose(tok, rows):
        logits = model(torch.tensor([ids]), logits_to_keep=1).logits[0, -1]
        logprobs = torch.log_softmax(logits.double(), dim=-1)
        top = torch.topk(logprobs, 10)
        out.append({"row": i, "lines": lines, "tokens": len(ids), "hash": fnv1a(ids),
                    "stars": [round(logprobs[s[0]].item(), 6) for s in stars],
                    "top": [[int(t), round(p, 6)] for t, p in
                            zip(top.indices.tolist(), top.values.tolist())]})
        print(i, lines, len(ids), out[-1]["stars"], flush=True)
    OUT.mkdir(parents=True, exist_ok=True)
    text = ",\n".join(json.dumps(p) for p in out)
    (OUT / "smollm2.json").write_text('{"star_ids": ' + json.dumps([s[0] for s in stars]) +
                                      ',\n"prompts": [\n' + text + "\n]}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
