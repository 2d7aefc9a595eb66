"""Writes tests/fixtures/models/real/minilm.json and minilm.f32: embeddings of 50 synthetic
sentences by sentence-transformers with all-MiniLM-L6-v2, in float32, one at a time.

  python tests/reference/minilm.py FOLDER

minilm.json: {"texts": [...], "dimensions": 384}; minilm.f32: (50, 384) raw little-endian float32.
Pinned: sentence-transformers 6.2.0, transformers 5.23.0, torch 2.15.0.
"""

import json
import pathlib
import random
import sys

import numpy as np
from sentence_transformers import SentenceTransformer

OUT = pathlib.Path(__file__).resolve().parent.parent / "fixtures" / "models" / "real"
SUBJECTS = ["A retired detective", "Two sisters", "The last lighthouse keeper", "A young violinist",
            "An old robot", "Three thieves", "The mayor's daughter", "A tired samurai"]
VERBS = ["returns to", "escapes from", "falls in love in", "defends", "forgets", "maps", "haunts"]
PLACES = ["a village by the sea", "1940s Paris", "an empty space station", "the café Zürich",
          "a school for magicians", "the desert", "a city under siege", "the 3rd floor"]
ODD = ["", "a", "?!", "Drama|Action|Thriller", "naïve façade — déjà vu", "日本の映画", "Привет, мир",
       "emoji 👩‍👩‍👧 and text", "  spaces   between\twords \n", "UPPER lower 12345 3.14159",
       "[CLS] special [SEP] words [MASK]", "unbelievablyunsegmentablewordwithoutanyspaces" * 3]


def sentences():
    rng, out = random.Random(50), list(ODD)
    while len(out) < 46:
        n = rng.choice([1, 1, 2, 3])
        out.append(" ".join(f"{rng.choice(SUBJECTS)} {rng.choice(VERBS)} {rng.choice(PLACES)}."
                            for _ in range(n)))
    for n in (10, 20, 30, 60):  # the last ones are longer than the model reads
        out.append(" ".join(f"{rng.choice(SUBJECTS)} {rng.choice(VERBS)} {rng.choice(PLACES)}."
                            for _ in range(n)))
    return out


def main(folder):
    model = SentenceTransformer(folder, device="cpu")
    texts = sentences()
    vectors = np.stack([model.encode(t, convert_to_numpy=True) for t in texts]).astype("<f4")
    OUT.mkdir(parents=True, exist_ok=True)
    (OUT / "minilm.json").write_text(json.dumps({"texts": texts, "dimensions": vectors.shape[1]},
                                                ensure_ascii=False, indent=1) + "\n")
    (OUT / "minilm.f32").write_bytes(vectors.tobytes())
    print(vectors.shape, np.linalg.norm(vectors, axis=1).min())


if __name__ == "__main__":
    main(*sys.argv[1:])
