/* What tests of the model that is none begin and end with.  Include after cmocka.h. */
#ifndef SIREN_TESTS_FAKE_SETUP_H
#define SIREN_TESTS_FAKE_SETUP_H

#include "app_fixture.h"

static struct fake fake;
static struct siren_lm lm;

static inline int fake_setup(void **state)
{
    if (scratch_create(state)) return -1;
    fake_open(&lm, &fake);
    return 0;
}

static inline int fake_teardown(void **state)
{
    fake_close(&lm);
    return scratch_delete(state);
}

/* The tokenizer of the fake model with another end of text, as its folder may name one. */
static inline struct siren_tokenizer *fake_tokenizer_that_ends(const char *token)
{
    struct siren_tokenizer *tokenizer;
    char config[100], path[256], *text;
    size_t size;
    MUST(siren_file_read(&text, &size, "tests/fixtures/models/smol/tokenizer.json", 1 << 24, ERR));
    snprintf(path, sizeof path, "%s", scratch_write("tokenizer.json", text, size));
    free(text);
    snprintf(config, sizeof config, "{\"eos_token\": \"%s\"}", token);
    scratch_write("tokenizer_config.json", config, strlen(config));
    MUST(siren_tokenizer_load(&tokenizer, path, ERR));
    return tokenizer;
}

#endif
