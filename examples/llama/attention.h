/* Causal attention on the host, in f32. */
#ifndef LLAMA_ATTENTION_H
#define LLAMA_ATTENTION_H

typedef struct attention_shape {
    int heads, kv_heads, head_dim;
    float scale; /* factor on scores */
    int window;  /* tokens that a query sees, including its own; 0: its own and all before it */
} attention_shape;

/* Attends with the queries q [count, H, dh] of the last `count` of `length` tokens to k and v
 * [length, Hkv, dh], and writes out [count, H, dh]. Keys and queries are given after RoPE. */
void attend(const attention_shape *shape, const float *q, int count, const float *k, const float *v,
            int length, float *out);

#endif
