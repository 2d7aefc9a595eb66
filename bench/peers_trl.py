"""A step of GRPO beside TRL, rollout and update: 2 prompts x 8 answers of at most 64 tokens.

  python bench/peers_trl.py --programs build/bench --prompts PROMPTS.jsonl --model M.gguf \
      [--rounds 3] [--steps 1] [--lora] [--output report.md]
  python bench/peers_trl.py … --once [--lora] [--dtype bfloat16]

Rounds alternate between `bench_grpo` and TRL, all weights trained or, with --lora, LoRA of rank 16
on all linear layers; medians and ratios, first steps not counted.  --once is one measurement of TRL, a process of its own:
seconds a step, tokens of a prompt, mean length of the answers, versions.

Prompts are the given ones' token ids, cut in the middle to 320 tokens, so that both sides compute
the same.  A reward is the last digit of the sum of an answer's ids: it costs nothing, differs, and
teaches no length.  TRL 1.16 with
transformers' own generation; the model is the file's weights as a dense PyTorch model.  Answers
are sampled, so their lengths differ a little: seconds stand beside them.
"""

import argparse
import json
import pathlib
import resource
import statistics
import subprocess
import sys
import tempfile
import time

from peers import common_options, our_modes, peak_of, peer_dtypes, say, token_ids

PROMPT, ANSWERS, LENGTH, PROMPTS = 320, 8, 64, 2


def dense_model(path, dtype):
    import transformers
    from transformers.modeling_gguf_pytorch_utils import load_gguf_checkpoint
    config = transformers.LlamaConfig(**{
        k: v for k, v in load_gguf_checkpoint(path)["config"].items() if k != "model_type"})
    model = transformers.LlamaForCausalLM._from_config(config)
    tensors = load_gguf_checkpoint(path, return_tensors=True, model_to_load=model)
    model.load_state_dict(tensors["tensors"], strict=False)
    model.tie_weights()
    return model.to(dtype)


def once(args):
    import datasets
    import peft
    import torch
    import transformers
    import trl
    torch.set_num_threads(args.threads)
    texts = [json.loads(line)["prompt"] for line in open(args.prompts, encoding="utf-8")]
    ids = [row for row in token_ids(args, texts[:50]) if len(row) >= PROMPT]
    ids = [row[:PROMPT // 2] + row[-PROMPT // 2:] for row in ids[:PROMPTS]]
    tokenizer = transformers.AutoTokenizer.from_pretrained(
        str(pathlib.Path(args.model).parent), gguf_file=pathlib.Path(args.model).name)
    prompts = tokenizer.batch_decode(ids)
    lengths, starts = [], []

    def reward(completions, completion_ids, **_):
        lengths.append(statistics.mean(map(len, completion_ids)))
        return [float(sum(row) % 10) for row in completion_ids]

    class Clock(transformers.TrainerCallback):
        def on_step_begin(self, *_args, **_more):
            starts.append(time.perf_counter())

        def on_step_end(self, *_args, **_more):
            starts[-1] = time.perf_counter() - starts[-1]

    with tempfile.TemporaryDirectory() as folder:
        # TRL loads the frozen start from the same place.
        path = f"{folder}/model"
        dense_model(args.model, getattr(torch, args.dtype)).save_pretrained(path)
        config = trl.GRPOConfig(
            output_dir=folder, per_device_train_batch_size=PROMPTS * ANSWERS,
            num_generations=ANSWERS, max_completion_length=LENGTH, max_steps=args.steps + 1,
            beta=0.001, learning_rate=1e-6, temperature=1.0, use_cpu=True, report_to=[],
            bf16=args.dtype == "bfloat16", gradient_checkpointing=False, save_strategy="no",
            logging_steps=1000, disable_tqdm=True, model_init_kwargs={"dtype": args.dtype})
        lora = peft.LoraConfig(r=16, lora_alpha=32, target_modules="all-linear") if args.lora else None
        begin = time.perf_counter()
        trainer = trl.GRPOTrainer(
            model=path, reward_funcs=reward,
            args=config, processing_class=tokenizer, peft_config=lora,
            train_dataset=datasets.Dataset.from_dict({"prompt": prompts * (args.steps + 1)}),
            callbacks=[Clock()])
        loaded = time.perf_counter() - begin
        trainer.train()
    print(json.dumps({
        "seconds_a_step": statistics.median(starts[1:]), "steps": starts, "loading": loaded,
        "prompt_tokens": [len(row) for row in tokenizer(prompts)["input_ids"]],
        "answer_tokens": statistics.mean(lengths[1:]), "lora": args.lora, "dtype": args.dtype,
        "threads": args.threads, "torch": torch.__version__, "trl": trl.__version__,
        "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}))


def run(command):
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr.strip()[-2000:])
    return json.loads(done.stdout.splitlines()[-1])


def ours(args, isa, compute):
    return run([args.programs / "bench_grpo", "--model", args.model, "--prompts", args.prompts,
                "--threads", args.threads, "--steps", args.steps, "--isa", isa, "--compute", compute,
                "--full", int(not args.lora)])


def theirs(args, dtype):
    return run([sys.executable, __file__, "--programs", args.programs, "--model", args.model,
                "--prompts", args.prompts, "--threads", args.threads, "--steps", args.steps,
                "--once", "--dtype", dtype] + (["--lora"] if args.lora else []))


def beside(args):
    # f32 is as fast on AVX2 as on AVX-512: one of them has to do, a round takes minutes.
    modes = [m for m in our_modes(args, peak_of(args)) if m != ("avx512", "f32")]
    programs = [(f"SIREN {isa} {compute}", lambda i=isa, c=compute: ours(args, i, c))
                for isa, compute in modes]
    programs += [(f"TRL {dtype}", lambda d=dtype: theirs(args, d))
                 for dtype in peer_dtypes(args.isa)]
    what = "LoRA" if args.lora else "all weights"
    figures = {}
    for round_number in range(args.rounds):
        for name, measure in programs:
            result = measure()
            figures.setdefault(name, []).append(result)
            say(f"round {round_number + 1}, {what}, {name}: {result['seconds_a_step']:.1f} s a "
                f"step, {result['answer_tokens']:.0f} tokens")
    rows = {name: {key: statistics.median(r[key] for r in results)
                   for key in results[0] if isinstance(results[0][key], float)}
            for name, results in figures.items()}
    best = min(r["seconds_a_step"] for name, r in rows.items() if name.startswith("TRL"))
    lines = [f"**GRPO step, 2 prompts × 8 answers, {what}** ({args.threads} threads, medians of "
             f"{args.rounds})", "",
             "| program | s a step | TRL's best ÷ it | tokens an answer | rollout | scoring | "
             "update | other | MB |", "|---|---|---|---|---|---|---|---|---|"]
    for name, r in sorted(rows.items(), key=lambda row: row[1]["seconds_a_step"]):
        split = [f"{r[key]:.1f} s" if key in r else "" for key in (
            "rollout_seconds", "scoring_seconds", "update_seconds", "other_seconds")]
        lines.append(f"| {name} | {r['seconds_a_step']:.1f} | {best / r['seconds_a_step']:.1f} | "
                     f"{r['answer_tokens']:.0f} | {' | '.join(split)} | "
                     f"{r['peak_memory_mb']:,.0f} |")
    text = "\n".join(lines) + "\n"
    print(text)
    if args.output:
        args.output.write_text(text, encoding="utf-8")


def main():
    parser = argparse.ArgumentParser()
    common_options(parser)
    parser.add_argument("--steps", type=int, default=1)
    parser.add_argument("--once", action="store_true")
    parser.add_argument("--lora", action="store_true")
    parser.add_argument("--dtype", choices=["bfloat16", "float32"], default="bfloat16")
    args = parser.parse_args()
    once(args) if args.once else beside(args)


if __name__ == "__main__":
    main()
