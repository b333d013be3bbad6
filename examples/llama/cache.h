/* The attention cache of one sequence, behind one interface with two implementations: arithmetic on the
 * host (cache_host.c), and xq plans on a device (cache_device.c). For each new piece of a sequence the
 * forward pass goes through the layers in order. In each layer it appends the piece's rows, then attends
 * with the piece's queries. */
#ifndef LLAMA_CACHE_H
#define LLAMA_CACHE_H

#include <stdint.h>

typedef struct cache cache;

/* The operations of a cache. An implementation's state begins with this struct. */
struct cache {
    /* Appends x [count, d], the input of layer `layer`'s key and value projections, for the next `count`
     * tokens. Cross-layer methods add to the accumulator here. */
    void (*append)(cache *c, int layer, const float *x, int count);
    /* Attends with q [count, H, dh], the queries of the last `count` tokens after QK-norm (if any) and
     * before RoPE, and writes out [count, H, dh]. */
    void (*attend)(cache *c, int layer, const float *q, int count, float *out);
    /* Makes the sequence `count` tokens longer, once all layers have appended and attended. */
    void (*advance)(cache *c, int count);
    /* Begins a new sequence. */
    void (*reset)(cache *c);
    void (*close)(cache *c);
    /* Reads a stored stream of a layer as attention sees it, rows [length, width], so that caches can be
     * compared. Method x has one stream, latent and kivi have two (keys, values). Cross-layer methods give
     * the accumulator, which belongs to the layer appended last. Returns the width, or 0 if there is no
     * such stream. */
    int (*read)(cache *c, int layer, int stream, float *rows);
};

#endif
