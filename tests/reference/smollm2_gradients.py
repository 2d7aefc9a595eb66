"""Writes tests/fixtures/models/real/smollm2-gradients.json: gradients on SmolLM2 by PyTorch's autograd
in double, on the first three prompts of smollm2.json (run smollm2.py first): of LoRA factors, and of
the weights themselves.

  python tests/reference/smollm2_gradients.py MODEL.gguf MOVIES/test.jsonl.gz

The loss: the mean over the prompts of the cross-entropy over the five rating labels, prompt p's label
being the (p + 1)-th.  "adapter": the loss with an adapter and the gradients of its factors, "weights":
the loss without one, by name the gradients of the first and last layer's weights, of the last norm
and of the embedding, which is the head, too.

The adapter: q, k, v, o, gate, up and down of every layer, r = 8, scale = 2, no dropout.  Factor f (0,
1, …: layer by layer, target by target as here, A then B) has the numbers cos(0.37 i + f) / 50 at
i = 0, 1, … of its storage.

A gradient is given as [norm, p_0, …, p_7]: p_k = Σ_i ± g_i, the sign of g_i being bit 56 + k of
signs(i), 1 for minus.  Such a sum has the size of the norm, and that of an error the size of its norm.
"""

import gzip
import json
import sys

import numpy as np
import peft
import torch
from lora import TARGETS
from smollm2 import OUT, fnv1a, load_model, load_tokenizer, prompt

PROJECTIONS, LAYERS = 8, (0, 29)


def signs(n):
    """Pseudo-random bits of 0 … n - 1, the upper ones the better."""
    odd = np.uint64(0x9E3779B97F4A7C15)
    x = np.arange(1, n + 1, dtype=np.uint64) * odd
    return (x ^ x >> np.uint64(32)) * odd


def projected(gradient):
    g = gradient.numpy().reshape(-1)
    bits, out = signs(g.size), [np.linalg.norm(g)]
    for k in range(PROJECTIONS):
        minus = bits >> np.uint64(56 + k) & np.uint64(1)
        out.append(np.where(minus, -g, g).sum())
    return "[" + ", ".join(f"{x:.9g}" for x in out) + "]"


def add_adapter(base):
    """Its factors."""
    peft.get_peft_model(base, peft.LoraConfig(
        r=8, lora_alpha=16, target_modules=[t.split(".")[1] for t in TARGETS]))
    factors = []
    for layer in base.model.layers:
        for target in TARGETS:
            linear = layer.get_submodule(target)
            for factor in (linear.lora_A["default"].weight, linear.lora_B["default"].weight):
                i = torch.arange(factor.numel(), dtype=torch.float64)
                values = (torch.cos(0.37 * i + len(factors)) / 50).float().double()
                factor.data = values.reshape(factor.shape)
                factors.append(factor)
    return factors


def backward(model, prompts, star_ids):
    whole = 0
    for p, ids in enumerate(prompts):
        logits = model(torch.tensor([ids]), logits_to_keep=1).logits[0, -1]
        loss = -torch.log_softmax(logits[star_ids], -1)[p + 1] / len(prompts)
        loss.backward()
        whole += loss.item()
    print(whole)
    return f'"loss": {whole:.9g}'


def main(model_path, data_path):
    fixture = json.loads((OUT / "smollm2.json").read_text())
    tok, model = load_tokenizer(model_path), load_model(model_path).double()
    rows = [json.loads(line) for line in gzip.open(data_path, "rt", encoding="utf-8")]
    prompts = []
    for want in fixture["prompts"][:3]:
        text = prompt(rows[want["row"]], want["lines"])
        prompts.append(tok.encode(text, add_special_tokens=False).ids)
        assert fnv1a(prompts[-1]) == want["hash"]

    loss = backward(model, prompts, fixture["star_ids"])
    wanted = ["model.embed_tokens.weight", "model.norm.weight"]
    wanted += [n for l in LAYERS for n, _ in model.named_parameters() if f".layers.{l}." in n]
    weights = ",\n".join(f'"{n}": {projected(model.get_parameter(n).grad)}' for n in wanted)
    text = f'{{"weights": {{{loss}, "gradients": {{\n{weights}\n}}}},\n'

    factors = add_adapter(model)
    loss = backward(model, prompts, fixture["star_ids"])
    text += f'"adapter": {{{loss}, "gradients": [\n'
    text += ",\n".join(projected(factor.grad) for factor in factors) + "\n]}}\n"
    (OUT / "smollm2-gradients.json").write_text(text)


if __name__ == "__main__":
    main(*sys.argv[1:])
