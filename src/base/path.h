/* Paths as texts. */
#ifndef SIREN_BASE_PATH_H
#define SIREN_BASE_PATH_H

/* The last name in it, in place, with the slashes behind it, if any. */
const char *path_name(const char *path);
/* What is before that name: "." where it has no folder.  malloc'ed; NULL: out of memory. */
char *path_folder(const char *path);
char *path_join(const char *folder, const char *name); /* likewise */

#endif
