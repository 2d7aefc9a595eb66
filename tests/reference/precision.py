"""Writes tests/fixtures/models/real/precision.json: log-probabilities of the ratings on 200 real
prompts by SmolLM2-135M-Instruct (Q4_1 GGUF, weights dequantised exactly), all arithmetic in float64.

  python tests/reference/precision.py MODEL.gguf MOVIES/valid.jsonl.gz

Prompts, hashes and tokenizer are those of smollm2.py; at most MOST tokens each.  The forward pass is
spelt out below, since transformers' takes norms, softmax and rotation through float32 whatever the
model's type; it is checked against transformers in float32 on the first prompts.
Pinned: torch 2.15.0, transformers 5.23.0, tokenizers 0.23.3, gguf 0.19.0.
"""

import gzip
import json
import sys

import torch

import smollm2

PROMPTS, MOST = 200, 160


class Exact:
    """A Llama model in float64: ids -> log-probabilities of the next token."""

    def __init__(self, model):
        self.config = model.config
        self.weights = {k: v.double() for k, v in model.state_dict().items()}
        c, half = self.config, self.config.hidden_size // self.config.num_attention_heads // 2
        frequencies = c.rope_parameters["rope_theta"] ** (
            -torch.arange(half, dtype=torch.float64) / half)
        angles = torch.arange(MOST, dtype=torch.float64)[:, None] * frequencies
        self.cosines, self.sines = angles.cos(), angles.sin()

    def norm(self, x, name):
        scale = torch.rsqrt((x * x).mean(-1, keepdim=True) + self.config.rms_norm_eps)
        return x * scale * self.weights[name + ".weight"]

    def heads(self, x, n):
        """(T, n·D) -> (n, T, D), rotated: pairs are (i, i + D/2)."""
        x = x.view(len(x), n, -1).transpose(0, 1)
        a, b = x.chunk(2, dim=-1)
        cos, sin = self.cosines[:x.shape[1]], self.sines[:x.shape[1]]
        return torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1)

    def attend(self, x, prefix):
        c, w = self.config, self.weights
        q = self.heads(x @ w[prefix + "q_proj.weight"].T, c.num_attention_heads)
        k = self.heads(x @ w[prefix + "k_proj.weight"].T, c.num_key_value_heads)
        v = x @ w[prefix + "v_proj.weight"].T
        v = v.view(len(x), c.num_key_value_heads, -1).transpose(0, 1)
        group = c.num_attention_heads // c.num_key_value_heads
        k, v = k.repeat_interleave(group, 0), v.repeat_interleave(group, 0)
        scores = q @ k.transpose(1, 2) / q.shape[-1] ** 0.5
        hidden = torch.ones(len(x), len(x), dtype=torch.bool).triu(1)
        out = scores.masked_fill(hidden, -torch.inf).softmax(-1) @ v
        return out.transpose(0, 1).reshape(len(x), -1) @ w[prefix + "o_proj.weight"].T

    def logprobs(self, ids):
        w = self.weights
        x = w["model.embed_tokens.weight"][ids]
        for i in range(self.config.num_hidden_layers):
            layer = f"model.layers.{i}."
            x = x + self.attend(self.norm(x, layer + "input_layernorm"), layer + "self_attn.")
            h = self.norm(x, layer + "post_attention_layernorm")
            gate = h @ w[layer + "mlp.gate_proj.weight"].T
            up = h @ w[layer + "mlp.up_proj.weight"].T
            x = x + (gate * torch.sigmoid(gate) * up) @ w[layer + "mlp.down_proj.weight"].T
        return (self.norm(x[-1], "model.norm") @ w["lm_head.weight"].T).log_softmax(-1)


@torch.no_grad()
def main(model_path, data_path):
    smollm2.MOST = MOST
    tok, model = smollm2.load_tokenizer(model_path), smollm2.load_model(model_path)
    exact = Exact(model)
    stars = [tok.encode(str(i), add_special_tokens=False).ids[0] for i in range(1, 6)]
    rows = [json.loads(line) for line in gzip.open(data_path, "rt", encoding="utf-8")]
    out = []
    for j in range(PROMPTS):
        row = j * len(rows) // PROMPTS
        lines, ids = smollm2.fit(tok, rows[row])
        found = exact.logprobs(torch.tensor(ids))
        if j < 3:
            near = model(torch.tensor([ids]), logits_to_keep=1).logits[0, -1].log_softmax(-1)
            assert (found - near.double()).abs().max() < 1e-3
        out.append({"row": row, "lines": lines, "tokens": len(ids), "hash": smollm2.fnv1a(ids),
                    "stars": [round(found[s].item(), 9) for s in stars]})
        print(j, out[-1], flush=True)
    text = ",\n".join(json.dumps(p) for p in out)
    (smollm2.OUT / "precision.json").write_text('{"star_ids": ' + json.dumps(stars) +
                                                ',\n"prompts": [\n' + text + "\n]}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
