/* Which process did something, so that a later one can tell whether it still runs. */
#ifndef SIREN_BASE_PROCESS_H
#define SIREN_BASE_PROCESS_H

/* "MACHINE BOOT SPACE PID START": the machine's id ("-": it has none), its boot, the process's
 * namespace, its number and when it began, so that a number that is used again is another process.
 * Empty where /proc tells nothing. */
enum { PROCESS_NAME = 256 };
void process_name(char name[PROCESS_NAME]);
long process_number(const char *name); /* PID; 0: no name */

/* UNKNOWN: on another machine, in another namespace, or hidden from this user; no name. */
enum process_state { PROCESS_UNKNOWN, PROCESS_RUNS, PROCESS_ENDED };
enum process_state process_state(const char *name);

#endif
