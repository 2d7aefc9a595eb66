/* Shell completion, from the same table as --help. */
#include <string.h>

#include "base/buf.h"
#include "cli/frame.h"

/* "--top --model -m …" */
static void option_words(struct buf *b, const struct cli_command *c)
{
    const struct cli_option *o;
    for (size_t i = 0; (o = cli_option_at(c, i)); i++) {
        buf_printf(b, "%s--%s", i ? " " : "", o->name);
        if (o->letter) buf_printf(b, " -%c", o->letter);
    }
}

/* "mean|median" as words of a list. */
static void choice_words(struct buf *b, const char *choices)
{
    buf_puts(b, "COMPREPLY=($(compgen -W '");
    for (const char *p = choices; *p; p++) buf_putc(b, *p == '|' ? ' ' : *p);
    buf_puts(b, "' -- \"$cur\"))");
}

/* What follows an option that takes a value: its choices, a path, or nothing. */
static void value_case(struct buf *b, const struct cli_command *c, const struct cli_option *o)
{
    buf_printf(b, "        '%s:--%s'", c->name, o->name);
    if (o->letter) buf_printf(b, "|'%s:-%c'", c->name, o->letter);
    buf_puts(b, ") ");
    if (o->type == CLI_CHOICE) {
        choice_words(b, o->choices);
    } else if (cli_is_path(o->argument)) {
        buf_printf(b, "_siren_paths -%c", strcmp(o->argument, "DIR") == 0 ? 'd' : 'f');
    } else {
        buf_puts(b, "COMPREPLY=()");
    }
    buf_puts(b, "; return;;\n");
}

static void value_cases(struct buf *b)
{
    const struct cli_option *o;
    for (size_t k = 0; cli_commands[k]; k++)
        for (size_t i = 0; (o = cli_option_at(cli_commands[k], i)); i++)
            if (o->type != CLI_FLAG) value_case(b, cli_commands[k], o);
}

static void first_words(struct buf *b)
{
    const char *before = NULL;
    for (size_t i = 0; cli_commands[i]; i++) {
        const char *name = cli_commands[i]->name;
        size_t n = strcspn(name, " ");
        int again = before && strcspn(before, " ") == n && memcmp(before, name, n) == 0;
        if (!again) buf_printf(b, " %.*s", (int)n, name);
        before = name;
    }
}

/* Of families, the words that follow: model) sub='export info';; */
static void family_cases(struct buf *b)
{
    size_t n = 0;
    for (size_t i = 0; cli_commands[i]; i++) {
        const char *name = cli_commands[i]->name, *space = strchr(name, ' ');
        if (!space) continue;
        const char *before = n ? cli_commands[i - 1]->name : "";
        if (n && !strncmp(before, name, (size_t)(space - name) + 1))
            buf_printf(b, " %s", space + 1);
        else
            buf_printf(b, "%s        %.*s) sub='%s", n ? "';;\n" : "", (int)(space - name), name,
                       space + 1);
        n++;
    }
    if (n) buf_puts(b, "';;\n");
}

/* Arguments that are words: of man and help those of a command's name. */
static void argument_cases(struct buf *b)
{
    buf_puts(b, "        man:2|help:2) COMPREPLY=($(compgen -W '");
    first_words(b);
    buf_puts(b, "' -- \"$cur\")); return;;\n"
                "        man:3|help:3) _siren_family \"${COMP_WORDS[2]}\"\n"
                "            COMPREPLY=($(compgen -W \"$sub\" -- \"$cur\")); return;;\n");
    for (size_t i = 0; cli_commands[i]; i++) {
        const struct cli_command *c = cli_commands[i];
        if (!c->words) continue;
        buf_printf(b, "        '%s:%d') ", c->name, c->words_at + (strchr(c->name, ' ') ? 2 : 1));
        choice_words(b, c->words);
        buf_puts(b, "; return;;\n");
    }
}

static void option_cases(struct buf *b)
{
    for (size_t i = 0; cli_commands[i]; i++) {
        buf_printf(b, "            '%s') COMPREPLY=($(compgen -W '", cli_commands[i]->name);
        option_words(b, cli_commands[i]);
        buf_puts(b, "' -- \"$cur\"));;\n");
    }
}

static void bash_script(struct buf *b)
{
    buf_puts(b, "# bash completion of siren; load with: source <(siren completion bash)\n"
                "_siren_paths() { # one a line: a name may hold spaces\n"
                "    local IFS=$'\\n'\n"
                "    COMPREPLY=($(compgen \"$1\" -- \"$cur\"))\n"
                "}\n"
                "_siren_family() { # the words that follow a first one, in sub\n"
                "    sub=''\n"
                "    case $1 in\n");
    family_cases(b);
    buf_puts(b, "    esac\n"
                "}\n"
                "_siren() {\n"
                "    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]}\n"
                "    local command=${COMP_WORDS[1]} sub=''\n"
                "    if [ \"$COMP_CWORD\" -eq 1 ]; then\n"
                "        COMPREPLY=($(compgen -W '--help --version help");
    first_words(b);
    buf_puts(b, "' -- \"$cur\")); return\n    fi\n"
                "    _siren_family \"$command\"\n"
                "    if [ -n \"$sub\" ] && [ \"$COMP_CWORD\" -eq 2 ]; then\n"
                "        COMPREPLY=($(compgen -W \"$sub\" -- \"$cur\")); return\n"
                "    fi\n"
                "    [ -n \"$sub\" ] && command=\"$command ${COMP_WORDS[2]}\"\n"
                "    case $command:$prev in\n");
    value_cases(b);
    buf_puts(b, "    esac\n"
                "    if [ \"${cur#-}\" != \"$cur\" ]; then\n"
                "        case $command in\n");
    option_cases(b);
    buf_puts(b, "        esac\n        return\n    fi\n"
                "    case $command:$COMP_CWORD in\n");
    argument_cases(b);
    buf_puts(b, "    esac\n"
                "    _siren_paths -f\n"
                "}\n"
                "complete -o filenames -F _siren siren\n");
}

static int run(struct cli *cli)
{
    const char *shell = cli_arg(cli, 0);
    int zsh = strcmp(shell, "zsh") == 0;
    if (!zsh && strcmp(shell, "bash") != 0)
        return cli_usage(cli, "shell: found \"%s\", expected bash or zsh", shell);
    struct buf b = {0};
    if (zsh)
        buf_puts(&b, "autoload -U +X compinit && compinit\n"
                     "autoload -U +X bashcompinit && bashcompinit\n");
    bash_script(&b);
    int rc = buf_failed(&b) ? siren_fail_memory(&cli->err, "completion script", b.size) : SIREN_OK;
    if (!rc) cli_print(cli, "%s", b.data);
    buf_free(&b);
    return rc;
}

const struct cli_command cmd_completion = {
    .name = "completion",
    .group = CLI_TOOLS,
    .summary = "print a script that completes commands and options in a shell",
    .usage = "SHELL",
    .words = "bash|zsh",
    .words_at = 1,
    .description = "SHELL is bash or zsh.  `make install` puts the bash script where bash looks "
                   "for it; elsewhere, load it from the shell's start-up file.",
    .examples =
        (const struct cli_example[]){
            {"source <(siren completion bash)", "Complete in this shell: siren <Tab><Tab>."},
            {0},
        },
    .run = run,
};
