/* Tiers, which say how much is verified, and the features of a case's spec. */
#include "verifier.h"

#include <stdio.h>
#include <string.h>

/* `specs` is the number of specs; 0: as many as cover every value and every pair of values that
 * interact. */
static const struct {
    const char *name;
    int64_t specs;
    int shapes; /* cases of each spec */
} tiers[] = {[VERIFY_SMALL] = {"small", 0, 1},
             [VERIFY_FULL] = {"full", 150, 3},
             [VERIFY_EXHAUSTIVE] = {"exhaustive", 1000, VERIFY_SPEC_CASES}};

xq_status verify_tier_named(const char *name, verify_tier *tier, error *err)
{
    for (size_t i = 0; i < sizeof tiers / sizeof tiers[0]; i++)
        if (strcmp(tiers[i].name, name) == 0) {
            *tier = (verify_tier)i;
            return XQ_OK;
        }
    return error_set(err, XQ_ERROR_ARGUMENT, "argument", "'%s' is no tier; valid: small, full, exhaustive",
                     name);
}

int64_t verifier_tier_cases(verifier *v, verify_tier tier)
{
    int64_t specs = tiers[tier].specs ? tiers[tier].specs : verify_sequence_cover(verifier_choices(v));
    return specs * tiers[tier].shapes;
}

int64_t verifier_tier_case(verify_tier tier, int64_t i)
{
    return i / tiers[tier].shapes * VERIFY_SPEC_CASES + i % tiers[tier].shapes;
}

void verifier_features(verifier *v, int64_t index, void (*visit)(void *user, const char *feature),
                       void *user)
{
    verify_choice c = verify_sequence_at(verifier_choices(v), index / VERIFY_SPEC_CASES);
    for (int a = 0; a < VERIFY_AXES; a++) {
        char text[64];
        enum verify_axis axis = (enum verify_axis)a;
        if (!verify_axis_applies(axis, &c))
            continue;
        snprintf(text, sizeof text, "%s %s", verify_axis_name(axis), verify_value_name(axis, c.value[a]));
        visit(user, text);
    }
}
