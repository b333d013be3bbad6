/* The combined results of all cases of xq verify. */
#ifndef CLI_VERIFY_H
#define CLI_VERIFY_H

#include "../autotune/verify/verify.h"
#include "cli.h"

enum { VERIFY_MAX_NAMES = 160 };

/* How often each name was seen. */
struct verify_tally {
    struct {
        char name[200];
        int64_t passed[VERIFY_IMPLEMENTATIONS], unsupported[VERIFY_IMPLEMENTATIONS];
    } rows[VERIFY_MAX_NAMES];
    int count;
};

struct verify_summary {
    int64_t cases, failed, unsupported; /* unsupported: cases that no implementation serves */
    int64_t passed[VERIFY_IMPLEMENTATIONS], failures[VERIFY_IMPLEMENTATIONS],
        refusals[VERIFY_IMPLEMENTATIONS];
    double out[VERIFY_IMPLEMENTATIONS], lse[VERIFY_IMPLEMENTATIONS]; /* largest errors, relative to their
                                                                        bound */
    double append, kv;
    int64_t mismatches, kv_mismatches, refused_arguments;
    struct verify_tally features; /* "bits 3", "rope yarn", … */
    struct verify_tally reasons;  /* why something is not supported */
    double seconds;
};

void verify_summary_add(struct verify_summary *s, verifier *v, int64_t index, const verify_result *result);
void verify_summary_print(const struct verify_summary *s, const xq_device_info *info);
cJSON *verify_summary_json(const struct verify_summary *s, const xq_device_info *info, int64_t seed);

#endif
