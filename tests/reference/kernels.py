"""Writes tests/fixtures/kernels/torch.f32: what PyTorch gives for the kernels that have a name there.

Raw little-endian float32 arrays one behind the other, in the order of tests/test_kernels.c.
Pinned: torch 2.15.0, numpy 2.4.6.
"""

import pathlib

import numpy as np
import torch
import torch.nn.functional as F

OUT = pathlib.Path(__file__).resolve().parent.parent / "fixtures" / "kernels"
T, N = 4, 100  # rows of the element-wise kernels
R, J, D = 5, 70, 32  # queries, positions and head_dim of attention
EPS = 1e-5


def main():
    g = torch.Generator().manual_seed(3)
    x = 3 * torch.randn(T, N, generator=g)
    up, weight, bias = (torch.randn(s, generator=g) for s in ((T, N), (N,), (N,)))
    q, k, v = (torch.randn(s, generator=g) for s in ((R, D), (J, D), (J, D)))
    angles = torch.arange(D // 2) * 0.7
    cos, sin = angles.cos(), angles.sin()
    a, b = q[:, : D // 2], q[:, D // 2 :]
    counts = torch.tensor([1, 17, 32, 51, 70])
    mask = torch.arange(J)[None, :] < counts[:, None]
    matrix = torch.randn(24, N, generator=g)
    arrays = [
        x, up, weight, bias,
        F.gelu(x.double()),
        F.silu(x.double()) * up,
        F.rms_norm(x.double(), (N,), weight.double(), EPS),
        F.layer_norm(x.double(), (N,), weight.double(), bias.double(), EPS),
        torch.logsumexp(x.double(), dim=1),
        matrix,
        F.linear(x.double(), matrix.double(), bias[:24].double()),
        q, k, v,
        F.scaled_dot_product_attention(q.double(), k.double(), v.double(), attn_mask=mask),
        cos, sin,
        torch.cat([a * cos - b * sin, b * cos + a * sin], dim=1),
    ]
    OUT.mkdir(parents=True, exist_ok=True)
    with open(OUT / "torch.f32", "wb") as f:
        for array in arrays:
            f.write(array.numpy().astype("<f4").tobytes())


if __name__ == "__main__":
    main()
