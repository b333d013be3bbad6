/* The shadow of shared memory records for each row of 16 bytes who wrote it last, who read it since, and
 * when. Most accesses are of whole rows. A row that is accessed in parts has a shadow for each of its four
 * words instead (SPLIT), until it is written whole again. In the same way, a word that is accessed in parts
 * has a shadow for each of its bytes.
 *
 * Time (`now`) advances when a barrier of the block completes, and when a warp arrives at one without
 * waiting. Accesses of warp w stamped before warp->synced[w] happened before what the warp does now. Any
 * other access of another warp is concurrent. Two concurrent accesses are a race if one of them is a write,
 * unless both are STRONG.
 *
 * A shadow of a write (`written`) has the stamp in bits 0-15, the warp in bits 16-20, the lane in bits
 * 21-25, and flags above. 0 means that nobody has written there.
 *
 * A shadow of reads (`read`) has the stamp in bits 0-15 and the warp in bits 16-20. MANY is set if several
 * warps read at that stamp. Only the latest stamp is kept. The barriers in between ordered the earlier
 * readers, unless only other warps took part in them; a race with such a reader is missed.
 *
 * shared.c has the exact rules, for words and bytes. shared_body.h recognizes the common cases that pass
 * them, for rows and words. */
#ifndef SIM_SHARED_SHADOW_H
#define SIM_SHARED_SHADOW_H

#include "shared.h"

enum {
    STAMP = 0xffff,
    STAMPS_END = 0xf000, /* from here on a barrier restarts time; the stamps left suffice for 16 arrivals of
                            each warp */
    WARP_SHIFT = 16,
    WARP_BITS = 31 << WARP_SHIFT,
    LANE_SHIFT = 21,
    INITIALIZED = 1 << 26,
    PENDING = 1 << 27, /* written by a cp.async that was not waited for */
    SPLIT = 1 << 28,   /* the parts have shadows of their own */
    COPIED = 1 << 29,  /* written by a cp.async that its lane waited for */
    STRONG = 1 << 30,  /* written by an atomic, volatile or ordered access */
    MANY = 1 << 21     /* in shadows of reads only */
};
#define EACH (1u << 31) /* the words of a row were written by `lane` and the next three lanes */

/* The shadow of a write that `lane` makes now. */
static inline uint32_t shadow_write(const sim_warp *warp, uint32_t lane, uint32_t flags)
{
    return warp->block->now | (uint32_t)warp->index << WARP_SHIFT | (lane & 31) << LANE_SHIFT |
           INITIALIZED | flags;
}

/* Records a read in the shadow `r`, and the reading instruction in `at`. */
static inline void shadow_read(const sim_warp *warp, uint32_t *r, uint32_t *at)
{
    uint32_t now = warp->block->now, mine = now | (uint32_t)warp->index << WARP_SHIFT;
    if ((*r & ~(uint32_t)MANY) == mine)
        return;
    *r = (*r & STAMP) == now ? *r | MANY : mine;
    *at = (uint32_t)warp->pc;
}

/* Gives each word of a row a shadow of its own. */
void sim_shared_split(sim_block *block, uint32_t row);

/* Checks an access to a word of a split row by the exact rules, and records it. `cover` has a bit for each
 * of the four bytes that is accessed. */
enum sim_outcome sim_shared_word(sim_warp *warp, uint32_t lane, uint32_t word, uint32_t cover,
                                 enum sim_access access);

#endif
