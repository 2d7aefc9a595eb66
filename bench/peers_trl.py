"""A step of GRPO with TRL: rollout and update, 2 prompts x 8 answers of at most 64 tokens.

  python bench/peers_trl.py --prompts PROMPTS.jsonl --model M.gguf --programs build/bench \
      [--steps 3] [--lora] [--dtype bfloat16]

Prints a JSON line: seconds a step (median, the first not counted), tokens of a prompt, mean length
of the answers, torch's and TRL's versions.  Prompts are the given ones' token ids, cut in the middle
to 320 tokens, so that both sides compute the same.  Rewards are the answers' lengths: they cost
nothing and differ.  TRL 1.16 with transformers' own generation; the model is the file's
weights as a dense PyTorch model, trained in full, or by LoRA of rank 16 on all linear layers.
"""

import argparse
import json
import os
import pathlib
import statistics
import tempfile
import time

from peers import token_ids

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


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--programs", type=pathlib.Path, required=True)
    parser.add_argument("--prompts", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--lora", action="store_true")
    parser.add_argument("--dtype", choices=["bfloat16", "float32"], default="bfloat16")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    args = parser.parse_args()

    import datasets
    import peft
    import torch
    import transformers
    import trl
    torch.set_num_threads(args.threads)
    texts = [json.loads(line)["text"] for line in open(args.prompts, encoding="utf-8")]
    ids = [row for row in token_ids(args, texts[:50]) if len(row) >= PROMPT]
    ids = [row[:PROMPT // 2] + row[-PROMPT // 2:] for row in ids[:PROMPTS]]
    tokenizer = transformers.AutoTokenizer.from_pretrained(
        str(pathlib.Path(args.model).parent), gguf_file=pathlib.Path(args.model).name)
    prompts = tokenizer.batch_decode(ids)
    lengths, starts = [], []

    def reward(completions, completion_ids, **_):
        lengths.append(statistics.mean(map(len, completion_ids)))
        return [float(len(row)) for row in completion_ids]

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
        "threads": args.threads, "torch": torch.__version__, "trl": trl.__version__}))


if __name__ == "__main__":
    main()
