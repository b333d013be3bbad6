/* The shadow of shared memory: for each row of 16 bytes who wrote it last and who read it since, and when.
 * Most accesses are of whole rows. A row accessed in parts has a shadow for each of its four words instead
 * (SPLIT), until it is written whole again; and so has a word, for each of its bytes.
 *
 * Time is counted in barriers completed in the block (`now`). Accesses of warp w stamped before
 * warp->synced[w] happened before what the warp does now; any other access of another warp is concurrent,
 * and two concurrent accesses, one a write, are a race.
 *
 * written: stamp 0-15, warp 16-20, lane 21-25, flags. 0: never written.
 * read: stamp 0-15, warp 16-20, MANY where several warps read at that stamp. Only the latest stamp is kept:
 * older readers were ordered by the barriers in between, unless those were of other warps only.
 *
 * shared.c has the exact rules, for words and bytes; shared_body.h recognizes the common cases that pass
 * them, for rows. */
#ifndef SIM_SHARED_SHADOW_H
#define SIM_SHARED_SHADOW_H

#include "shared.h"

enum {
    STAMP = 0xffff,
    STAMPS_END = 0xf000, /* time starts anew; between barriers, every warp may arrive at 16 more */
    WARP_SHIFT = 16,
    WARP_BITS = 31 << WARP_SHIFT,
    LANE_SHIFT = 21,
    INITIALIZED = 1 << 26,
    PENDING = 1 << 27, /* by a cp.async that was not waited for */
    SPLIT = 1 << 28,
    COPIED = 1 << 29, /* by a cp.async that its lane waited for */
    STRONG = 1 << 30, /* by an atomic, volatile or ordered access */
    MANY = 1 << 21
};
#define EACH (1u << 31) /* of a row: its four words by `lane` and the next three */

/* The shadow of what `lane` writes now. */
static inline uint32_t shadow_write(const sim_warp *warp, uint32_t lane, uint32_t flags)
{
    return warp->block->now | (uint32_t)warp->index << WARP_SHIFT | (lane & 31) << LANE_SHIFT |
           INITIALIZED | flags;
}

/* It is read now: its shadow, and the instruction that did. */
static inline void shadow_read(const sim_warp *warp, uint32_t *r, uint32_t *at)
{
    uint32_t now = warp->block->now, mine = now | (uint32_t)warp->index << WARP_SHIFT;
    if ((*r & ~(uint32_t)MANY) == mine)
        return;
    *r = (*r & STAMP) == now ? *r | MANY : mine;
    *at = (uint32_t)warp->pc;
}

/* The words of a row get shadows of their own. */
void sim_shared_split(sim_block *block, uint32_t row);

/* Checks an access of the bytes of `cover` (4 bits) of a word of a split row exactly, and records it. */
enum sim_outcome sim_shared_word(sim_warp *warp, uint32_t lane, uint32_t word, uint32_t cover,
                                 enum sim_access access);

#endif
