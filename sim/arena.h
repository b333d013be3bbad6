/* An arena holds what parsing and decoding one module allocate. Memory is allocated piece by piece and
 * released at once. When memory runs out, the arena jumps to its escape, so the code that allocates has no
 * failure paths. */
#ifndef SIM_ARENA_H
#define SIM_ARENA_H

#include "../runtime/base/error.h"

#include <setjmp.h>
#include <stddef.h>

struct sim_arena_chunk;

/* The owner of an arena sets `err`, and sets `escape` with setjmp, before it uses the arena. */
typedef struct sim_arena {
    struct sim_arena_chunk *chunks;
    size_t used;
    error *err;
    jmp_buf escape;
} sim_arena;

void *sim_arena_alloc(sim_arena *arena, size_t bytes); /* zeroed, 16-byte aligned; never NULL */
void sim_arena_free(sim_arena *arena);

/* Makes room for one more element in a growing array that lies in `arena`. `array` is a pointer lvalue. */
#define SIM_ARENA_GROW(arena, array, count, capacity)                                                      \
    ((array) = (count) < (capacity)                                                                        \
                   ? (array)                                                                               \
                   : sim_arena_grow((arena), (array), (count), &(capacity), sizeof *(array)))
void *sim_arena_grow(sim_arena *arena, void *array, int count, int *capacity, size_t element);

/* Fails the parse or decode: fills the arena's error and jumps to its escape. */
_Noreturn void sim_arena_fail(sim_arena *arena, xq_status status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#endif
