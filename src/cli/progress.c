/* Progress on standard error, and Ctrl-C. */
#include <langinfo.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "cli/frame.h"

static volatile int interrupted; /* by which signal */

static void on_signal(int number)
{
    interrupted = number;
    static const char text[] = "\nstopping (Ctrl-C once more kills)\n";
    if (number == SIGINT) (void)!write(STDERR_FILENO, text, sizeof text - 1);
}

static void catch_signals(struct cli *cli)
{
    if (cli->state->catching++) return;
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = (int)SA_RESETHAND | SA_RESTART};
    struct sigaction before;
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    /* A terminal that is gone stops it, but not under nohup. */
    if (!sigaction(SIGHUP, NULL, &before) && before.sa_handler != SIG_IGN)
        sigaction(SIGHUP, &action, NULL);
}

const volatile int *cli_cancel(struct cli *cli)
{
    catch_signals(cli);
    return &interrupted;
}

int cli_stopped_status(void)
{
    return 128 + (interrupted ? interrupted : SIGINT);
}

static int on_terminal(void)
{
    const char *term = getenv("TERM");
    return isatty(STDERR_FILENO) && !(term && strcmp(term, "dumb") == 0);
}

/* "12,345 prompts" or "93.8 MB". */
static void amount_text(const struct cli_state *s, char *out, size_t size)
{
    int bytes = strcmp(s->what, "bytes") == 0;
    const char *done = bytes ? cli_bytes(s->done) : cli_number(s->done);
    const char *total = bytes ? cli_bytes(s->total) : cli_number(s->total);
    snprintf(out, size, "%s%s%s%s%s", done, s->total ? " of " : "", s->total ? total : "",
             bytes ? "" : " ", bytes ? "" : s->what);
}

static double rate_of(const struct cli_state *s, char *out, size_t size)
{
    double elapsed = clock_seconds() - s->started;
    double rate = elapsed > 0 ? (double)(s->done - s->first) / elapsed : 0;
    if (strcmp(s->what, "bytes") == 0)
        snprintf(out, size, "%s/s", cli_bytes((uint64_t)rate));
    else if (rate >= 100)
        snprintf(out, size, "%s/s", cli_number((uint64_t)rate));
    else
        snprintf(out, size, rate >= 1 ? "%.1f/s" : "%.2f/s", rate);
    return rate;
}

static void draw_bar(char *out, size_t size, double share, int cells)
{
    int utf8 = strcmp(nl_langinfo(CODESET), "UTF-8") == 0;
    int full = (int)(share * cells + 0.5);
    size_t used = 0;
    for (int i = 0; i < cells && used + 4 < size; i++)
        used += (size_t)snprintf(out + used, size - used, "%s",
                                 i < full ? (utf8 ? "█" : "#") : (utf8 ? "░" : "."));
}

/* Without its last part; 0: there is none left. */
static int drop_part(char *news)
{
    char *last = news;
    if (!*news) return 0;
    for (char *p = news; (p = strstr(p, ", ")); p++) last = p;
    *last = 0;
    return 1;
}

/* Amount, rate, time left and news; brief 1: without the amount, 2: without the rate, too. */
static void describe_progress(const struct cli_state *s, int brief, const char *news, char *text,
                              size_t size)
{
    char amount[160], rate[60], left[60] = "";
    amount_text(s, amount, sizeof amount);
    double per_second = rate_of(s, rate, sizeof rate);
    if (s->total > s->done && per_second > 0)
        snprintf(left, sizeof left, ", %s left",
                 cli_seconds((double)(s->total - s->done) / per_second));
    if (brief < 2)
        snprintf(text, size, "%s%s%s%s", brief ? "" : amount, brief ? "" : "  ", rate, left);
    else
        snprintf(text, size, "%s", left + (*left ? 2 : 0));
    size_t used = strlen(text);
    snprintf(text + used, size - used, "%s%s", *news && used ? "  " : "", news);
}

/* On a terminal (width > 0) a bar before it, as wide as there is room for.  Where it is narrow, the
 * news are worth more than the amount and the rate beside the share; then their last parts go. */
static void progress_line(const struct cli_state *s, char *out, size_t size, int width)
{
    char bar[160] = "", percent[16] = "", news[sizeof s->news], text[600];
    double share = s->total ? (double)s->done / (double)s->total : 0;
    int brief = 0, room;
    if (share > 1) share = 1;
    if (s->total) snprintf(percent, sizeof percent, "%3d %%  ", (int)(share * 100));
    snprintf(news, sizeof news, "%s", s->news);
    for (;;) {
        describe_progress(s, brief, news, text, sizeof text);
        room = width - 1 - (int)strlen(percent) - (int)cli_text_width(text);
        if (!width || room >= 0) break;
        if (s->total && brief < 2)
            brief++;
        else if (!drop_part(news))
            break;
    }
    if (s->total && room >= 10) draw_bar(bar, sizeof bar, share, room > 30 ? 30 : room);
    snprintf(out, size, "%s%s%s%s", bar, *bar ? " " : "", percent, text);
}

void cli_progress_end(struct cli *cli)
{
    struct cli_state *s = cli->state;
    if (s->visible) fputs("\r\033[K", stderr);
    s->visible = 0;
    double elapsed = clock_seconds() - s->started;
    if (s->what[0] && s->lines && elapsed >= 1) {
        char amount[160], rate[60];
        amount_text(s, amount, sizeof amount);
        rate_of(s, rate, sizeof rate);
        fprintf(stderr, "%s in %s (%s)%s%s\n", amount, cli_seconds(elapsed), rate,
                *s->news ? "  " : "", s->news);
    }
    s->what[0] = 0;
}

void cli_progress_note(struct cli *cli, const char *format, ...)
{
    struct cli_state *s = cli->state;
    va_list args;
    if (cli->quiet) return;
    if (s->visible) fputs("\r\033[K", stderr);
    s->visible = 0;
    va_start(args, format);
    cli_vput(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
}

static void start_progress(struct cli_state *s, const char *what, uint64_t done)
{
    snprintf(s->what, sizeof s->what, "%.*s", (int)strcspn(what, ":"), what);
    s->started = s->drawn = clock_seconds();
    s->first = done;
    s->lines = 0;
}

/* "steps: loss 0.42" goes on where "steps" was. */
static int is_same(const struct cli_state *s, const char *what)
{
    size_t n = strcspn(what, ":"), most = sizeof s->what - 1;
    if (n > most) n = most;
    return strlen(s->what) == n && strncmp(s->what, what, n) == 0;
}

static int update_progress(void *context, const char *what, uint64_t done, uint64_t total)
{
    struct cli *cli = context;
    struct cli_state *s = cli->state;
    if (cli->quiet) return interrupted != 0;
    if (!is_same(s, what) || done < s->done) {
        cli_progress_end(cli);
        start_progress(s, what, done);
    }
    what += strcspn(what, ":");
    snprintf(s->news, sizeof s->news, "%s", *what ? what + 1 + strspn(what + 1, " ") : "");
    s->done = done;
    s->total = total;
    int terminal = on_terminal();
    double t = clock_seconds(), pause = s->visible ? 0.1 : terminal ? 0.3 : 10;
    if (t - s->drawn >= pause) {
        char line[700];
        progress_line(s, line, sizeof line, terminal ? cli_terminal_width(STDERR_FILENO) - 1 : 0);
        fprintf(stderr, terminal ? "\r%s\033[K" : "%s\n", line);
        fflush(stderr);
        s->visible = terminal;
        s->lines++;
        s->drawn = t;
    }
    return interrupted != 0;
}

const struct siren_progress *cli_progress(struct cli *cli)
{
    catch_signals(cli);
    cli->state->progress = (struct siren_progress){update_progress, cli};
    return &cli->state->progress;
}
