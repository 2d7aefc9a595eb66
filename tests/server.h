/* A tiny HTTP server on loopback for tests: answers request after request with
 * scripted texts and keeps what it was asked. */
#ifndef SIREN_TESTS_SERVER_H
#define SIREN_TESTS_SERVER_H

#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

/* An answer that never comes: the client has to go. */
static const char SERVER_SILENT[] = "silent";

struct server {
    int fd, port;
    pthread_t thread;
    const char *const *answers; /* whole responses; "" closes without a word; ends with NULL */
    char requests[8][8192];
    int n_requests;
};

/* Reads head and body of one request. */
static inline void server_read(int fd, char *out, size_t size)
{
    size_t used = 0;
    out[0] = 0;
    for (;;) {
        ssize_t n = read(fd, out + used, size - 1 - used);
        if (n <= 0) return;
        used += (size_t)n;
        out[used] = 0;
        const char *body = strstr(out, "\r\n\r\n");
        const char *length = strcasestr(out, "content-length:");
        if (body && (size_t)(out + used - body) >= 4 + (length ? (size_t)atol(length + 15) : 0))
            return;
    }
}

static inline void *server_main(void *arg)
{
    struct server *s = arg;
    for (int i = 0; s->answers[i] && i < 8; i++) {
        int fd = accept(s->fd, NULL, NULL);
        if (fd < 0) return NULL;
        server_read(fd, s->requests[i], sizeof s->requests[i]);
        s->n_requests++;
        int silent = s->answers[i] == SERVER_SILENT;
        size_t n = silent ? 0 : strlen(s->answers[i]);
        while (silent && read(fd, &(char){0}, 1) > 0) continue;
        if (n && write(fd, s->answers[i], n) < 0) perror("server");
        close(fd);
    }
    return NULL;
}

static inline int server_start(struct server *s, const char *const *answers)
{
    *s = (struct server){.answers = answers};
    struct sockaddr_in address = {.sin_family = AF_INET};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    s->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (s->fd < 0 || bind(s->fd, (struct sockaddr *)&address, size) || listen(s->fd, 8)) return -1;
    getsockname(s->fd, (struct sockaddr *)&address, &size);
    s->port = ntohs(address.sin_port);
    return pthread_create(&s->thread, NULL, server_main, s);
}

/* Waits until all answers were given. */
static inline void server_stop(struct server *s)
{
    shutdown(s->fd, SHUT_RDWR);
    pthread_join(s->thread, NULL);
    close(s->fd);
}

#endif
