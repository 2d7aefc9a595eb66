"""Writes tests/fixtures/adapters/NAME-gradients.f32: what PyTorch's autograd gives for the loss of
tests/test_backward.c on lora.py's adapters (run that first).

  python tests/reference/backward.py

Sequences: a prefix of 45 tokens continued in three ways (9, 21, 1 tokens), and one of 38 alone.
Token i of stream s is (31·i + 17·s + i·i) mod n_vocab; streams: 1 the prefix, 2, 3, 4 its
continuations, 5 the lonely one.  With w(k) = cos(0.7 k) / 8 the loss is the sum of
  layer l (1 … L) at the last token of each sequence, and layer 1 at token 3 of the prefix:
      Σ_i w(i + l) hidden[l][i]
  at the last token of each: Σ_j w(j) logits[{3, 0, 7}[j]]
  log-probabilities of each token of stream 2 (temperature 1) and 3 (0.7) after the one before it:
      0.5 log p − 0.25 entropy;  at the prefix's last token also of token 5: 0.3 log p.
NAME-gradients.f32: for each layer, for each of q, k, v, o, gate, up, down: dA (r, in), dB (out, r).
NAME-weights.json, .f32: the same loss without an adapter; name -> [first number, how many] of each
weight's gradient.

Pinned: peft 0.21.2 beside tiny.py's versions.
"""

import json

import numpy as np
import peft
import torch
import transformers as tf
from lora import ADAPTERS, TARGETS
from tiny import OUT, write_json

LENGTHS = {1: 45, 2: 9, 3: 21, 4: 1, 5: 38}


def tokens(stream, vocab):
    return [(31 * i + 17 * stream + i * i) % vocab for i in range(LENGTHS[stream])]


def w(n, shift=0):
    return torch.cos(0.7 * (torch.arange(n, dtype=torch.float64) + shift)) / 8


def load(name):
    base = tf.AutoModelForCausalLM.from_pretrained(OUT / name, dtype=torch.float64,
                                                   attn_implementation="eager")
    settings = json.loads((ADAPTERS / f"{name}-factors.json").read_text())
    model = peft.get_peft_model(base, peft.LoraConfig(
        r=settings["r"], lora_alpha=settings["alpha"], use_rslora=settings["rslora"],
        target_modules=[t.split(".")[1] for t in TARGETS]))
    values, at, factors = np.fromfile(ADAPTERS / f"{name}-factors.f32", "<f4"), 0, []
    for layer in base.model.layers:
        for target in TARGETS:
            module = layer.get_submodule(target)
            for linear in (module.lora_A["default"], module.lora_B["default"]):
                weight = linear.weight
                n = weight.numel()
                weight.data = torch.tensor(values[at:at + n], dtype=torch.float64).reshape(
                    weight.shape)
                at += n
                factors.append(weight)
    return model, factors


def predictions(logits, targets, temperature):
    """0.5 log p - 0.25 entropy of each target after the row before it."""
    logs = torch.log_softmax(logits / temperature, -1)
    entropy = -(logs.exp() * logs).sum(-1)
    picked = logs[torch.arange(len(targets)), torch.tensor(targets)]
    return (0.5 * picked - 0.25 * entropy).sum()


def sequence_loss(model, ids, start, stream):
    out = model(torch.tensor([ids]), output_hidden_states=True)
    loss = torch.zeros((), dtype=torch.float64)
    for layer, hidden in enumerate(out.hidden_states):
        if layer:
            loss = loss + (hidden[0, -1] * w(hidden.shape[-1], layer)).sum()
    loss = loss + (out.logits[0, -1, [3, 0, 7]] * w(3)).sum()
    if stream in (2, 3):
        loss = loss + predictions(out.logits[0, start - 1:-1], ids[start:],
                                  1.0 if stream == 2 else 0.7)
    if stream == 2:
        hidden = out.hidden_states[1]
        loss = loss + (hidden[0, 3] * w(hidden.shape[-1], 1)).sum()
        loss = loss + 0.3 * torch.log_softmax(out.logits[0, start - 1], -1)[5]
    return loss


def whole_loss(model):
    vocab = model.config.vocab_size
    prefix = tokens(1, vocab)
    loss = sequence_loss(model, tokens(5, vocab), 0, 5)
    for stream in (2, 3, 4):
        loss = loss + sequence_loss(model, prefix + tokens(stream, vocab), len(prefix), stream)
    return loss


def weights(name):
    model = tf.AutoModelForCausalLM.from_pretrained(OUT / name, dtype=torch.float64,
                                                    attn_implementation="eager")
    whole_loss(model).backward()
    index, grads, at = {}, [], 0
    for key, parameter in model.named_parameters():
        grads.append(parameter.grad.numpy().astype("<f4").reshape(-1))
        index[key] = [at, grads[-1].size]
        at += grads[-1].size
    (ADAPTERS / f"{name}-weights.f32").write_bytes(np.concatenate(grads).tobytes())
    write_json(ADAPTERS / f"{name}-weights.json", index)


def main():
    for name in ("llama", "qwen2", "qwen3"):
        model, factors = load(name)
        loss = whole_loss(model)
        loss.backward()
        grads = [f.grad.numpy().astype("<f4").reshape(-1) for f in factors]
        (ADAPTERS / f"{name}-gradients.f32").write_bytes(np.concatenate(grads).tobytes())
        print(name, float(loss))
        weights(name)


if __name__ == "__main__":
    main()
