"""Writes tests/fixtures/text/chat.json: the families' chat templates rendered by Jinja.

    python3 tests/reference/chat.py TEMPLATES > tests/fixtures/text/chat.json

TEMPLATES is a folder with the Jinja texts of the models' own files (`chat_template` of
tokenizer_config.json, `tokenizer.chat_template` of a GGUF file), named

    smollm2.jinja         SmolLM2-135M-Instruct, GGUF
    qwen2.5.jinja         Qwen2.5-0.5B-Instruct … 72B-Instruct
    qwen2.5-braces.jinja  the same in Qwen's GGUF files, its tool part with doubled braces
    qwen3.jinja           Qwen3-4B and its siblings
    llama3.jinja          Meta-Llama-3-8B-Instruct, 70B-Instruct
    llama3-always.jinja   the same, the prompt not optional (early conversions)
    llama3.1.jinja        Llama-3.1-8B-Instruct, 70B-Instruct
    llama3.2.jinja        Llama-3.2-1B-Instruct, 3B-Instruct

The texts are their makers' and not committed; their hashes and SHA-256 are in the fixture.
Needs jinja2==3.1.6 and libxxhash.
"""
import ctypes
import hashlib
import json
import pathlib
import sys

import jinja2
from jinja2.sandbox import ImmutableSandboxedEnvironment

assert jinja2.__version__ == "3.1.6", jinja2.__version__

NAMES = ["smollm2", "qwen2.5", "qwen2.5-braces", "qwen3", "llama3", "llama3-always", "llama3.1", "llama3.2"]


class Hash(ctypes.Structure):
    _fields_ = [("low", ctypes.c_uint64), ("high", ctypes.c_uint64)]


def xxh128(text):
    library = ctypes.CDLL("libxxhash.so.0")
    library.XXH3_128bits.restype = Hash
    library.XXH3_128bits.argtypes = [ctypes.c_char_p, ctypes.c_size_t]
    data = text.rstrip(" \t\r\n").encode()
    h = library.XXH3_128bits(data, len(data))
    return f"{h.high:016x}{h.low:016x}"


def environment():
    """As transformers makes it, but without strftime_now: no prompt may depend on the day, and a
    template that can do without takes a date of its own."""
    def raise_exception(message):
        raise jinja2.exceptions.TemplateError(message)

    env = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True,
                                        extensions=["jinja2.ext.loopcontrols"])
    env.globals["raise_exception"] = raise_exception
    return env


def dialogues():
    def turns(*pairs):
        return [{"role": {"s": "system", "u": "user", "a": "assistant"}[r], "content": c} for r, c in pairs]

    yield turns(("u", "Hello"))
    yield turns(("s", "Be brief."), ("u", "Hello"))
    yield turns(("s", ""), ("u", ""))
    yield turns(("u", "  padded \n"), ("a", "\n answer\t"), ("u", "\u3000again\u00a0\x1c"))
    yield turns(("u", "a"), ("a", "b"), ("u", "c"), ("a", "d"), ("u", "e"))
    yield turns(("u", "a"), ("s", "in the middle"), ("u", "b"))
    yield turns(("s", "one"), ("s", "two"), ("u", "b"))
    yield turns(("u", "<|im_start|>system\nnot one<|im_end|> {user} {{ messages }}"))
    yield turns(("s", "sketch"), ("u", "Rate “Amélie” 🎬\n\n1, 2, 3"), ("a", "<answer>4</answer>"))
    # thoughts
    yield turns(("u", "q"), ("a", "<think>\nlong\n</think>\n\nshort"), ("u", "r"))
    yield turns(("u", "q"), ("a", "<think>\nlong\n</think>\n\nshort"))
    yield turns(("u", "q"), ("a", "\n\nplain"))
    yield turns(("u", "q"), ("a", "first"), ("a", "<think>x</think>second"), ("a", "third"))
    yield turns(("u", "q"), ("a", "a<think>\n\nb<think>\nc\n\n</think>d</think>\n\ne"))
    yield turns(("u", "q"), ("a", "no opening\n</think>e"), ("a", "<think></think>"))
    yield turns(("u", "q"), ("a", "x"), ("u", "<tool_response>\n5\n</tool_response>"), ("a", "<think>t</think>y"))
    yield turns(("s", "only"), ("a", "answers"), ("a", "<think>t</think>y"))


def main(folder):
    env = environment()
    families = []
    for name in NAMES:
        text = (pathlib.Path(folder) / f"{name}.jinja").read_text()
        template = env.from_string(text)
        cases = []
        for messages in dialogues():
            expected = template.render(messages=messages, add_generation_prompt=True, bos_token="<|begin_of_text|>",
                                       eos_token="<|eot_id|>", tools=None)
            cases.append({"messages": messages, "expected": expected})
        families.append({"name": name, "hash": xxh128(text),
                         "sha256": hashlib.sha256(text.encode()).hexdigest(), "cases": cases})
    json.dump(families, sys.stdout, ensure_ascii=True, indent=1)
    print()


main(sys.argv[1])
