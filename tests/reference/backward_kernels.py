"""Writes tests/fixtures/kernels/backward.f32 and embedding.f32: gradients by PyTorch's autograd, in
double, and from RoPE on what the operators give.

Raw little-endian float32 arrays one behind the other, in the order of tests/test_backward_kernels.c,
and of embedding.f32, over the tiny qwen3 that models.py has made, in that of tests/test_backward.c.
Pinned: torch 2.15.0, transformers 5.23.0, safetensors 0.8.0, numpy 2.4.6.
"""

import pathlib

import safetensors.torch
import torch
import torch.nn.functional as F
from transformers.models.qwen3.modeling_qwen3 import apply_rotary_pos_emb

FIXTURES = pathlib.Path(__file__).resolve().parent.parent / "fixtures"
OUT = FIXTURES / "kernels"
T, N = 4, 96  # rows of the element-wise kernels
HEADS, TOKENS, J, D = 3, 21, 51, 32  # query heads of one kv head; the last TOKENS of J positions
OUTPUTS, INPUTS = 50, 40  # of a linear product
EPS = 1e-5


def write(name, arrays):
    OUT.mkdir(parents=True, exist_ok=True)
    with open(OUT / name, "wb") as f:
        for array in arrays:
            f.write(array.detach().numpy().astype("<f4").tobytes())


def rotated(x, cosines, sines):
    """x: (TOKENS, HEADS, D)"""
    cos, sin = (torch.cat([a, a], dim=1).double()[None] for a in (cosines, sines))
    return apply_rotary_pos_emb(x.transpose(0, 1)[None], x.transpose(0, 1)[None], cos,
                                sin)[0][0].transpose(0, 1)


def embedding():
    """Rows of the vocabulary, some of them more than once; the ids are those of backward.py."""
    tensors = safetensors.torch.load_file(FIXTURES / "models" / "qwen3" / "model.safetensors")
    weight = tensors["model.embed_tokens.weight"].double().requires_grad_()
    ids = torch.tensor([(31 * i + 17 + i * i) % len(weight) for i in range(TOKENS * HEADS)])
    out = F.embedding(ids, weight)
    dout = torch.randn(out.shape, generator=torch.Generator().manual_seed(6))
    write("embedding.f32", [out, dout, *torch.autograd.grad((out * dout).sum(), weight)])


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

    heads, dheads = made(TOKENS, HEADS, D), made(TOKENS, HEADS, D)
    norm = made(D)
    angles = torch.arange(J - TOKENS, J)[:, None] * 10000.0 ** (-torch.arange(0, D, 2) / D)
    cosines, sines = angles.cos(), angles.sin()
    arrays.extend([cosines, sines])
    for x, inputs in ((heads, [heads]), (F.rms_norm(heads, (D,), norm, EPS), [heads, norm])):
        out = rotated(x, cosines, sines)
        arrays.append(out)
        gradients((out * dheads).sum(), *inputs)

    x, weight, dy = made(TOKENS, INPUTS), made(OUTPUTS, INPUTS), made(TOKENS, OUTPUTS)
    out = F.linear(x, weight)
    arrays.append(out)
    gradients((out * dy).sum(), x, weight)

    write("backward.f32", arrays)
    embedding()


if __name__ == "__main__":
    main()
