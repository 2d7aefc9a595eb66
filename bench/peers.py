"""SIREN beside its peers on the same prompts, in one run, alternating; medians and ratios.

  python bench/peers.py --programs build/bench --prompts PROMPTS.jsonl --titles TITLES.jsonl \
      --model M.gguf --encoder DIR [--rounds 3] [--limit 32] [--output report.md]

Peers: transformers (PyTorch, float32 and bfloat16), llama.cpp (the file's own quantisation, and
Q8_0, F32 made from it by llama.cpp itself), sentence-transformers.  All get the same token ids, two
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
    """One instruction set of ours, through build/bench/bench_engine."""

    def __init__(self, args, isa):
        self.args, self.isa, self.name = args, isa, f"SIREN {isa} f32"

    def run(self, task, **more):
        command = [str(self.args.programs / "bench_engine"), task, "--isa", self.isa,
                   "--threads", str(self.args.threads)]
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

    def embed(self):
        return self.run("embed", encoder=self.args.encoder,
                        prompts=self.args.titles)["items_per_second"]


class Torch:
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
        """Rows of about equal length, padded on the left; the logits of the last token."""
        torch, most = self.torch, max(map(len, rows))
        ids = torch.tensor([[0] * (most - len(r)) + r for r in rows])
        mask = torch.tensor([[0] * (most - len(r)) + [1] * len(r) for r in rows])
        with torch.inference_mode():
            return self.model(ids, attention_mask=mask, logits_to_keep=1, use_cache=False).logits

    def timed(self, batch):
        rows = sorted(self.ids[:self.args.limit], key=len)
        start = time.perf_counter()
        for i in range(0, len(rows), batch):
            self.last_logits(rows[i:i + batch])
        return sum(map(len, rows)) / (time.perf_counter() - start)

    def score(self):
        if not hasattr(self, "batch"):  # the better of one by one and eight at a time, once
            self.batch = max((1, 8), key=self.timed)
        return self.timed(self.batch)

    def shared(self):
        rows = self.ids[:self.args.limit]
        return self.score() * len(rows) / sum(map(len, rows))

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


TASKS = {
    "score": ("answer-only scoring, no shared prefix", "tokens/s"),
    "shared": ("answer-only scoring, shared prefixes", "prompts/s"),
    "rank": ("100 candidates of one user", "candidates/s"),
    "decode": ("one sequence, 64 tokens", "tokens/s"),
    "embed": ("short texts", "texts/s"),
}


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
            made.append(build())
            say(f"ready: {what}")
        except Exception as error:  # a peer that does not run is a line of the report
            missing.append((what, f"{type(error).__name__}: {error}".splitlines()[0]))

    import torch
    for dtype in (torch.float32, torch.bfloat16):
        attempt(f"transformers {dtype}", lambda: Torch(args, ids, dtype))
        attempt(f"sentence-transformers {dtype}", lambda: Sentences(args, dtype))
    attempt("llama.cpp as it is", lambda: Llama(args, ids, rank, args.model, "Q4_1"))
    for name in ("Q8_0", "F32"):
        attempt(f"llama.cpp {name}",
                lambda: Llama(args, ids, rank, requantize(args, folder, name), name))
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
            lines.append(f"Ranking on {p.isa}: {d['gain']:.2f} × one by one; the token counts allow "
                         f"{d['token_count_bound']:.2f} ×: {100 * d['share_of_bound']:.0f} %.")
    lines += [f"Not run: {what} ({why})." for what, why in missing]
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--programs", type=pathlib.Path, required=True)
    for name in ("prompts", "titles", "model", "encoder"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--output", type=pathlib.Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--limit", type=int, default=32)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    args = parser.parse_args()
    texts = [json.loads(line)["text"] for line in open(args.prompts, encoding="utf-8")]
    marker = "\n\nThe candidate "
    head = texts[0][:texts[0].index(marker)]
    ids = token_ids(args, texts)
    rank = token_ids(args, [head + t[t.index(marker):] for t in texts[:100]])
    probe = Siren(args, "auto")
    peak = probe.run("peak")
    isas = ["avx2", "avx512"] if "avx512f" in peak["cpu"] else ["avx2"]
    ours = [Siren(args, isa) for isa in isas]
    with tempfile.TemporaryDirectory() as folder:
        others, missing = peers(args, ids, rank, folder)
        text = report(args, ours, measure(ours + others, args.rounds), missing, peak)
    print(text)
    if args.output:
        args.output.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
