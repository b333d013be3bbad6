#include "arena.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CHUNK_BYTES = 1 << 18 };

struct sim_arena_chunk {
    struct sim_arena_chunk *next;
    size_t bytes;
    _Alignas(16) unsigned char data[];
};

void *sim_arena_alloc(sim_arena *arena, size_t bytes)
{
    bytes = (bytes + 15) & ~(size_t)15;
    if (!arena->chunks || arena->chunks->bytes - arena->used < bytes) {
        size_t room = bytes > CHUNK_BYTES ? bytes : CHUNK_BYTES;
        struct sim_arena_chunk *chunk = malloc(sizeof *chunk + room);
        if (!chunk)
            sim_arena_fail(arena, XQ_ERROR_MEMORY, "out of memory loading a module");
        chunk->bytes = room;
        chunk->next = arena->chunks;
        arena->chunks = chunk;
        arena->used = 0;
    }
    void *p = arena->chunks->data + arena->used;
    arena->used += bytes;
    return memset(p, 0, bytes);
}

void *sim_arena_grow(sim_arena *arena, void *array, int count, int *capacity, size_t element)
{
    int room = *capacity ? *capacity * 2 : 16;
    void *bigger = sim_arena_alloc(arena, (size_t)room * element);
    if (count)
        memcpy(bigger, array, (size_t)count * element);
    *capacity = room;
    return bigger;
}

void sim_arena_free(sim_arena *arena)
{
    while (arena->chunks) {
        struct sim_arena_chunk *next = arena->chunks->next;
        free(arena->chunks);
        arena->chunks = next;
    }
}

void sim_arena_fail(sim_arena *arena, xq_status status, const char *format, ...)
{
    char text[800];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    error_set(arena->err, status, "device", "%s", text);
    longjmp(arena->escape, 1);
}
