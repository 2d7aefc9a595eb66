"""Training beside transformers + PEFT on the same prompts, in one run, alternating; medians, ratios.

  python bench/peers_train.py --programs build/bench --prompts PROMPTS.jsonl --model M.gguf \
      [--rounds 3] [--limit 32] [--output report.md]

A step: LoRA (r 8 on k and v, dropout 0.05) on --limit prompts, cross-entropy over five labels at the
last token, clipping, AdamW.  PEFT takes the prompts in batches of 1, 4 and 8 padded to the longest
(accumulating), the best counts.  Same token ids, same number of threads; loading is never counted.
Tokens a second are those of the prompts without padding.  Then ours with the beginning shared, and 8
answers of 64 tokens to one prompt of 320 with the prompt shared and not (LoRA and all weights),
beside what the token counts allow, medians of --rounds.
"""

import argparse
import json
import statistics
import subprocess
import time

from peers import (Torch, by_length, common_options, our_modes, padded, peak_of, peer_dtypes, say,
                   token_ids)


class Siren:
    def __init__(self, args, isa, compute):
        self.args, self.options = args, ["--isa", isa, "--compute", compute]
        self.name = f"SIREN {isa} {compute}"

    def run(self, task, **more):
        command = [str(self.args.programs / "bench_train"), task, "--model", self.args.model,
                   "--prompts", str(self.args.prompts), "--threads", str(self.args.threads),
                   *self.options]
        for key, value in {"limit": self.args.limit, "steps": 1, **more}.items():
            command += [f"--{key}", str(value)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(done.stderr.strip())
        return [json.loads(line) for line in done.stdout.splitlines()]

    def step(self):
        self.last = self.run("alone")[0]
        return self.last["tokens_per_second"]

    def align(self):
        """Seconds of a step with hidden states over those of one with cross-entropy; then of one
        in which each layer learns from its own alone."""
        rating, states, own = self.run("align", steps=2)
        self.local = own["seconds"] / rating["seconds"]
        return states["seconds"] / rating["seconds"]

    def align_local(self):
        return self.local  # measured by align(), in turn with what it is compared with

    def shared(self):
        return self.run("shared")[0]["tokens_per_second"]


class Peft(Torch):
    def __init__(self, args, ids, dtype):
        import peft
        super().__init__(args, ids, dtype)
        self.name = f"PEFT {str(dtype).removeprefix('torch.')}"
        self.model = peft.get_peft_model(self.model, peft.LoraConfig(
            r=8, lora_alpha=16, lora_dropout=0.05, target_modules=["k_proj", "v_proj"]))
        self.model.train()
        trained = [p for p in self.model.parameters() if p.requires_grad]
        self.trained, self.adamw = trained, self.torch.optim.AdamW(trained, lr=1e-4)
        self.labels = [token_ids(args, [str(i)])[0][-1] for i in range(1, 6)]
        self.batch = None

    def one_step(self, batch):
        torch, ids = self.torch, self.ids
        start = time.perf_counter()
        for rows in by_length(ids, batch):
            tokens, mask = map(torch.tensor, padded(rows))
            logits = self.model(tokens, attention_mask=mask, logits_to_keep=1,
                                use_cache=False).logits[:, -1, self.labels].float()
            target = torch.arange(len(rows)) % 5
            loss = torch.nn.functional.cross_entropy(logits, target, reduction="sum") / len(ids)
            loss.backward()
        torch.nn.utils.clip_grad_norm_(self.trained, 1)
        self.adamw.step()
        self.adamw.zero_grad()
        return sum(map(len, ids)) / (time.perf_counter() - start)

    def step(self):
        if not self.batch:  # warm, and the best of the batch sizes
            speeds = {batch: self.one_step(batch) for batch in (1, 4, 8)}
            self.batch = max(speeds, key=speeds.get)
        return self.one_step(self.batch)


def gradients(run):
    """Seconds without the optimiser's step, which is the same for any number of tokens."""
    return run["seconds"] - run["update_seconds"]


def answers(siren, full, rounds):
    """A line for one prompt a step and one for two: both ways in each round, the medians of the
    gains, with the optimiser's step and without."""
    runs = [siren.run("answers", full=full, steps=2) for _ in range(rounds)]
    return [answers_line(siren, full, i + 1, [run[2 * i:2 * i + 2] for run in runs])
            for i in range(2)]


def answers_line(siren, full, groups, pairs):
    """Of several rounds' pairs: the prompt shared, then each answer alone."""
    pairs.sort(key=lambda pair: pair[1]["seconds"] / pair[0]["seconds"])
    gains = [alone["seconds"] / shared["seconds"] for shared, alone in pairs]
    apart = statistics.median(gradients(alone) / gradients(shared) for shared, alone in pairs)
    shared, alone = pairs[len(pairs) // 2]
    assert shared["task"].endswith("shared") and alone["task"].endswith("alone")
    gain = gains[len(pairs) // 2]
    spread = f" ({gains[0]:.2f} – {gains[-1]:.2f})" if len(pairs) > 1 else ""
    bound = 8 * 384 / (320 + 8 * 64)
    # The peak of a run's first task; those behind it have the same or more.
    memory = f"{shared['peak_memory_mb']:,.0f}" if groups == 1 else ""
    return (f"| {siren.name} | {'all weights' if full else 'LoRA'} | {groups} | "
            f"{alone['tokens_per_second']:,.0f} | {shared['tokens_per_second']:,.0f} | "
            f"{gain:.2f}{spread} | {100 * gain / bound:.1f} % | {100 * apart / bound:.1f} % | "
            f"{memory} |")


def main():
    import torch
    parser = argparse.ArgumentParser()
    common_options(parser)
    parser.add_argument("--limit", type=int, default=32)
    args = parser.parse_args()
    texts = [json.loads(line)["prompt"] for line in open(args.prompts, encoding="utf-8")]
    ids = token_ids(args, texts[:args.limit])
    ours = [Siren(args, isa, compute) for isa, compute in our_modes(args, peak_of(args))]
    programs = ours + [Peft(args, ids, getattr(torch, kind)) for kind in peer_dtypes(args.isa)]
    figures = {}
    for round_number in range(args.rounds):
        for task in ("step", "shared", "align", "align_local"):
            for p in programs:
                if task != "step" and p not in ours:
                    continue
                value = getattr(p, task)()
                figures.setdefault(task, {}).setdefault(p.name, []).append(value)
                say(f"round {round_number + 1}, {task}, {p.name}: " +
                    (f"{value:.3f} of cross-entropy's time" if task.startswith("align")
                     else f"{value:.0f} tokens/s"))
    medians = {task: {n: statistics.median(v) for n, v in rows.items()}
               for task, rows in figures.items()}
    best = max(v for n, v in medians["step"].items() if not n.startswith("SIREN"))
    lines = [f"**LoRA step, {len(ids)} prompts, {sum(map(len, ids)):,} tokens** (tokens/s, "
             f"{args.threads} threads, medians of {args.rounds})", "",
             "| program | alone | ratio | beginning shared | ratio |", "|---|---|---|---|---|"]
    for name, value in sorted(medians["step"].items(), key=lambda r: -r[1]):
        shared = medians.get("shared", {}).get(name)
        lines.append(f"| {name} | {value:,.0f} | {value / best:.2f} | " +
                     (f"{shared:,.0f} | {shared / best:.2f} |" if shared else "| |"))
    for p in ours:
        lines.append(f"\n{p.name}: forward {p.last['forward_seconds']:.2f} s, backward "
                     f"{p.last['backward_seconds']:.2f} s, update {p.last['update_seconds']:.3f} s; "
                     f"{p.last['peak_memory_mb']:,.0f} MB resident, {p.last['weights_mb']:,.0f} of "
                     f"it weights. A step of alignment with stored states takes "
                     f"{medians['align'][p.name]:.3f} of one of cross-entropy, one in which each "
                     f"layer learns from its own state alone {medians['align_local'][p.name]:.3f}.")
    lines += ["", "**8 answers of 64 tokens to one prompt of 320** (tokens/s; the token counts allow "
              "3.69 ×)", "",
              "| program | trained | prompts a step | each alone | prompt shared | gain | of the "
              "bound | without the optimiser's step | MB |", "|---|---|---|---|---|---|---|---|---|"]
    lines += [line for p in ours for full in (0, 1) for line in answers(p, full, args.rounds)]
    text = "\n".join(lines) + "\n"
    print(text)
    if args.output:
        args.output.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
