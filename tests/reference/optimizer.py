"""AdamW, clipping and schedules as PyTorch 2.15.0 and transformers 5.23.0 compute them:
tests/fixtures/train/optimizer.json."""
import json
import os
import pathlib

# MKL, which takes PyTorch's square roots, has exact ones in its code for AVX2 only: by default some
# are off by a unit in the last place, which of them depends on the processor.
os.environ["MKL_CBWR"] = "AVX2"
import numpy as np
import torch
from transformers import (get_constant_schedule_with_warmup, get_cosine_schedule_with_warmup,
                          get_linear_schedule_with_warmup)

STEPS, SHAPES = 60, [(5, 7), (1, 11)]
torch.set_num_threads(1)
some = np.random.default_rng(1).random(1 << 20, np.float32)
assert (torch.from_numpy(some).sqrt().numpy() == np.sqrt(some)).all(), "roots are not exact here"
torch.manual_seed(7)


def flat(tensors):
    return [float(x) for t in tensors for x in t.detach().reshape(-1)]


params = [torch.nn.Parameter(torch.randn(s)) for s in SHAPES]
start = flat(params)
groups = [dict(params=[params[0]], lr=3e-3, weight_decay=0.05),
          dict(params=[params[1]], lr=1.5e-3, weight_decay=0.0)]
optimiser = torch.optim.AdamW(groups, betas=(0.9, 0.999), eps=1e-8, foreach=False)
gradients, norms, values = [], [], []
for step in range(STEPS):
    for p in params:
        p.grad = torch.randn(p.shape) * 10.0 ** ((step % 5) - 3)
    gradients.append(flat(p.grad for p in params))
    optimiser.step()
    values.append(flat(params))
m = flat(optimiser.state[p]["exp_avg"] for p in params)
v = flat(optimiser.state[p]["exp_avg_sq"] for p in params)
norms = [float(torch.nn.utils.clip_grad_norm_(params, 1.0)), float(params[0].grad[0, 0])]


def schedule(make, *arguments):
    dummy = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    s = make(dummy, *arguments)
    out = []
    for _ in range(41):
        out.append(s.get_last_lr()[0])
        dummy.step()
        s.step()
    return out


out = dict(steps=STEPS, start=start, gradients=[x for g in gradients for x in g],
           values=[x for g in values for x in g], m=m, v=v, clip=norms,
           constant=schedule(get_constant_schedule_with_warmup, 7),
           linear=schedule(get_linear_schedule_with_warmup, 7, 40),
           cosine=schedule(get_cosine_schedule_with_warmup, 7, 40),
           no_warmup=schedule(get_cosine_schedule_with_warmup, 0, 40))
path = pathlib.Path(__file__).parent.parent / "fixtures" / "train" / "optimizer.json"
path.write_text(json.dumps(out) + "\n")
