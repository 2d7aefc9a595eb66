"""Writes the seeds of the fuzz targets gguf, safetensors and config: tests/fuzz/corpus/.

Run after models.py.  Pinned: gguf 0.19.0, numpy 2.4.6.
"""

import json
import pathlib

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Q

TESTS = pathlib.Path(__file__).resolve().parent.parent
CORPUS, MODELS = TESTS / "fuzz" / "corpus", TESTS / "fixtures" / "models"


def folder(name):
    (CORPUS / name).mkdir(parents=True, exist_ok=True)
    return CORPUS / name


def close(w):
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


def gguf_seeds():
    w = gguf.GGUFWriter(folder("gguf") / "metadata", "llama")
    w.add_custom_alignment(8)
    w.add_array("test.strings", ["a", "bc", ""])
    w.add_array("x", [1, 2, 3])
    w.add_array("a", [0.5])
    w.add_bool("b", True)
    for i, qtype in enumerate((Q.F32, Q.F16, Q.BF16)):
        w.add_tensor(f"t{i}", gguf.quants.quantize(np.ones((2, 2), np.float32), qtype),
                     raw_dtype=qtype)
    for qtype in (Q.Q8_0, Q.Q4_0, Q.Q5_1, Q.Q6_K):
        size, nbytes = gguf.GGML_QUANT_SIZES[qtype]
        w.add_tensor(qtype.name, np.zeros((1, nbytes), np.uint8), raw_dtype=qtype)
    close(w)
    w = gguf.GGUFWriter(CORPUS / "gguf" / "model", "qwen2")
    w.add_block_count(1)
    w.add_context_length(8)
    w.add_embedding_length(2)
    w.add_feed_forward_length(2)
    w.add_head_count(1)
    w.add_layer_norm_rms_eps(1e-5)
    w.add_rope_freq_base(1e4)
    w.add_rope_scaling_type(gguf.RopeScalingType.YARN)
    w.add_rope_scaling_factor(2.0)
    names = {"token_embd.weight": (3, 2), "output_norm.weight": (2,), "rope_freqs.weight": (1,)}
    for name in ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"):
        names[f"blk.0.{name}.weight"] = (2, 2)
    for name in ("attn_norm.weight", "ffn_norm.weight", "attn_q.bias", "attn_k.bias", "attn_v.bias"):
        names[f"blk.0.{name}"] = (2,)
    for name, shape in names.items():
        w.add_tensor(name, np.ones(shape, np.float32))
    close(w)


def safetensors_seeds():
    out = folder("safetensors")
    header = {"__metadata__": {"format": "pt"},
              "a": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]},
              "b": {"dtype": "BF16", "shape": [3], "data_offsets": [16, 22]},
              "c": {"dtype": "I64", "shape": [], "data_offsets": [22, 30]}}
    text = json.dumps(header).encode()
    (out / "header").write_bytes(bytes([31]) + text)
    (out / "file").write_bytes(b"\0" + len(text).to_bytes(8, "little") + text + bytes(30))


def config_seeds():
    out = folder("config")
    names = ["config.json", "modules.json", "1_Pooling/config.json", "sentence_bert_config.json",
             "tokenizer_config.json"]
    for model in ("llama3", "yarn", "qwen3", "bert", "xlmr"):
        texts = [(MODELS / model / n).read_text() if (MODELS / model / n).exists() else ""
                 for n in names]
        texts.append('{"prompts": {"q": "query: "}, "default_prompt_name": "q"}')
        texts.append('{"weight_map": {"a": "1.safetensors"}}')
        packed = [json.dumps(json.loads(t)) if t else "{}" for t in texts]
        (out / model).write_bytes("\0".join(packed).encode())


if __name__ == "__main__":
    gguf_seeds()
    safetensors_seeds()
    config_seeds()
