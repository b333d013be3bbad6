/* A library of xq that a test loads, whatever prefix its functions have, and attention through it. Each
 * library is loaded apart from others, so that a test can compare several. */
#ifndef TESTS_LIBRARY_SESSION_H
#define TESTS_LIBRARY_SESSION_H

#include "xq/xq.h"

#include <stdio.h>

#define LIBRARY_FUNCTIONS(F)                                                                               \
    F(context_create)                                                                                      \
    F(context_destroy)                                                                                     \
    F(context_device)                                                                                      \
    F(last_error)                                                                                          \
    F(device_alloc)                                                                                        \
    F(device_fill)                                                                                         \
    F(device_free)                                                                                         \
    F(device_read)                                                                                         \
    F(device_write)                                                                                        \
    F(plan_load)                                                                                           \
    F(plan_save)                                                                                           \
    F(plan_destroy)                                                                                        \
    F(plan_query)                                                                                          \
    F(plan_pack_weights)                                                                                   \
    F(plan_append)                                                                                         \
    F(plan_accumulate)                                                                                     \
    F(plan_attend)

#define LIBRARY_MEMBER(NAME) __typeof__(&xq_##NAME) NAME;
struct library {
    void *handle;
    LIBRARY_FUNCTIONS(LIBRARY_MEMBER)
};

/* Loads a shared library. Its functions are PREFIX_context_create and so on, and do the same as those of
 * xq.h. */
struct library library_load(const char *path, const char *prefix);

/* Finds PREFIX_NAME in a loaded library; the test fails if it is not there. */
void *library_find(const struct library *l, const char *prefix, const char *name);

/* Message of the calling thread's last failure on the context. */
const char *library_message(const struct library *l, xq_context *context);

struct session {
    const struct library *library;
    xq_context *context;
};

/* Opens a context. session_must fails the test unless a call returned XQ_OK. */
struct session session_open(const struct library *l, const char *device);
void session_must(const struct session *s, xq_status status);

/* The model of all specs whose plans session_attend takes. */
#define SESSION_MODEL                                                                                      \
    "\"model\": {\"hidden_size\": 256, \"num_attention_heads\": 4, \"num_key_value_heads\": 2, "           \
    "\"head_dim\": 64, \"rope_theta\": 10000}"
enum { SESSION_TOKENS = 150, SESSION_BATCH = 2, SESSION_HEADS = 4, SESSION_HEAD_DIM = 64 };

/* Results of attention. */
struct session_result {
    uint16_t out[SESSION_BATCH * SESSION_HEADS * SESSION_HEAD_DIM];
    float lse[SESSION_BATCH * SESSION_HEADS];
};

/* Caches two sequences, of SESSION_TOKENS tokens and fewer, in pages of 32 tokens, and attends with one
 * query for each. If `latent` is nonzero, the plan's weights are those of method latent with ranks 128 and
 * 64. */
struct session_result session_attend(const struct session *s, xq_plan *plan, int latent);

/* Fails the test if the two results differ, or if so many outputs are zero that attention cannot have
 * run. */
void session_expect_same(const struct session_result *a, const struct session_result *b, const char *what);

#endif
