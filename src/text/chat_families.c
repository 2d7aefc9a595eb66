/* The families' chat templates, by the hash of their Jinja text.
 *
 * tests/reference/chat.py renders the originals with Jinja; tests/test_chat.c
 * compares. */
#include <stdio.h>
#include <string.h>
#include <xxhash.h>

#include "text/chat.h"

#define CHATML_TURNS                                                                               \
    .before = {"<|im_start|>system\n", "<|im_start|>user\n", "<|im_start|>assistant\n"},           \
    .after = {"<|im_end|>\n", "<|im_end|>\n", "<|im_end|>\n"},                                     \
    .prompt = "<|im_start|>assistant\n", .stops = {"<|im_end|>", "<|endoftext|>"}

#define LLAMA_TURNS                                                                                \
    .begin = "<|begin_of_text|>",                                                                  \
    .before = {"<|start_header_id|>system<|end_header_id|>\n\n",                                   \
               "<|start_header_id|>user<|end_header_id|>\n\n",                                     \
               "<|start_header_id|>assistant<|end_header_id|>\n\n"},                               \
    .after = {"<|eot_id|>", "<|eot_id|>", "<|eot_id|>"},                                           \
    .prompt = "<|start_header_id|>assistant<|end_header_id|>\n\n", .trim = 1,                      \
    .stops = {"<|eot_id|>", "<|end_of_text|>", "<|eom_id|>"}

static const struct chat_template smollm2 = {
    CHATML_TURNS,
    .name = "ChatML (SmolLM2)",
    .default_system = "You are a helpful AI assistant named SmolLM, trained by Hugging Face",
};
static const struct chat_template qwen25 = {
    CHATML_TURNS,
    .name = "ChatML (Qwen2.5)",
    .default_system = "You are Qwen, created by Alibaba Cloud. You are a helpful assistant.",
};
static const struct chat_template qwen3 = {
    CHATML_TURNS,
    .name = "ChatML (Qwen3)",
    .thinking = 1,
};
static const struct chat_template llama3 = {
    LLAMA_TURNS,
    .name = "Llama 3",
};

/* 3.1 dates every prompt so, 3.2 where nobody tells it the day: a prompt must not depend on it. */
#define LLAMA_DATED                                                                                \
    LLAMA_TURNS,                                                                                   \
        .first_system = "<|start_header_id|>system<|end_header_id|>\n\n"                           \
                        "Cutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\n",      \
        .default_system = ""

static const struct chat_template llama31 = {
    LLAMA_DATED,
    .name = "Llama 3.1",
};
static const struct chat_template llama32 = {
    LLAMA_DATED,
    .name = "Llama 3.2",
};

static const struct {
    const char *hash;
    const struct chat_template *family;
} families[] = {
    {"98f63cc3d421d28f99ab995e9629dacd", &smollm2}, {"e392aa06018503fd2469c9508f79506e", &qwen25},
    {"5fdb9fce4071098def2b96adf9b87224", &qwen25}, /* its tool part has doubled braces */
    {"4457e3d12b367a860283f874ff58d644", &qwen3},   {"09facc0e4aa943189799ad6e2dea0594", &llama3},
    {"8f20b9eda669ce10b97891b7adc1beb8", &llama3}, /* the prompt is not optional */
    {"9ddcd6cd71f96dd76ca7779b7730196a", &llama31}, {"573e1bcc8c56f178c3d57e38f5ff0756", &llama32},
};

void chat_hash(char hex[33], const char *jinja, size_t length)
{
    while (length && strchr(" \t\r\n", jinja[length - 1])) length--;
    XXH128_hash_t h = XXH3_128bits(jinja, length);
    snprintf(hex, 33, "%016llx%016llx", (unsigned long long)h.high64, (unsigned long long)h.low64);
}

const struct chat_template *chat_by_hash(const char *hex)
{
    for (size_t i = 0; i < sizeof families / sizeof *families; i++)
        if (!strcmp(families[i].hash, hex)) return families[i].family;
    return NULL;
}
