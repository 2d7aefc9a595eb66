"""Writes tests/fixtures/kernels/backward.f32: gradients by PyTorch's autograd, in double.

Raw little-endian float32 arrays one behind the other, in the order of tests/test_backward_kernels.c.
Pinned: torch 2.15.0, numpy 2.4.6.
"""

import pathlib

import torch
import torch.nn.functional as F

OUT = pathlib.Path(__file__).resolve().parent.parent / "fixtures" / "kernels"
T, N = 4, 96  # rows of the element-wise kernels
HEADS, TOKENS, J, D = 3, 21, 51, 32  # query heads of one kv head; the last TOKENS of J positions
EPS = 1e-5


def main():
    g = torch.Generator().manual_seed(5)
    arrays = []

    def made(*shape, scale=1.0):
        x = scale * torch.randn(*shape, generator=g)
        arrays.append(x)
        return x.double().requires_grad_()

    def gradients(loss, *inputs):
        arrays.extend(torch.autograd.grad(loss, inputs))

    x, weight, dy = made(T, N, scale=3), made(N), made(T, N)
    gradients((F.rms_norm(x, (N,), weight, EPS) * dy).sum(), x, weight)

    gate, up, dh = made(T, N, scale=3), made(T, N), made(T, N)
    gradients((F.silu(gate) * up * dh).sum(), gate, up)

    q, k, v = made(TOKENS, HEADS, D), made(J, D), made(J, D)
    dout = made(TOKENS, HEADS, D)
    mask = torch.arange(J)[None, :] <= torch.arange(J - TOKENS, J)[:, None]
    out = F.scaled_dot_product_attention(
        q.transpose(0, 1), k[None], v[None], attn_mask=mask, enable_gqa=True
    )
    gradients((out.transpose(0, 1) * dout).sum(), q, k, v)

    logits = made(T, N, scale=3)
    gradients(F.cross_entropy(logits, torch.tensor([0, 31, 90, 95])), logits)
    log_p = F.log_softmax(logits, dim=1)
    gradients(-(log_p.exp() * log_p).sum(), logits)

    OUT.mkdir(parents=True, exist_ok=True)
    with open(OUT / "backward.f32", "wb") as f:
        for array in arrays:
            f.write(array.detach().numpy().astype("<f4").tobytes())


if __name__ == "__main__":
    main()
