/* The pages of the pool: a list of free pages, and a reference count for each page. A page has the same
 * number in the pools of all layers. */
#ifndef CONTINUOUS_BATCHING_PAGES_H
#define CONTINUOUS_BATCHING_PAGES_H

#include "../embed/common.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

enum { PAGES = 12 };

static struct {
    int references[PAGES]; /* 0: the page is free */
    int32_t free[PAGES];   /* a stack: the page that was freed last is taken first */
    int free_count;
    int taken; /* how often a page was taken, in all */
} pool;

static inline void fill_pool(void)
{
    for (pool.free_count = 0; pool.free_count < PAGES; pool.free_count++)
        pool.free[pool.free_count] = pool.free_count;
}

static inline void give_up(const char *why)
{
    fprintf(stderr, PROGRAM ": %s\n", why);
    exit(1);
}

/* Takes a free page, with one reference. Its old contents need not be cleared. */
static inline int32_t take_page(void)
{
    if (pool.free_count == 0)
        give_up("no page is free, although a request was let in");
    int32_t page = pool.free[--pool.free_count];
    pool.references[page] = 1;
    pool.taken++;
    return page;
}

static inline int32_t share_page(int32_t page)
{
    pool.references[page]++;
    return page;
}

static inline void drop_page(int32_t page)
{
    if (--pool.references[page] == 0)
        pool.free[pool.free_count++] = page;
}

/* Returns 1 if all pages are free, each once. */
static inline int pool_is_whole(void)
{
    int seen[PAGES] = {0};
    for (int i = 0; i < pool.free_count; i++)
        seen[pool.free[i]]++;
    for (int p = 0; p < PAGES; p++)
        if (seen[p] != 1 || pool.references[p] != 0)
            return 0;
    return pool.free_count == PAGES;
}

#endif
