/* Two processes that can wait for each other. An engine gets this from its launcher. */
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

static int rank; /* rank of this process */
static int socket_to_other;

static inline void fail(const char *what)
{
    fprintf(stderr, PROGRAM ": rank %d: %s\n", rank, what);
    exit(1);
}

/* Allocates zeroed memory that this process shares with all processes that it starts from now on. */
static inline void *shared_memory(size_t bytes)
{
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        fail("no shared memory");
    return memory;
}

/* Waits until the other rank calls `exchange`, too, and swaps a byte with it. The program ends if the other
 * rank has ended. */
static inline char exchange(char byte)
{
    if (send(socket_to_other, &byte, 1, MSG_NOSIGNAL) != 1 || read(socket_to_other, &byte, 1) != 1)
        fail("the other rank has ended");
    return byte;
}

/* Runs `work` in one process per rank. Returns 1 if all succeed. Each process opens its device itself,
 * because CUDA does not work across a fork. */
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
