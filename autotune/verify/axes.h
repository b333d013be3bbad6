/* What a verification may vary, as one table: axes (method, bits, RoPE, …) and the values of each. A spec
 * is a choice of one value an axis. Choices come in a fixed sequence for a seed, such that a prefix of it
 * has every value, and every pair of values of axes that interact; rounds with other random numbers follow.
 */
#ifndef AUTOTUNE_VERIFY_AXES_H
#define AUTOTUNE_VERIFY_AXES_H

#include "../../runtime/base/random.h"

#include <stdbool.h>

enum verify_axis {
    AXIS_METHOD,
    AXIS_BITS,
    AXIS_GROUPS_OF, /* tokens or channels */
    AXIS_ZERO_POINT,
    AXIS_WEIGHTS,
    AXIS_DTYPE,
    AXIS_QUERIES,
    AXIS_ROPE,
    AXIS_HEAD_DIM,
    AXIS_BIAS,
    AXIS_NORM,
    AXIS_SOFTCAP,
    AXIS_WINDOW,
    AXIS_SINKS,
    AXIS_SCALE,
    AXIS_HEADS,
    AXIS_ACCUMULATOR,
    AXIS_GROUP,
    AXIS_PAGE,
    AXIS_RANKS,
    AXIS_LATENTS,
    AXIS_CLIP,
    AXIS_FEEDBACK,
    AXIS_SIZE, /* of activations; weights are as much smaller or larger */
    VERIFY_AXES
};

#define VERIFY_MAX_VALUES 20

/* How far an axis interacts: pairs of values of two CORE axes are covered, and of a FEATURE and of the
 * queries, which are both. */
enum { VERIFY_CORE = 1, VERIFY_FEATURE = 2 };

typedef struct verify_choice {
    int value[VERIFY_AXES];
} verify_choice;

const char *verify_axis_name(enum verify_axis axis);
int verify_axis_values(enum verify_axis axis);

int verify_axis_interacts(enum verify_axis axis);

/* As shown to people, e.g. "4" of "bits". */
const char *verify_value_name(enum verify_axis axis, int value);

/* What it puts into the spec: members of an object ("" where there is none), and into which of them. */
enum verify_section { SECTION_MODEL, SECTION_CACHE, SECTION_TOP };
const char *verify_value_json(enum verify_axis axis, int value, enum verify_section section);

/* The value's numbers: heads, and KV heads; latents of keys, and of values (0: one of each KV head). Other
 * axes have one. */
int verify_value_number(enum verify_axis axis, int value, int which);

/* Whether a choice's other values leave the axis a meaning: only `latent` has groups of latents. */
bool verify_axis_applies(enum verify_axis axis, const verify_choice *choice);

/* Values by name, for conditions; false for a name that the axis lacks. */
bool verify_chosen(const verify_choice *choice, enum verify_axis axis, const char *name);

/* The choices of a seed, one after the other. NULL when memory runs out. */
typedef struct verify_sequence verify_sequence;
verify_sequence *verify_sequence_create(uint64_t seed);
void verify_sequence_destroy(verify_sequence *sequence);

/* Choice `index`: the same for a seed whatever was asked before. It takes no longer for a large index. */
verify_choice verify_sequence_at(verify_sequence *sequence, int64_t index);

/* How many choices have seen every value and every pair that counts. */
int64_t verify_sequence_cover(verify_sequence *sequence);

#endif
