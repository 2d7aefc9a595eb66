"""Writes tests/fixtures/adapters/NAME.*: random LoRA factors on all matrices of three of models.py's
models, and what PEFT computes with them (NAME.json, NAME.f32; format: tiny.py).

  python tests/reference/lora.py

NAME-factors.json   {"r", "alpha", "rslora"}
NAME-factors.f32    for each layer, for each of q, k, v, o, gate, up, down: A (r, in), B (out, r)

Pinned: peft 0.21.2 beside tiny.py's versions.
"""

import numpy as np
import peft
import torch
import transformers as tf
from tiny import OUT, expected, write_json

ADAPTERS = OUT.parent / "adapters"
TARGETS = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj",
           "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj")


def adapter(name, seed, r, alpha, rslora):
    base = tf.AutoModelForCausalLM.from_pretrained(OUT / name, dtype=torch.float32,
                                                   attn_implementation="eager")
    model = peft.get_peft_model(base, peft.LoraConfig(
        r=r, lora_alpha=alpha, use_rslora=rslora,
        target_modules=[t.split(".")[1] for t in TARGETS]))
    generator, factors = torch.Generator().manual_seed(seed), []
    for layer in base.model.layers:
        for target in TARGETS:
            module = layer.get_submodule(target)
            for factor in (module.lora_A["default"].weight, module.lora_B["default"].weight):
                factor.data.copy_(torch.randn(factor.shape, generator=generator) * 0.3)
                factors.append(factor.detach().numpy().astype("<f4").reshape(-1))
    (ADAPTERS / f"{name}-factors.f32").write_bytes(np.concatenate(factors).tobytes())
    write_json(ADAPTERS / f"{name}-factors.json", {"r": r, "alpha": alpha, "rslora": rslora})
    expected(model, ADAPTERS / name, seed, lengths=(1, 17, 33, 70))


def main():
    ADAPTERS.mkdir(parents=True, exist_ok=True)
    adapter("llama", 21, 3, 6, False)
    adapter("qwen2", 22, 8, 4, True)
    adapter("qwen3", 23, 20, 20, False)


if __name__ == "__main__":
    main()
