"""What models.py and gguf_models.py share: seeded random weights, expected outputs.

Expected outputs lie in a folder as two files (beside NAME.gguf as NAME.json and NAME.f32):

  expected.json   {"n_layers", "d_model", "n_vocab",
                   "sequences": [{"ids": [...], "positions": [...],
                                  "hidden": OFFSET, "logprobs": OFFSET | "pooled": OFFSET}]}
  expected.f32    raw little-endian float32; offsets count floats:
                  hidden    (n_layers + 1, len(positions), d_model): 0 is the embedding, the last
                            one is after the final norm
                  logprobs  (len(positions), n_vocab), log-softmax            decoders
                  pooled    (d_model), the sentence's embedding                encoders

All are computed by transformers in float32 on the CPU with eager attention from the weights as
they are stored.  Pinned: torch 2.15.0, transformers 5.23.0, numpy 2.4.6.
"""

import json
import math
import pathlib

import numpy as np
import torch

OUT = pathlib.Path(__file__).resolve().parent.parent / "fixtures" / "models"
LENGTHS = (1, 2, 17, 33, 70)


def randomise(model, seed):
    """Weights of a size that keeps states of order one and logits of order three."""
    generator = torch.Generator().manual_seed(seed)
    for name, p in model.named_parameters():
        noise = torch.randn(p.shape, generator=generator)
        if p.dim() == 1:
            value = 0.3 * noise + (0 if name.endswith("bias") else 1)
        elif "embed" in name:
            value = noise
        else:
            value = noise * (3 if "lm_head" in name else 1.4) / math.sqrt(p.shape[1])
        p.data.copy_(value)


def sequences(n_vocab, seed, lengths=LENGTHS, avoid=()):
    rng = np.random.default_rng(seed)
    allowed = np.array([i for i in range(n_vocab) if i not in avoid])
    for n in lengths:
        positions = sorted({p for p in (0, n // 2, 31, 32, n - 1) if p < n})
        yield [int(i) for i in rng.choice(allowed, n)], positions


def pool(states, how, normalise):
    v = states[0] if how == "cls" else states.mean(dim=0)
    return v / v.norm() if normalise else v


@torch.no_grad()
def expected(model, stem, seed, lengths=LENGTHS, pooling=None, normalise=False, avoid=()):
    """Writes STEM.json and STEM.f32; pooling: None for decoders, else "cls" or "mean"."""
    config, floats, index, at = model.config, [], [], 0
    model = model.float().eval()

    def put(x):
        nonlocal at
        floats.append(x.detach().numpy().astype("<f4").reshape(-1))
        at += floats[-1].size
        return at - floats[-1].size

    for ids, positions in sequences(config.vocab_size, seed, lengths, avoid):
        out = model(torch.tensor([ids]), output_hidden_states=True)
        hidden = torch.stack([h[0, positions] for h in out.hidden_states])
        entry = {"ids": ids, "positions": positions, "hidden": put(hidden)}
        if pooling:
            entry["pooled"] = put(pool(out.hidden_states[-1][0], pooling, normalise))
        else:
            entry["logprobs"] = put(torch.log_softmax(out.logits[0, positions], dim=-1))
        index.append(entry)
    head = {"n_layers": config.num_hidden_layers, "d_model": config.hidden_size,
            "n_vocab": config.vocab_size, "sequences": index}
    stem.with_suffix(".json").write_text(json.dumps(head) + "\n")
    stem.with_suffix(".f32").write_bytes(np.concatenate(floats).tobytes())


def write_json(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=1) + "\n")
