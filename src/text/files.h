/* A model's files, as the loaders of tokenizers and chat templates look for them. */
#ifndef SIREN_TEXT_FILES_H
#define SIREN_TEXT_FILES_H

int files_exists(const char *path);  /* a regular file */
int files_is_gguf(const char *path); /* by name or by its first bytes */

#endif
