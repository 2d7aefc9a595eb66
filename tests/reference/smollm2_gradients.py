"""Writes tests/fixtures/models/real/smollm2-gradients.json: gradients of LoRA factors on SmolLM2 by
PyTorch's autograd in double, on the first three prompts of smollm2.json (run smollm2.py first).

  python tests/reference/smollm2_gradients.py MODEL.gguf MOVIES/test.jsonl.gz

The adapter: k and v of every layer, r = 8, scale = 2, no dropout.  Factor f (0, 1, …: layer by layer,
k then v, A then B) has the numbers cos(0.37 i + f) / 50 at i = 0, 1, … of its storage.  The loss: the
mean over the prompts of the cross-entropy over the five rating labels, prompt p's label being the
(p + 1)-th.  "factors": for each [norm, Σ_i cos(0.7 i) g_i] of its gradient.
"""

import gzip
import json
import sys

import peft
import torch
from smollm2 import OUT, fnv1a, load_model, load_tokenizer, prompt


def main(model_path, data_path):
    fixture = json.loads((OUT / "smollm2.json").read_text())
    tok, base = load_tokenizer(model_path), load_model(model_path).double()
    rows = [json.loads(line) for line in gzip.open(data_path, "rt", encoding="utf-8")]
    model = peft.get_peft_model(base, peft.LoraConfig(
        r=8, lora_alpha=16, target_modules=["k_proj", "v_proj"]))
    factors = []
    for layer in base.model.layers:
        for linear in (layer.self_attn.k_proj, layer.self_attn.v_proj):
            for factor in (linear.lora_A["default"].weight, linear.lora_B["default"].weight):
                i = torch.arange(factor.numel(), dtype=torch.float64)
                values = (torch.cos(0.37 * i + len(factors)) / 50).float().double()
                factor.data = values.reshape(factor.shape)
                factors.append(factor)
    loss = 0
    for p, want in enumerate(fixture["prompts"][:3]):
        ids = tok.encode(prompt(rows[want["row"]], want["lines"]), add_special_tokens=False).ids
        assert fnv1a(ids) == want["hash"]
        logits = model(torch.tensor([ids]), logits_to_keep=1).logits[0, -1]
        loss = loss - torch.log_softmax(logits[fixture["star_ids"]], -1)[p + 1] / 3
    loss.backward()
    out = []
    for factor in factors:
        g = factor.grad.reshape(-1)
        i = torch.arange(g.numel(), dtype=torch.float64)
        out.append([float(g.norm()), float((g * torch.cos(0.7 * i)).sum())])
    text = ",\n".join(f"[{a:.9g}, {b:.9g}]" for a, b in out)
    (OUT / "smollm2-gradients.json").write_text(
        f'{{"loss": {float(loss):.9g},\n"factors": [\n{text}\n]}}\n')
    print(float(loss))


if __name__ == "__main__":
    main(*sys.argv[1:])
