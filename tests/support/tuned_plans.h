/* A small model for tests of tuned parameters: its spec, contexts and plans. Failures end the test. */
#ifndef TESTS_TUNED_PLANS_H
#define TESTS_TUNED_PLANS_H

#include "xq/xq.h"

#define TUNED_MODEL                                                                                        \
    "{\"hidden_size\": 128, \"num_attention_heads\": 4, \"num_key_value_heads\": 2, \"head_dim\": 64}"
#define TUNED_SPEC_FOR(arch)                                                                               \
    "{\"model\": " TUNED_MODEL ", \"cache\": {\"method\": \"latent\", \"bits\": 4, \"group\": 64, "        \
    "\"page\": 16}, \"arch\": \"" arch "\"}"

/* Path of a file with the spec for sm_89. */
const char *tuned_spec_file(void);

/* Fails the test unless `xq gen --print-spec` prints this part for that spec. */
void tuned_gen_prints(const char *part);

/* The warnings of contexts that tuned_context opened. */
extern char tuned_log[4096];

/* A context on the software device as an RTX 4090; `templates` may be NULL. */
xq_context *tuned_context(const char *templates);

/* A plan for sequences of up to `tokens` tokens. */
xq_plan *tuned_plan(xq_context *context, const char *spec_json, int64_t tokens);

#endif
