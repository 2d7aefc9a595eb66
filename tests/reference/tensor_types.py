"""Writes tests/fixtures/models/types.gguf and types.f32: every tensor type and every
kind of metadata, by gguf-py, with gguf-py's own dequantisation as the expected result.

types.f32 holds, for the tensors in the order of the file, their elements as raw
little-endian float32.  Pinned: gguf 0.19.0, numpy 2.4.6.
"""

import pathlib

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Q
from gguf import GGUFValueType as V

OUT = pathlib.Path(__file__).resolve().parent.parent / "fixtures" / "models"
ROWS, COLUMNS = 2, 512
TYPES = [Q.F32, Q.F16, Q.BF16, Q.Q8_0, Q.Q4_0, Q.Q4_1, Q.Q5_0, Q.Q5_1, Q.Q4_K, Q.Q5_K, Q.Q6_K]
# Byte offsets of the f16 scales in a block.
SCALES = {
    Q.Q8_0: [0], Q.Q4_0: [0], Q.Q4_1: [0, 2], Q.Q5_0: [0], Q.Q5_1: [0, 2],
    Q.Q4_K: [0, 2], Q.Q5_K: [0, 2], Q.Q6_K: [208],
}


def blocks(rng, qtype):
    """Random bytes; scales are finite, of both signs, some of them subnormal or zero."""
    size, nbytes = gguf.GGML_QUANT_SIZES[qtype]
    n = ROWS * COLUMNS // size
    raw = rng.integers(0, 256, (n, nbytes), dtype=np.uint8)
    for at in SCALES[qtype]:
        scale = rng.normal(0, 0.05, n).astype(np.float16)
        scale[0] = 3e-7
        scale[-1] = 0 if at else -65504
        raw[:, at : at + 2] = scale.view(np.uint8).reshape(n, 2)
    return raw.reshape(ROWS, -1)


def plain(rng, qtype):
    x = rng.normal(0, 1, (ROWS, COLUMNS)).astype(np.float32)
    x[0, :8] = [0.0, -0.0, 1e-7, -6e-8, 65504, -65504, np.inf, -np.inf]
    if qtype == Q.BF16:
        return gguf.quants.quantize(x, Q.BF16)
    return x.astype(np.float16) if qtype == Q.F16 else x


def main():
    rng = np.random.default_rng(20)
    writer = gguf.GGUFWriter(OUT / "types.gguf", "llama")
    writer.add_custom_alignment(64)
    scalars = {
        "uint8": (V.UINT8, 200), "int8": (V.INT8, -100), "uint16": (V.UINT16, 60000),
        "int16": (V.INT16, -30000), "uint32": (V.UINT32, 4000000000), "int32": (V.INT32, -2000000000),
        "uint64": (V.UINT64, 2**63 + 1), "int64": (V.INT64, -(2**62)), "float32": (V.FLOAT32, 0.5),
        "float64": (V.FLOAT64, -1e300), "bool": (V.BOOL, True), "string": (V.STRING, "naïve 星"),
    }
    for name, (kind, value) in scalars.items():
        writer.add_key_value("test." + name, value, kind)
    writer.add_array("test.strings", ["", "a", "two words", "ö"])
    writer.add_array("test.ints", [-1, 0, 7])
    writer.add_array("test.floats", [0.25, -2.0])
    writer.add_array("test.bools", [True, False])
    expected = []
    for qtype in TYPES:
        data = blocks(rng, qtype) if qtype in SCALES else plain(rng, qtype)
        writer.add_tensor(qtype.name, data, raw_dtype=qtype)
        expected.append(gguf.quants.dequantize(data, qtype).reshape(-1).astype("<f4"))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    (OUT / "types.f32").write_bytes(np.concatenate(expected).tobytes())


if __name__ == "__main__":
    main()
