"""PEFT's adapters for the tests of adapters, and the check of ours in PEFT.

  python tests/reference/adapter_peft.py
      writes tests/fixtures/adapters/peft-NAME/: adapter_config.json and adapter_model.safetensors
      as PEFT saves them (random factors on models.py's tiny NAME), and expected.json/.f32 (tiny.py)

  SIREN_ADAPTER_OUT=/tmp/saved build/tests/test_adapter
  python tests/reference/adapter_peft.py check /tmp/saved
      loads what test_adapter saved there (the same adapters, loaded and saved again by us) in PEFT,
      fails on any warning about them, and compares the logits with those of the originals

Pinned: peft 0.21.2 beside tiny.py's versions.
"""

import json
import pathlib
import sys
import warnings

import numpy as np
import peft
import torch
import transformers as tf
from safetensors.torch import load_file, save_file
from tiny import OUT, expected

ADAPTERS = OUT.parent / "adapters"
KV = ["k_proj", "v_proj"]
ALL = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
CASES = {
    "llama": dict(r=8, lora_alpha=16, lora_dropout=0.05, target_modules=KV),
    "qwen3": dict(r=3, lora_alpha=4, use_rslora=True, target_modules=ALL,
                  layers_to_transform=[1]),
}


def base(name):
    return tf.AutoModelForCausalLM.from_pretrained(OUT / name, dtype=torch.float32,
                                                   attn_implementation="eager")


def make(name, seed, half):
    model = peft.get_peft_model(base(name), peft.LoraConfig(task_type="CAUSAL_LM", **CASES[name]))
    generator = torch.Generator().manual_seed(seed)
    for key, p in model.named_parameters():
        if "lora_" in key:
            p.data.copy_(torch.randn(p.shape, generator=generator) * 0.3)
            if half:
                p.data.copy_(p.data.bfloat16().float())
    folder = ADAPTERS / f"peft-{name}"
    model.peft_config["default"].base_model_name_or_path = name
    model.save_pretrained(folder)
    (folder / "README.md").unlink()
    config = json.loads((folder / "adapter_config.json").read_text())
    config["target_modules"].sort()  # a set: its order changes from run to run
    (folder / "adapter_config.json").write_text(json.dumps(config, indent=2) + "\n")
    if half:
        path = folder / "adapter_model.safetensors"
        save_file({k: v.bfloat16() for k, v in load_file(path).items()}, path, {"format": "pt"})
    expected(model, folder / "expected", seed, lengths=(1, 17, 40))


@torch.no_grad()
def check(folder):
    for name in CASES:
        with warnings.catch_warnings():
            warnings.filterwarnings("error", message=".*(adapter|keyword|LoraConfig).*")
            model = peft.PeftModel.from_pretrained(base(name), folder / name).eval()
        index = json.loads((ADAPTERS / f"peft-{name}" / "expected.json").read_text())
        values = np.fromfile(ADAPTERS / f"peft-{name}" / "expected.f32", "<f4")
        worst = 0
        for s in index["sequences"]:
            logits = model(torch.tensor([s["ids"]])).logits[0, s["positions"]]
            wanted = values[s["logprobs"]:][:logits.numel()].reshape(logits.shape)
            off = torch.log_softmax(logits, -1).numpy() - wanted
            worst = max(worst, np.abs(off).max())
        print(f"{name}: our files in PEFT, log-probabilities off by at most {worst:.2g}")
        assert worst <= 1e-3


if __name__ == "__main__":
    if sys.argv[1:2] == ["check"]:
        check(pathlib.Path(sys.argv[2]))
    else:
        make("llama", 31, False)
        make("qwen3", 32, True)
