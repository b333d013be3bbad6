/* Memory of one parse or decode: allocated piece by piece, released at once. Running out leaves by the
 * arena's escape, so that the code between has no failure paths. */
#ifndef SIM_ARENA_H
#define SIM_ARENA_H

#include "../runtime/base/error.h"

#include <setjmp.h>
#include <stddef.h>

struct sim_arena_chunk;

/* Whoever owns the arena sets `escape` with setjmp before using it. */
typedef struct sim_arena {
    struct sim_arena_chunk *chunks;
    size_t used;
    error *err;
    jmp_buf escape;
} sim_arena;

void *sim_arena_alloc(sim_arena *arena, size_t bytes); /* zeroed, 16-byte aligned; never NULL */
void sim_arena_free(sim_arena *arena);

/* Makes room for one more in a growing array of `arena`; `array` is an lvalue pointer. */
#define SIM_ARENA_GROW(arena, array, count, capacity)                                                      \
    ((array) = (count) < (capacity)                                                                        \
                   ? (array)                                                                               \
                   : sim_arena_grow((arena), (array), (count), &(capacity), sizeof *(array)))
void *sim_arena_grow(sim_arena *arena, void *array, int count, int *capacity, size_t element);

/* Fails the parse or decode: fills the arena's error and leaves by its escape. */
_Noreturn void sim_arena_fail(sim_arena *arena, xq_status status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#endif
