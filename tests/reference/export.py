"""What transformers and PEFT read in the folders of `siren model export`, beside what siren says
(`make check-reference`).

  python tests/reference/export.py build/siren MODEL.gguf ADAPTER

exports the GGUF model, plain and with the adapter merged, and fails where one of these differs:
the ids of texts; log-probabilities (by more than 1e-3) of the base, of our adapter loaded by PEFT
from its folder as it is, of the merged model, and of an adapter that PEFT made, loaded by siren
with the GGUF model.

  python tests/reference/export.py on-top build/siren FOLDER ADAPTER

asks the same of a folder that `siren model export` wrote, an adapter merged in it, and of one trained
on that folder: of the folder, of PEFT's reading of the adapter on it, and of both merged.

Pinned: the versions of requirements.txt.
"""

import json
import pathlib
import subprocess
import sys
import tempfile
import warnings

import peft
import torch
import transformers as tf

PROMPTS = [
    "The film of 1999 was",
    "<|im_start|>user\nHow many stars, 1 to 5, for \"Amélie\" (2001)?<|im_end|>\n"
    "<|im_start|>assistant\n",
    "a",
    "naïve 東京 \U0001f600\n\n\tend  ",
]
TEXTS = PROMPTS + ["", " ", "  two", "12345 1,000", "it's I'LL", "ÅÅ fi ﬁ ½", "\u200b\ufeff",
                   "<|im_end|><|endoftext|>", "\r\n\r\n x", "ＡＢＣ", "e\u0301", "हिन्दी 한국어"]
WORDS = ["1", "2", "3", "4", "5", " a", " the", "\n"]


def run(*arguments, text=None):
    done = subprocess.run(arguments, input=text, capture_output=True, text=True)
    assert done.returncode == 0, f"{arguments}: {done.stderr}"
    return done.stdout


def siren_logprobs(program, model, prompt, *options):
    with tempfile.NamedTemporaryFile("w", newline="") as f:
        f.write(prompt)
        f.flush()
        words = [x for w in WORDS for x in ("--continuation", w)]
        return json.loads(run(program, "logprobs", "-m", str(model), "--prompt-file", f.name,
                              "--json", *words, *options))["logprobs"]


@torch.no_grad()
def torch_logprobs(model, tokenizer, prompt):
    ids = tokenizer(prompt, add_special_tokens=False)["input_ids"]
    out = []
    for word in WORDS:
        more = tokenizer(word, add_special_tokens=False)["input_ids"]
        logits = model(torch.tensor([ids + more])).logits[0].log_softmax(-1)
        out.append(sum(logits[len(ids) + i - 1, id].item() for i, id in enumerate(more)))
    return out


def compare(name, model, tokenizer, ask):
    worst = 0
    for prompt in PROMPTS:
        ours, theirs = ask(prompt), torch_logprobs(model, tokenizer, prompt)
        worst = max([worst] + [abs(a - b) for a, b in zip(ours, theirs)])
    print(f"{name}: log-probabilities differ by at most {worst:.2g}")
    assert worst <= 1e-3


def load(folder):
    return tf.AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager").eval()


def check_ids(program, model, tokenizer):
    for text in TEXTS:
        if "\n" in text or "\r" in text:
            continue
        ours = json.loads(run(program, "tokenize", "-m", model, "--json", text=text + "\n"))
        theirs = tokenizer(text, add_special_tokens=False)["input_ids"]
        assert ours == theirs, (text, ours, theirs)
    print("the ids of texts are the same")


def with_adapter(base, adapter):
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*(adapter|keyword|LoraConfig).*")
        return peft.PeftModel.from_pretrained(base, adapter).eval()


def movement(ask, without):
    moved = max(abs(a - b) for p in PROMPTS for a, b in zip(ask(p), without(p)))
    print(f"the adapter moves log-probabilities by up to {moved:.2g}")
    assert moved > 0.1


def on_top(program, folder, adapter):
    tokenizer = tf.AutoTokenizer.from_pretrained(folder)
    without = lambda p: siren_logprobs(program, folder, p)
    ask = lambda p: siren_logprobs(program, folder, p, "--adapter", adapter)
    compare("the merged model, loaded here", load(folder), tokenizer, without)
    movement(ask, without)
    compare("our adapter on it, in PEFT", with_adapter(load(folder), adapter), tokenizer, ask)
    with tempfile.TemporaryDirectory() as both:
        run(program, "model", "export", folder, "--adapter", adapter, "--out", f"{both}/merged")
        compare("both merged", load(f"{both}/merged"), tokenizer, ask)


def main(program, model, adapter):
    with tempfile.TemporaryDirectory() as folder:
        base, merged, made = (str(pathlib.Path(folder, n)) for n in ("base", "merged", "made"))
        run(program, "model", "export", model, "--out", base)
        run(program, "model", "export", model, "--adapter", adapter, "--out", merged)
        tokenizer = tf.AutoTokenizer.from_pretrained(base)
        check_ids(program, model, tokenizer)
        compare("base", load(base), tokenizer, lambda p: siren_logprobs(program, model, p))
        ask = lambda p: siren_logprobs(program, model, p, "--adapter", adapter)
        movement(ask, lambda p: siren_logprobs(program, model, p))
        compare("our adapter in PEFT", with_adapter(load(base), adapter), tokenizer, ask)
        compare("merged", load(merged), tokenizer, ask)
        compare("our adapter, with the export", load(merged), tokenizer,
                lambda p: siren_logprobs(program, base, p, "--adapter", adapter))
        theirs = peft.get_peft_model(load(base), peft.LoraConfig(
            task_type="CAUSAL_LM", r=4, lora_alpha=8, target_modules=["q_proj", "v_proj"])).eval()
        generator = torch.Generator().manual_seed(1)
        for name, p in theirs.named_parameters():
            if "lora_" in name:
                p.data.copy_(torch.randn(p.shape, generator=generator) * 0.02)
        theirs.save_pretrained(made)
        compare("PEFT's adapter here", theirs, tokenizer,
                lambda p: siren_logprobs(program, model, p, "--adapter", made))


if __name__ == "__main__":
    if sys.argv[1] == "on-top":
        on_top(*sys.argv[2:])
    else:
        main(*sys.argv[1:])
