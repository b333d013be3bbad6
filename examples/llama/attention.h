/* Causal attention on the host, in f32. */
#ifndef LLAMA_ATTENTION_H
#define LLAMA_ATTENTION_H

typedef struct attention_shape {
    int heads, kv_heads, head_dim;
    float scale; /* of scores */
    int window;  /* tokens that a query sees, its own among them; 0: all before it */
} attention_shape;

/* q [count, H, dh] at the last `count` of `length` tokens, k and v [length, Hkv, dh], keys and queries
 * after RoPE -> out [count, H, dh]. */
void attend(const attention_shape *shape, const float *q, int count, const float *k, const float *v,
            int length, float *out);

#endif
