"""Writes tests/fixtures/models/gguf/: the folder `smol` as GGUF files of several types, and a
one-layer model with K-quantised weights, with expected outputs (format: tiny.py).

  python tests/reference/models.py && python tests/reference/gguf_models.py

smol-TYPE.gguf   the matrices in TYPE, the embedding in Q8_0 (BF16: in the same type, so that
                 the weights are those of the folder); rows of q and k in the order of llama.cpp's
                 converter; smol's tokenizer in three of them
llama3.gguf      the folder `llama3`, scaled to Llama 3's own 8192 positions: rope_freqs.weight
llama-bias.gguf  a layer with biases of q, k, v and o, those of q and k reordered as well
qwen3.gguf       the folder `qwen3`: norms of q and k, not reordered
kquants.gguf     random Q4_K, Q5_K and Q6_K blocks, width 256
bert.gguf, xlmr.gguf   the folders of these names, with bert's tokenizer; XLM-RoBERTa's positions
                 begin at row pad + 1 and are cut to it.  Expected: the folders' own outputs

The decoders but llama3.gguf are also read by transformers' own GGUF loader, whose weights must be equal
to the bit to those used here.  Pinned: gguf 0.19.0, torch 2.15.0, transformers 5.23.0.
"""

import json
import math
import shutil

import gguf
import numpy as np
import torch
import transformers as tf
from gguf import GGMLQuantizationType as Q
from tiny import OUT, expected, randomise
from tokenizers import Tokenizer
from transformers.modeling_gguf_pytorch_utils import load_gguf_checkpoint

FOLDER = OUT / "gguf"
NAMES = {
    "model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight", "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm", "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm",
    "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
}


def gguf_name(name):
    if name in NAMES:
        return NAMES[name]
    _, _, layer, rest = name.split(".", 3)
    inner, kind = rest.rsplit(".", 1)
    return f"blk.{layer}.{NAMES[inner]}.{kind}"


def permute(w, n_heads):
    """Rotated halves to neighbouring pairs, as llama.cpp's converter does."""
    return w.reshape(n_heads, 2, w.shape[0] // n_heads // 2, -1).swapaxes(1, 2).reshape(w.shape)


def unpermute(w, n_heads):
    return w.reshape(n_heads, w.shape[0] // n_heads // 2, 2, -1).swapaxes(1, 2).reshape(w.shape)


def heads_of(name, config):
    """Heads of a tensor whose rows are reordered, else 0."""
    if config.model_type != "llama" or "_proj" not in name:
        return 0
    return config.num_attention_heads if "q_proj" in name else \
        config.num_key_value_heads if "k_proj" in name else 0


def write_metadata(w, config, name):
    w.add_name(name)
    w.add_block_count(config.num_hidden_layers)
    w.add_context_length(config.max_position_embeddings)
    w.add_embedding_length(config.hidden_size)
    w.add_feed_forward_length(config.intermediate_size)
    w.add_head_count(config.num_attention_heads)
    w.add_head_count_kv(config.num_key_value_heads)
    w.add_key_length(config.head_dim)
    w.add_value_length(config.head_dim)
    w.add_rope_dimension_count(config.head_dim)
    w.add_rope_freq_base(config.rope_parameters["rope_theta"])
    w.add_layer_norm_rms_eps(config.rms_norm_eps)
    w.add_vocab_size(config.vocab_size)


def write_tokenizer(w, folder):
    tok = Tokenizer.from_file(str(folder / "tokenizer.json"))
    config = json.loads((folder / "tokenizer_config.json").read_text())
    model = json.loads(tok.to_str())["model"]
    vocab = sorted(tok.get_vocab(), key=tok.get_vocab().get)
    specials = {"<|endoftext|>", "<|im_start|>", "<|im_end|>"}
    w.add_tokenizer_model("gpt2")
    w.add_tokenizer_pre("smollm")
    w.add_token_list(vocab)
    w.add_token_types([3 if t in specials else 1 for t in vocab])
    w.add_token_merges([" ".join(m) for m in model["merges"]])
    w.add_bos_token_id(1)
    w.add_eos_token_id(2)
    w.add_unk_token_id(0)
    w.add_pad_token_id(2)
    w.add_add_bos_token(False)
    w.add_add_space_prefix(False)
    w.add_chat_template(config["chat_template"])


def llama3_divisors(config):
    """What llama.cpp's converter writes as rope_freqs.weight."""
    p, dim = config.rope_parameters, config.head_dim
    low, high = p["low_freq_factor"], p["high_freq_factor"]
    positions, out = p["original_max_position_embeddings"], []
    for freq in 1.0 / p["rope_theta"] ** (np.arange(0, dim, 2, dtype=np.float32) / dim):
        wavelength = 2 * math.pi / freq
        smooth = (positions / wavelength - low) / (high - low)
        if wavelength < positions / high:
            out.append(1.0)
        elif wavelength > positions / low:
            out.append(p["factor"])
        else:
            out.append(1 / ((1 - smooth) / p["factor"] + smooth))
    return np.array(out, dtype=np.float32)


def close(w):
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


def write(model, path, types, tokenizer=None):
    """Writes the model and puts the dequantised weights back into it."""
    config = model.config
    w = gguf.GGUFWriter(path, config.model_type)
    write_metadata(w, config, path.stem)
    if tokenizer:
        write_tokenizer(w, tokenizer)
    if config.rope_parameters["rope_type"] == "llama3":
        w.add_tensor("rope_freqs.weight", llama3_divisors(config))
    for name, p in model.named_parameters():
        x, heads = p.detach().numpy().astype(np.float32), heads_of(name, config)
        qtype = types(gguf_name(name)) if x.ndim == 2 else Q.F32
        data = gguf.quants.quantize(permute(x, heads) if heads else x, qtype)
        w.add_tensor(gguf_name(name), data, raw_dtype=qtype)
        stored = gguf.quants.dequantize(data, qtype).reshape(x.shape)
        p.data = torch.from_numpy(np.array(unpermute(stored, heads) if heads else stored))
    close(w)


def check_against_transformers(model, path):
    other = load_gguf_checkpoint(path, return_tensors=True, model_to_load=model)["tensors"]
    for name, p in model.named_parameters():
        assert torch.equal(p, other[name]), name


def load(name):
    return tf.AutoModelForCausalLM.from_pretrained(OUT / name, dtype=torch.float32,
                                                   attn_implementation="eager")


def smol(qtype):
    model, path = load("smol"), FOLDER / f"smol-{qtype.name.lower()}.gguf"
    embedding = Q.BF16 if qtype == Q.BF16 else Q.Q8_0
    write(model, path, lambda n: embedding if n == "token_embd.weight" else qtype,
          OUT / "smol" if qtype in (Q.BF16, Q.Q8_0, Q.Q4_1) else None)
    check_against_transformers(model, path)
    expected(model, path, 20, lengths=(1, 40))


def llama3():
    config = tf.LlamaConfig.from_pretrained(OUT / "llama3")
    config.rope_parameters.update(original_max_position_embeddings=8192, rope_theta=500000.0,
                                  factor=32.0)
    model = tf.LlamaForCausalLM._from_config(config, attn_implementation="eager")
    model.load_state_dict(load("llama3").state_dict())
    path = FOLDER / "llama3.gguf"
    write(model, path, lambda n: Q.F16)
    expected(model, path, 21, lengths=(1, 70))


def llama_bias():
    config = tf.LlamaConfig(hidden_size=32, num_hidden_layers=2, num_attention_heads=4, head_dim=16,
                            num_key_value_heads=2, intermediate_size=48, vocab_size=64,
                            max_position_embeddings=128, attention_bias=True,
                            tie_word_embeddings=True)
    model = tf.LlamaForCausalLM._from_config(config, attn_implementation="eager")
    randomise(model, 24)
    path = FOLDER / "llama-bias.gguf"
    write(model, path, lambda n: Q.F16)
    check_against_transformers(model, path)
    expected(model, path, 24, lengths=(1, 40))


def qwen3():
    model, path = load("qwen3"), FOLDER / "qwen3.gguf"
    write(model, path, lambda n: Q.Q8_0)
    check_against_transformers(model, path)
    expected(model, path, 22, lengths=(1, 40))


def k_blocks(rng, qtype, rows, columns, spread):
    """Random blocks whose values have about the given standard deviation."""
    size, nbytes = gguf.GGML_QUANT_SIZES[qtype]
    raw = rng.integers(0, 256, (rows * columns // size, nbytes), dtype=np.uint8)
    n = len(raw)
    quant = {Q.Q4_K: 7.5, Q.Q5_K: 15.5, Q.Q6_K: 32}[qtype]  # middle of a quant's range
    scale = spread / quant / (74 if qtype == Q.Q6_K else 32)
    half = lambda x: (x * rng.uniform(0.8, 1.2, n)).astype(np.float16).view(np.uint8).reshape(n, 2)
    if qtype == Q.Q6_K:
        raw[:, 208:210] = half(scale)
    else:
        raw[:, 0:2], raw[:, 2:4] = half(scale), half(scale * quant)
    return raw.reshape(rows, -1)


def kquants():
    config = tf.LlamaConfig(hidden_size=256, num_hidden_layers=1, num_attention_heads=2, head_dim=16,
                            num_key_value_heads=1, intermediate_size=256, vocab_size=64,
                            max_position_embeddings=128, tie_word_embeddings=True)
    model = tf.LlamaForCausalLM._from_config(config, attn_implementation="eager")
    types = {"attn_q": Q.Q4_K, "attn_k": Q.Q5_K, "attn_v": Q.Q6_K, "attn_output": Q.Q8_0,
             "ffn_gate": Q.Q4_K, "ffn_up": Q.Q5_K, "ffn_down": Q.Q6_K, "token_embd": Q.F16}
    rng, path = np.random.default_rng(30), FOLDER / "kquants.gguf"
    w = gguf.GGUFWriter(path, "llama")
    write_metadata(w, config, "kquants")
    for name, p in model.named_parameters():
        target, heads = gguf_name(name), heads_of(name, config)
        kind = next((t for n, t in types.items() if f"{n}.weight" in target), Q.F32)
        if kind in (Q.Q4_K, Q.Q5_K, Q.Q6_K):
            data = k_blocks(rng, kind, *p.shape, 1.2 / math.sqrt(p.shape[1]))
        else:
            x = rng.normal(0, 0.3, p.shape) if p.dim() == 2 else 1 + rng.normal(0, 0.3, p.shape)
            data = gguf.quants.quantize(x.astype(np.float32), kind)
        w.add_tensor(target, data, raw_dtype=kind)
        stored = gguf.quants.dequantize(data, kind).reshape(p.shape)
        p.data = torch.from_numpy(np.array(unpermute(stored, heads) if heads else stored))
    close(w)
    check_against_transformers(model, path)
    expected(model, path, 23, lengths=(1, 40))


ENCODER_NAMES = {
    "embeddings.word_embeddings": "token_embd", "embeddings.position_embeddings": "position_embd",
    "embeddings.token_type_embeddings": "token_types", "embeddings.LayerNorm": "token_embd_norm",
    "attention.self.query": "attn_q", "attention.self.key": "attn_k",
    "attention.self.value": "attn_v", "attention.output.dense": "attn_output",
    "attention.output.LayerNorm": "attn_output_norm", "intermediate.dense": "ffn_up",
    "output.dense": "ffn_down", "output.LayerNorm": "layer_output_norm",
}


def write_wordpiece(w, folder):
    model = json.loads((folder / "tokenizer.json").read_text())["model"]
    vocab = sorted(model["vocab"], key=model["vocab"].get)
    special = [t[0] == "[" and t[-1] == "]" and len(t) > 2 for t in vocab]
    w.add_tokenizer_model("bert")
    w.add_token_list([t if s else t[2:] if t.startswith("##") else "\u2581" + t
                      for t, s in zip(vocab, special)])
    w.add_token_types([3 if s else 1 for s in special])
    w.add_unk_token_id(vocab.index("[UNK]"))
    w.add_bos_token_id(vocab.index("[CLS]"))
    w.add_sep_token_id(vocab.index("[SEP]"))


def encoder(name, pooling, qtype):
    model = tf.AutoModel.from_pretrained(OUT / name, dtype=torch.float32)
    config, path = model.config, FOLDER / f"{name}.gguf"
    skip = config.pad_token_id + 1 if config.model_type == "xlm-roberta" else 0
    w = gguf.GGUFWriter(path, "bert")
    w.add_name(name)
    w.add_block_count(config.num_hidden_layers)
    w.add_context_length(config.max_position_embeddings - skip)
    w.add_embedding_length(config.hidden_size)
    w.add_feed_forward_length(config.intermediate_size)
    w.add_head_count(config.num_attention_heads)
    w.add_layer_norm_eps(config.layer_norm_eps)
    w.add_causal_attention(False)
    w.add_pooling_type(pooling)
    w.add_token_type_count(config.type_vocab_size)
    if (OUT / name / "tokenizer.json").exists():
        write_wordpiece(w, OUT / name)
    for key, p in model.named_parameters():
        if key.startswith("pooler."):
            continue
        x, layer = p.detach().numpy(), ""
        if key.startswith("encoder.layer."):
            _, _, number, key = key.split(".", 3)
            layer = f"blk.{number}."
        inner, kind = key.rsplit(".", 1)
        if inner == "embeddings.position_embeddings":
            x = x[skip:]
        data = gguf.quants.quantize(x, qtype if x.ndim == 2 else Q.F32)
        w.add_tensor(f"{layer}{ENCODER_NAMES[inner]}.{kind}", data)
    close(w)


def main():
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    for qtype in (Q.BF16, Q.Q8_0, Q.Q4_0, Q.Q4_1, Q.Q5_0, Q.Q5_1):
        smol(qtype)
    llama3()
    llama_bias()
    qwen3()
    kquants()
    encoder("bert", gguf.PoolingType.MEAN, Q.F32)
    encoder("xlmr", gguf.PoolingType.CLS, Q.F16)


if __name__ == "__main__":
    main()
