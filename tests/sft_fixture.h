/* The workspace and the chat template that the tests of `siren train sft` share.  Include after
 * app_fixture.h and tiny_lm.h. */
#ifndef SIREN_TESTS_SFT_FIXTURE_H
#define SIREN_TESTS_SFT_FIXTURE_H

static inline const char *the_workspace(void)
{
    static char path[256];
    if (!*path)
        snprintf(path, sizeof path, "%s", fixture_workspace("w.siren", SIREN_PROTOCOL_FULL));
    return path;
}

static inline const char *the_template(void)
{
    static char path[256];
    static const char template[] = "system: {system}\\n\n"
                                   "user: {user}\\n\n"
                                   "prompt: >\n"
                                   "stop: <|im_end|>\n";
    if (!*path)
        snprintf(path, sizeof path, "%s",
                 scratch_write("template.txt", template, sizeof template - 1));
    return path;
}

#endif
