"""SIREN beside its peers on the same prompts, in one run, alternating; medians and ratios.

  python bench/peers.py --programs build/bench --prompts PROMPTS.jsonl --titles TITLES.jsonl \
      --model M.gguf --encoder DIR [--rounds 3] [--limit 32] [--isa avx2] [--output report.md]

Peers: transformers (PyTorch, float32 and bfloat16), OpenVINO (the same network, float32 and
bfloat16), llama.cpp (the file's own quantisation, and Q8_0, F32, BF16 made from it by llama.cpp
itself), sentence-transformers and the same encoder on onnxruntime.  All get the same token ids, two
threads (or --threads), and the loading of a model is never counted.  A line that a peer cannot run
says why.  scripts/bench.sh installs the pinned peers and calls this.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time


def say(text):
    print(text, file=sys.stderr, flush=True)


class Siren:
    """One instruction set and mode of ours, through build/bench/bench_engine."""

    def __init__(self, args, isa, compute="f32"):
        self.args, self.isa, self.compute = args, isa, compute
        self.name = f"SIREN {isa} {compute}"

    def run(self, task, **more):
        command = [str(self.args.programs / "bench_engine"), task, "--isa", self.isa,
                   "--compute", self.compute, "--threads", str(self.args.threads)]
        for key, value in more.items():
            command += [f"--{key}", str(value)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(done.stderr.strip())
        return json.loads(done.stdout)

    def model_task(self, task):
        return self.run(task, model=self.args.model, prompts=self.args.prompts,
                        limit=self.args.limit)

    def score(self):
        return self.model_task("score")["tokens_per_second"]

    def shared(self):
        return self.model_task("shared")["items_per_second"]

    def rank(self):
        result = self.run("rank", model=self.args.model, prompts=self.args.prompts, limit=100)
        self.rank_detail = result
        return result["items_per_second"]

    def decode(self):
        return self.run("decode", model=self.args.model, prompts=self.args.prompts,
                        limit=1)["tokens_per_second"]

    def rollouts(self):
        return self.run("rollouts", model=self.args.model, prompts=self.args.prompts,
                        limit=1)["tokens_per_second"]

    def cot(self):
        result = self.run("cot", model=self.args.model, prompts=self.args.prompts, limit=3)
        self.cot_detail = result
        return result["ratio"]

    def embed(self):
        return self.run("embed", encoder=self.args.encoder,
                        prompts=self.args.titles)["items_per_second"]


def by_length(rows, batch):
    """Batches of rows of about equal length, so that little is padded."""
    rows = sorted(rows, key=len)
    return [rows[i:i + batch] for i in range(0, len(rows), batch)]


class Batched:
    """A peer that scores padded batches: one by one or eight at a time, whichever is faster."""

    def timed(self, batch):
        rows = self.ids[:self.args.limit]
        start = time.perf_counter()
        for some in by_length(rows, batch):
            self.last_logits(some)
        return sum(map(len, rows)) / (time.perf_counter() - start)

    def score(self):
        if not hasattr(self, "batch"):
            self.batch = max((1, 8), key=self.timed)
        return self.timed(self.batch)

    def shared(self):
        rows = self.ids[:self.args.limit]
        return self.score() * len(rows) / sum(map(len, rows))


def padded(rows):
    """Ids and mask, padded on the left."""
    most = max(map(len, rows))
    return ([[0] * (most - len(r)) + r for r in rows],
            [[0] * (most - len(r)) + [1] * len(r) for r in rows])


class Torch(Batched):
    def __init__(self, args, ids, dtype):
        import torch
        import transformers
        self.torch, self.args, self.ids = torch, args, ids
        torch.set_num_threads(args.threads)
        self.name = f"transformers {str(dtype).removeprefix('torch.')}"
        from transformers.modeling_gguf_pytorch_utils import load_gguf_checkpoint
        # Plain dense weights: transformers' own packed GGUF layers would decode them in each call.
        config = transformers.LlamaConfig(**{
            k: v for k, v in load_gguf_checkpoint(args.model)["config"].items()
            if k != "model_type"})
        self.model = transformers.LlamaForCausalLM._from_config(config)
        tensors = load_gguf_checkpoint(args.model, return_tensors=True, model_to_load=self.model)
        self.model.load_state_dict(tensors["tensors"], strict=False)
        self.model.tie_weights()
        self.model = self.model.to(dtype).eval()

    def last_logits(self, rows):
        ids, mask = map(self.torch.tensor, padded(rows))
        with self.torch.inference_mode():
            return self.model(ids, attention_mask=mask, logits_to_keep=1, use_cache=False).logits

    def decode(self):
        torch = self.torch
        ids = torch.tensor([self.ids[0]])
        with torch.inference_mode():
            past = self.model(ids, use_cache=True)
            cache, token = past.past_key_values, past.logits[:, -1:].argmax(-1)
            start = time.perf_counter()
            for _ in range(64):
                out = self.model(token, past_key_values=cache, use_cache=True)
                cache, token = out.past_key_values, out.logits[:, -1:].argmax(-1)
        return 64 / (time.perf_counter() - start)

    def rollouts(self):
        """32 samples of 64 tokens after one prompt, which is computed once beforehand."""
        torch = self.torch
        with torch.inference_mode():
            past = self.model(torch.tensor([self.ids[0]]), use_cache=True, logits_to_keep=1)
            cache = past.past_key_values
            cache.batch_repeat_interleave(32)
            logits = past.logits[:, -1].repeat(32, 1)
            start = time.perf_counter()
            for _ in range(64):
                token = torch.multinomial(logits.float().softmax(-1), 1)
                out = self.model(token, past_key_values=cache, use_cache=True)
                cache, logits = out.past_key_values, out.logits[:, -1]
        return 32 * 64 / (time.perf_counter() - start)


class OpenVino(Batched):
    """transformers' network, converted; only the last token's logits are computed."""

    def __init__(self, args, ids, source, kind):
        import openvino
        torch, model = source.torch, source.model
        self.args, self.ids, self.name = args, ids, f"OpenVINO {kind}"

        model.requires_grad_(False)

        class Last(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.inner = model

            def forward(self, input_ids, attention_mask):
                return self.inner(input_ids, attention_mask=attention_mask, logits_to_keep=1,
                             use_cache=False).logits

        example = {k: torch.ones((2, 8), dtype=torch.int64) for k in ("input_ids",
                                                                      "attention_mask")}
        with torch.inference_mode():
            converted = openvino.convert_model(Last(), example_input=example)
        self.compiled = openvino.compile_model(
            converted, "CPU", {"INFERENCE_PRECISION_HINT": kind, "INFERENCE_NUM_THREADS":
                               args.threads, "PERFORMANCE_HINT": "LATENCY"})

    def last_logits(self, rows):
        import numpy
        ids, mask = (numpy.array(x, dtype=numpy.int64) for x in padded(rows))
        return self.compiled({"input_ids": ids, "attention_mask": mask})[0]


class Llama:
    def __init__(self, args, ids, rank, path, kind):
        import llama_cpp
        self.args, self.ids, self.rank_ids = args, ids, rank
        self.name = f"llama.cpp {kind}"
        self.model = llama_cpp.Llama(str(path), n_ctx=2048, n_batch=2048, n_ubatch=512,
                                     n_threads=args.threads, n_threads_batch=args.threads,
                                     verbose=False, logits_all=False)

    def score(self):
        rows = self.ids[:self.args.limit]
        start = time.perf_counter()
        for row in rows:
            self.model.reset()
            self.model.eval(row)
        return sum(map(len, rows)) / (time.perf_counter() - start)

    def shared(self):
        rows, done = sorted(self.ids[:self.args.limit]), []
        start = time.perf_counter()
        for row in rows:
            self.continue_from(done, row)
            done = row
        return len(rows) / (time.perf_counter() - start)

    def continue_from(self, done, row):
        """Its prompt cache: what the row shares with what was computed last stays."""
        common = 0
        while common < min(len(done), len(row) - 1) and done[common] == row[common]:
            common += 1
        self.model.n_tokens = common
        self.model.eval(row[common:])  # drops cached positions from n_tokens on by itself

    def rank(self):
        done = []
        start = time.perf_counter()
        for row in self.rank_ids:
            self.continue_from(done, row)
            done = row
        return len(self.rank_ids) / (time.perf_counter() - start)

    def decode(self):
        self.model.reset()
        self.model.eval(self.ids[0])
        start = time.perf_counter()
        for _ in range(64):
            token = self.model.sample(temp=0)
            self.model.eval([token])
        return 64 / (time.perf_counter() - start)


class LlamaRollouts:
    """llama.cpp's own batches: the prompt's cells are shared by 32 sequences."""

    SEQUENCES, TOKENS = 32, 64

    def __init__(self, args, ids, path, kind):
        from llama_cpp import llama_cpp as c
        self.c, self.ids, self.name = c, ids[0], f"llama.cpp {kind}"
        self.model = c.llama_model_load_from_file(str(path).encode(),
                                                  c.llama_model_default_params())
        if not self.model:
            raise RuntimeError("llama.cpp could not load the model")
        params = c.llama_context_default_params()
        params.n_ctx = len(self.ids) + self.SEQUENCES * (self.TOKENS + 1)
        params.n_batch = params.n_ubatch = 512
        params.n_seq_max, params.kv_unified = self.SEQUENCES, True
        params.n_threads = params.n_threads_batch = args.threads
        self.context = c.llama_init_from_model(self.model, params)
        if not self.context:
            raise RuntimeError("llama.cpp could not make a context")
        self.n_vocab = c.llama_vocab_n_tokens(c.llama_model_get_vocab(self.model))
        self.batch = c.llama_batch_init(512, 0, self.SEQUENCES)

    def fill(self, rows):
        """rows: (token, position, sequence, wants logits)"""
        batch = self.batch
        batch.n_tokens = len(rows)
        for i, (token, position, sequence, wanted) in enumerate(rows):
            batch.token[i], batch.pos[i], batch.logits[i] = token, position, wanted
            batch.n_seq_id[i], batch.seq_id[i][0] = 1, sequence
        if self.c.llama_decode(self.context, batch):
            raise RuntimeError("llama_decode failed")

    def rollouts(self):
        import numpy
        c, n = self.c, len(self.ids)
        memory = c.llama_get_memory(self.context)
        c.llama_memory_clear(memory, True)
        for at in range(0, n, 512):
            self.fill([(t, at + i, 0, at + i == n - 1)
                       for i, t in enumerate(self.ids[at:at + 512])])
        for sequence in range(1, self.SEQUENCES):
            c.llama_memory_seq_cp(memory, 0, sequence, -1, -1)
        random = numpy.random.default_rng(1)

        def logits(row):
            at = c.llama_get_logits_ith(self.context, row)
            return numpy.ctypeslib.as_array(at, shape=(self.n_vocab,))

        rows = numpy.stack([logits(-1)] * self.SEQUENCES)
        start, seconds_of_sampling = time.perf_counter(), 0.0
        for step in range(self.TOKENS):
            before = time.perf_counter()
            # One uniform number a sequence against the cumulative softmax.
            p = numpy.exp(rows - rows.max(axis=1, keepdims=True)).cumsum(axis=1)
            tokens = [int(numpy.searchsorted(p[s], random.random() * p[s, -1]))
                      for s in range(self.SEQUENCES)]
            seconds_of_sampling += time.perf_counter() - before
            self.fill([(t, n + step, s, True) for s, t in enumerate(tokens)])
            rows = numpy.stack([logits(s) for s in range(self.SEQUENCES)])
        # Drawing in numpy is the driver's, not llama.cpp's.
        seconds = time.perf_counter() - start - seconds_of_sampling
        return self.SEQUENCES * self.TOKENS / seconds


class Sentences:
    def __init__(self, args, dtype):
        import torch
        from sentence_transformers import SentenceTransformer
        torch.set_num_threads(args.threads)
        self.name = f"sentence-transformers {str(dtype).removeprefix('torch.')}"
        self.model = SentenceTransformer(args.encoder, device="cpu",
                                         model_kwargs={"dtype": dtype})
        self.texts = [json.loads(line)["text"] for line in open(args.titles, encoding="utf-8")]

    def embed(self):
        start = time.perf_counter()
        self.model.encode(self.texts, batch_size=64, show_progress_bar=False)
        return len(self.texts) / (time.perf_counter() - start)


class OnnxSentences:
    """The same encoder's network on onnxruntime, batches of 64 texts of about equal length."""

    def __init__(self, args, source, folder):
        import onnxruntime
        import torch
        self.name, self.texts = "onnxruntime float32", source.texts
        self.tokenizer = source.model.tokenizer
        encoder = source.model[0].auto_model.requires_grad_(False)
        path = str(pathlib.Path(folder) / "encoder.onnx")
        names = ["input_ids", "attention_mask", "token_type_ids"]

        class States(torch.nn.Module):
            def forward(self, input_ids, attention_mask, token_type_ids):
                return encoder(input_ids=input_ids, attention_mask=attention_mask,
                               token_type_ids=token_type_ids).last_hidden_state

        torch.onnx.export(States(), tuple(torch.ones((2, 8), dtype=torch.int64) for _ in names),
                          path, input_names=names, output_names=["states"], dynamo=False,
                          dynamic_axes={n: {0: "batch", 1: "tokens"} for n in names + ["states"]})
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = args.threads
        self.session = onnxruntime.InferenceSession(path, options,
                                                    providers=["CPUExecutionProvider"])

    def embed(self):
        import numpy
        start = time.perf_counter()
        for texts in by_length(self.texts, 64):
            rows = self.tokenizer(texts, padding=True, truncation=True, return_tensors="np")
            rows = {k: rows[k].astype(numpy.int64) for k in ("input_ids", "attention_mask",
                                                             "token_type_ids")}
            states = self.session.run(["states"], rows)[0]
            mask = rows["attention_mask"][..., None]
            mean = (states * mask).sum(1) / mask.sum(1)
            mean / numpy.linalg.norm(mean, axis=1, keepdims=True)
        return len(self.texts) / (time.perf_counter() - start)


TASKS = {
    "score": ("answer-only scoring, no shared prefix", "tokens/s"),
    "shared": ("answer-only scoring, shared prefixes", "prompts/s"),
    "rank": ("100 candidates of one user", "candidates/s"),
    "decode": ("one sequence, 64 tokens", "tokens/s"),
    "rollouts": ("32 rollouts × 64 tokens of one prompt", "tokens/s"),
    "embed": ("short texts", "texts/s"),
    "cot": ("a rating after 200 tokens of reasoning beside the rating alone", "× as long"),
}


def peak_of(args):
    """The processor as our own programs see it: its features, its peak in GFLOP/s, and for which set."""
    done = subprocess.run([str(args.programs / "bench_engine"), "peak", "--isa", args.isa,
                           "--threads", str(args.threads)], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout)


def our_modes(args, peak):
    """(instruction set, mode) of ours, within what the processor has and --isa and --modes allow."""
    features = peak["cpu"].split()
    modes = [("avx2", "f32")]
    if args.isa == "auto":
        modes += [("avx512", "f32")] * ("avx512f" in features)
        modes += [("avx512", "bf16")] * ("avx512_bf16" in features)
        modes += [("amx", "bf16")] * ("amx_bf16" in features)
    names = ["-".join(m) for m in modes]
    wanted = args.modes.split(",") if args.modes else names
    unknown = [name for name in wanted if name not in names]
    if unknown:
        sys.exit(f"--modes: found {', '.join(unknown)}, expected some of {', '.join(names)}")
    return [m for m, name in zip(modes, names) if name in wanted]


def peer_dtypes(isa):
    """PyTorch's, where it has instructions for them."""
    return ["float32"] + ["bfloat16"] * (isa == "auto")


def common_options(parser):
    parser.add_argument("--programs", type=pathlib.Path, required=True)
    parser.add_argument("--prompts", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--output", type=pathlib.Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--isa", choices=["auto", "avx2"], default="auto",
                        help="avx2: ours keep to it; scripts/bench.sh keeps the peers to it")
    parser.add_argument("--modes", default="", help="ours, as amx-bf16,avx2-f32; all by default")


def token_ids(args, texts):
    """Ours, so that every program computes the same tokens."""
    with tempfile.NamedTemporaryFile("w", suffix=".jsonl", encoding="utf-8") as file:
        file.writelines(json.dumps({"text": t}) + "\n" for t in texts)
        file.flush()
        done = subprocess.run([str(args.programs / "bench_engine"), "ids", "--model", args.model,
                               "--prompts", file.name], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    return [json.loads(line) for line in done.stdout.splitlines()]


def requantize(args, folder, name):
    import llama_cpp
    path = pathlib.Path(folder) / f"{name}.gguf"
    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype = {"F32": 0, "Q8_0": 7, "BF16": 32}[name]
    params.allow_requantize, params.nthread = True, args.threads
    if llama_cpp.llama_model_quantize(args.model.encode(), str(path).encode(), params):
        raise RuntimeError(f"llama.cpp could not make {name}")
    return path


def peers(args, ids, rank, folder):
    """Everything that can be built here; what cannot is named."""
    made, missing = [], []

    def attempt(what, build):
        try:
            made.extend(peer for peer in [build()] if peer)
            say(f"ready: {what}")
        except Exception as error:  # a peer that does not run is a line of the report
            missing.append((what, f"{type(error).__name__}: {error}".splitlines()[0]))

    import torch
    kinds = peer_dtypes(args.isa)
    if len(kinds) == 1:
        missing.append(("peers in bfloat16", "PyTorch multiplies it at some 2 GFLOP/s on AVX2"))
    for dtype in (getattr(torch, kind) for kind in kinds):
        attempt(f"transformers {dtype}", lambda: Torch(args, ids, dtype))
        attempt(f"sentence-transformers {dtype}", lambda: Sentences(args, dtype))
    dense = next((p for p in made if p.name == "transformers float32"), None)
    encoder = next((p for p in made if p.name == "sentence-transformers float32"), None)
    for kind in ({"float32": "f32", "bfloat16": "bf16"}[k] for k in kinds):
        attempt(f"OpenVINO {kind}", lambda: OpenVino(args, ids, dense, kind))
    attempt("onnxruntime", lambda: OnnxSentences(args, encoder, folder))
    files = {"Q4_1": args.model}
    for name in ("Q8_0", "F32", "BF16"):
        attempt(f"llama.cpp's {name} file",
                lambda: files.setdefault(name, requantize(args, folder, name)) and None)
    for name, path in files.items():
        attempt(f"llama.cpp {name}", lambda: Llama(args, ids, rank, path, name))
        attempt(f"llama.cpp {name}, rollouts", lambda: LlamaRollouts(args, ids, path, name))
    return made, missing


def measure(programs, rounds):
    """{task: {name: [figure a round]}}, the programs in turn within each round."""
    figures = {task: {} for task in TASKS}
    for round_number in range(rounds):
        for task in TASKS:
            for p in programs:
                if not hasattr(p, task):
                    continue
                try:
                    value = getattr(p, task)()
                except Exception as error:
                    say(f"{task}, {p.name}: {error}")
                    continue
                figures[task].setdefault(p.name, []).append(value)
                say(f"round {round_number + 1}, {task}, {p.name}: {value:.1f} {TASKS[task][1]}")
    return figures


def report(args, ours, figures, missing, peak):
    lines = [f"CPU: {peak['cpu']}; {args.threads} threads; "
             f"measured peak of FMAs in registers: {peak['gflops']:.0f} GFLOP/s ({peak['isa']}).",
             f"Medians of {args.rounds} alternating rounds; ratio: ours to the best peer.", ""]
    for task, (title, unit) in TASKS.items():
        rows = {name: statistics.median(v) for name, v in figures[task].items()}
        peers_best = max([v for n, v in rows.items() if not n.startswith("SIREN")], default=None)
        lines += [f"**{title}** ({unit})", "", "| program | median | ratio |", "|---|---|---|"]
        for name, value in sorted(rows.items(), key=lambda r: -r[1]):
            ratio = f"{value / peers_best:.2f}" if peers_best and name.startswith("SIREN") else ""
            lines.append(f"| {name} | {value:,.1f} | {ratio} |")
        lines.append("")
    for p in ours:
        if hasattr(p, "rank_detail"):
            d = p.rank_detail
            lines.append(f"Ranking on {p.isa} {p.compute}: {d['gain']:.2f} × one by one; the token counts allow "
                         f"{d['token_count_bound']:.2f} ×: {100 * d['share_of_bound']:.0f} %.")
        if hasattr(p, "cot_detail"):
            d = p.cot_detail
            lines.append(f"One stream on {p.isa} {p.compute}, the user's part cached: a rating in "
                         f"{1e3 * d['answer_seconds']:.0f} ms, after reasoning in "
                         f"{1e3 * d['reasoning_seconds']:.0f} ms.")
    lines += [f"Not run: {what} ({why})." for what, why in missing]
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser()
    common_options(parser)
    for name in ("titles", "encoder"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--limit", type=int, default=32)
    args = parser.parse_args()
    texts = [json.loads(line)["prompt"] for line in open(args.prompts, encoding="utf-8")]
    marker = "\n\nThe candidate "
    head = texts[0][:texts[0].index(marker)]
    ids = token_ids(args, texts)
    rank = token_ids(args, [head + t[t.index(marker):] for t in texts[:100]])
    peak = peak_of(args)
    ours = [Siren(args, isa, compute) for isa, compute in our_modes(args, peak)]
    with tempfile.TemporaryDirectory() as folder:
        others, missing = peers(args, ids, rank, folder)
        text = report(args, ours, measure(ours + others, args.rounds), missing, peak)
    print(text)
    if args.output:
        args.output.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
