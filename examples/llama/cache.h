/* What attention remembers of a sequence, behind one interface: on the host (cache_host.c) or as xq plans
 * on a device (cache_device.c). For each new piece of a sequence the forward pass goes through the layers
 * in order: append its rows to a layer, then attend with their queries. */
#ifndef LLAMA_CACHE_H
#define LLAMA_CACHE_H

#include <stdint.h>

typedef struct cache cache;

/* What a kind of cache does; its state begins with a `cache`. */
struct cache {
    /* x [count, d]: the input of layer `layer`'s key and value projections, of the tokens after the last
     * appended. Cross-layer methods add to the accumulator here. */
    void (*append)(cache *c, int layer, const float *x, int count);
    /* q [count, H, dh] of the last `count` tokens, normalized, before RoPE -> out [count, H, dh]. */
    void (*attend)(cache *c, int layer, const float *q, int count, float *out);
    /* All layers have the tokens: the sequence is `count` longer. */
    void (*advance)(cache *c, int count);
    /* Begins a new sequence. */
    void (*reset)(cache *c);
    void (*close)(cache *c);
    /* For comparing caches: the stored streams of a layer as attention sees them, rows [length, width]: x;
     * k and v; of cross-layer methods the accumulator, which is that of the layer appended last. Returns
     * the width; 0 where there is no such stream. */
    int (*read)(cache *c, int layer, int stream, float *rows);
};

#endif
