"""Writes tests/fixtures/models/NAME/: tiny random models of every family as Hugging Face
folders, with expected outputs (format: tiny.py).

  python tests/reference/models.py

NAME          what it is there for
llama         untied head, F32, sizes that are no multiples of 16
smol          tied head, BF16, a byte-level tokenizer like SmolLM2's
llama3        Llama 3's RoPE scaling, F16, config.json in the spelling of transformers 4
yarn          YaRN, BF16, config.json in the spelling of transformers 5
linear        linear RoPE scaling, the old spelling {"type": ...}
qwen2         biases, tied, in shards, F16
qwen3         BF16, norms of q and k, a head size that is not width / heads
bert          mean pooling, a WordPiece tokenizer
xlmr          CLS pooling and normalisation, positions that begin after the padding id
"""

import json
import shutil

import torch
import transformers as tf
from tiny import LENGTHS, OUT, expected, randomise, write_json
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

SMALL = dict(hidden_size=32, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1,
             intermediate_size=64, vocab_size=97, max_position_embeddings=128,
             bos_token_id=0, eos_token_id=0, pad_token_id=None)


def save(name, model, dtype, seed, shard="5GB"):
    folder = OUT / name
    shutil.rmtree(folder, ignore_errors=True)
    randomise(model, seed)
    model.to(dtype).save_pretrained(folder, max_shard_size=shard)
    (folder / "generation_config.json").unlink(missing_ok=True)
    return folder


def edit_config(folder, edit):
    path = folder / "config.json"
    config = json.loads(path.read_text())
    edit(config)
    write_json(path, config)


def decoder(name, config, seed, dtype=torch.float32, edit=None, shard="5GB", lengths=LENGTHS):
    model = tf.AutoModelForCausalLM.from_config(config)
    folder = save(name, model, dtype, seed, shard)
    if edit:
        edit_config(folder, edit)
    model = tf.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32,
                                                    attn_implementation="eager")
    expected(model, folder / "expected", seed, lengths)
    return folder


def old_rope(scaling):
    """config.json as transformers 4 wrote it."""

    def edit(config):
        theta = config.pop("rope_parameters")["rope_theta"]
        config.update(rope_theta=theta, rope_scaling=scaling, torch_dtype=config.pop("dtype"))

    return edit


def bytes_to_unicode():
    keep = [*range(33, 127), *range(161, 173), *range(174, 256)]
    table, extra = {b: chr(b) for b in keep}, 0
    for b in range(256):
        if b not in table:
            table[b] = chr(256 + extra)
            extra += 1
    return table


def byte_level_tokenizer():
    """256 bytes, a few merges, three special tokens: 288 entries."""
    letters = bytes_to_unicode()
    specials = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    vocab = {t: i for i, t in enumerate(specials)}
    for b in range(256):
        vocab[letters[b]] = len(vocab)
    merges = []
    for a, b in [("Ġ", "t"), ("h", "e"), ("Ġt", "he"), ("i", "n"), ("e", "r"), ("a", "n"),
                 ("o", "n"), ("r", "e"), ("Ġ", "a"), ("s", "t"), ("e", "n"), ("Ġ", "o"),
                 ("o", "r"), ("Ġ", "s"), ("in", "g"), ("a", "t"), ("Ġ", "m"), ("o", "v"),
                 ("i", "e"), ("Ġm", "ov"), ("Ġmov", "ie"), ("R", "at"), ("Rat", "ing"), ("Ġ", "f"),
                 ("Ġf", "ro"), ("r", "o"), ("Ġo", "n"), ("Ġa", "n"), (":", "Ġ")]:
        if a + b not in vocab:
            merges.append((a, b))
            vocab[a + b] = len(vocab)
    tok = Tokenizer(models.BPE(vocab=vocab, merges=merges))
    tok.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Digits(individual_digits=True),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)])
    tok.decoder = decoders.ByteLevel()
    tok.add_special_tokens(specials)
    return tok


CHATML = ("{% for message in messages %}{{'<|im_start|>' + message['role'] + '\\n' + "
          "message['content'] + '<|im_end|>' + '\\n'}}{% endfor %}"
          "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}")


def smol():
    tok = byte_level_tokenizer()
    config = tf.LlamaConfig(**{**SMALL, "vocab_size": tok.get_vocab_size()},
                            tie_word_embeddings=True, rms_norm_eps=1e-5)
    folder = decoder("smol", config, 2, torch.bfloat16)
    tok.save(str(folder / "tokenizer.json"))
    write_json(folder / "tokenizer_config.json", {
        "tokenizer_class": "GPT2Tokenizer", "add_prefix_space": False, "bos_token": "<|im_start|>",
        "eos_token": "<|im_end|>", "unk_token": "<|endoftext|>", "model_max_length": 128,
        "chat_template": CHATML})


def wordpiece_tokenizer():
    letters = "abcdefghijklmnopqrstuvwxyz0123456789.,:;!?'-|()&"
    words = ["the", "of", "and", "a", "in", "drama", "comedy", "action", "horror", "film", "movie",
             "love", "war", "night", "star", "man", "girl", "king", "last", "house"]
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"] + list(letters)
    pieces += ["##" + c for c in letters[:36]] + [w for w in words if w not in letters]
    pieces += ["##s", "##ing", "##er", "##ed", "##ly"][1:]
    tok = Tokenizer(models.WordPiece({p: i for i, p in enumerate(pieces)}, unk_token="[UNK]"))
    tok.normalizer = normalizers.BertNormalizer()
    tok.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tok.decoder = decoders.WordPiece()
    tok.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    tok.add_special_tokens(pieces[:5])
    return tok


ENCODER = dict(hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=48)


def modules(folder, prefix, pooling, normalise):
    kinds = [("Transformer", "")] + [("Pooling", "1_Pooling")] + \
        ([("Normalize", "2_Normalize")] if normalise else [])
    write_json(folder / "modules.json", [
        {"idx": i, "name": str(i), "path": path, "type": f"{prefix}.{kind}"}
        for i, (kind, path) in enumerate(kinds)])
    write_json(folder / "1_Pooling" / "config.json", pooling)


def bert():
    tok = wordpiece_tokenizer()
    config = tf.BertConfig(**ENCODER, vocab_size=tok.get_vocab_size(), max_position_embeddings=80)
    folder = save("bert", tf.BertModel(config), torch.float32, 8)
    model = tf.AutoModel.from_pretrained(folder, attn_implementation="eager")
    expected(model, folder / "expected", 8, pooling="mean")
    tok.save(str(folder / "tokenizer.json"))
    write_json(folder / "tokenizer_config.json",
               {"tokenizer_class": "BertTokenizer", "do_lower_case": True, "model_max_length": 80,
                "unk_token": "[UNK]", "sep_token": "[SEP]", "pad_token": "[PAD]",
                "cls_token": "[CLS]", "mask_token": "[MASK]"})
    write_json(folder / "sentence_bert_config.json", {"max_seq_length": 72, "do_lower_case": False})
    modules(folder, "sentence_transformers.models", {
        "word_embedding_dimension": 32, "pooling_mode_cls_token": False,
        "pooling_mode_mean_tokens": True, "pooling_mode_max_tokens": False,
        "pooling_mode_mean_sqrt_len_tokens": False}, False)


def xlmr():
    config = tf.XLMRobertaConfig(**ENCODER, vocab_size=120, max_position_embeddings=82,
                                 type_vocab_size=1, layer_norm_eps=1e-5, pad_token_id=1)
    folder = save("xlmr", tf.XLMRobertaModel(config), torch.float16, 9)
    model = tf.AutoModel.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
    expected(model, folder / "expected", 9, pooling="cls", normalise=True, avoid=(1,))
    modules(folder, "sentence_transformers.sentence_transformer.modules", {
        "embedding_dimension": 32, "pooling_mode": "cls", "include_prompt": True}, True)


def main():
    odd = {**SMALL, "intermediate_size": 56, "vocab_size": 101}
    decoder("llama", tf.LlamaConfig(**odd), 1)
    smol()
    scaling = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
               "high_freq_factor": 4.0, "original_max_position_embeddings": 64}
    wide = {**SMALL, "num_attention_heads": 1, "num_key_value_heads": 1}
    decoder("llama3", tf.LlamaConfig(**wide, rope_parameters={**scaling, "rope_theta": 500.0}), 3,
            torch.float16, old_rope(scaling), lengths=(2, 70))
    yarn = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32,
            "rope_theta": 1000.0}
    decoder("yarn", tf.LlamaConfig(**wide, rope_parameters=yarn), 4, torch.bfloat16,
            lengths=(2, 70))
    linear = {"type": "linear", "factor": 2.0}
    decoder("linear", tf.LlamaConfig(**SMALL, rope_parameters={
        "rope_type": "linear", "factor": 2.0, "rope_theta": 10000.0}), 5, torch.bfloat16,
        old_rope(linear), lengths=(2, 70))
    decoder("qwen2", tf.Qwen2Config(**SMALL, tie_word_embeddings=True), 6, torch.float16,
            shard="20KB")
    decoder("qwen3", tf.Qwen3Config(**{**SMALL, "num_attention_heads": 4, "num_key_value_heads": 2,
                                       "head_dim": 16}), 7, torch.bfloat16)
    bert()
    xlmr()


if __name__ == "__main__":
    main()
