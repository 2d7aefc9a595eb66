/* Which process did something, so that a later one can tell whether it still runs. */
#ifndef SIREN_BASE_PROCESS_H
#define SIREN_BASE_PROCESS_H

/* "BOOT SPACE PID START": the system's boot, the process's namespace, its number and when it began,
 * so that a number that is used again is another process.  Empty where /proc tells nothing. */
enum { PROCESS_NAME = 160 };
void process_name(char name[PROCESS_NAME]);

/* 1 where the process of that name has surely ended: this boot is another one, or its namespace is
 * ours and has no such process.  0 where it runs, or nobody can tell. */
int process_ended(const char *name);

#endif
