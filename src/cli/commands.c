#include "cli/frame.h"

#define COMMAND(name) extern const struct cli_command name;
#include "cli/commands.def"
#undef COMMAND

const struct cli_command *const cli_commands[] = {
#define COMMAND(name) &name,
#include "cli/commands.def"
#undef COMMAND
    NULL,
};
