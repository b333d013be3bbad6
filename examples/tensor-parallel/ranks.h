/* Two processes, of which each can wait for the other: what an engine has from its launcher. */
#ifndef TENSOR_PARALLEL_RANKS_H
#define TENSOR_PARALLEL_RANKS_H

#include "../embed/common.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum { RANKS = 2 };

static int rank; /* of this process */
static int socket_to_other;

static inline void fail(const char *what)
{
    fprintf(stderr, PROGRAM ": rank %d: %s\n", rank, what);
    exit(1);
}

/* Memory that all processes see which this one starts from now on; zeros. */
static inline void *shared_memory(size_t bytes)
{
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        fail("no shared memory");
    return memory;
}

/* Gives the other rank a byte and takes its one, when it has come as far. A rank that has ended is noticed.
 */
static inline char exchange(char byte)
{
    if (send(socket_to_other, &byte, 1, MSG_NOSIGNAL) != 1 || read(socket_to_other, &byte, 1) != 1)
        fail("the other rank has ended");
    return byte;
}

/* Runs `work` in a process for each rank; returns 1 if all succeed. A process opens its device itself:
 * CUDA does not outlive a fork. */
static inline int run_ranks(int (*work)(void))
{
    int sockets[2], ok = 1;
    pid_t processes[RANKS];
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, sockets) != 0)
        fail("no socket");
    fflush(stdout);
    for (int r = 0; r < RANKS; r++) {
        processes[r] = fork();
        if (processes[r] < 0)
            fail("no process");
        if (processes[r] == 0) {
            rank = r;
            socket_to_other = sockets[r];
            close(sockets[1 - r]);
            exit(work());
        }
    }
    close(sockets[0]);
    close(sockets[1]);
    for (int r = 0; r < RANKS; r++) {
        int status = 0;
        ok &= waitpid(processes[r], &status, 0) == processes[r] && status == 0;
    }
    return ok;
}

#endif
