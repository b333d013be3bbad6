/* The table of everything that a verification varies: axes (method, bits, RoPE, …) and the values of each
 * axis. A spec is a choice of one value for each axis. A seed gives a fixed sequence of choices. A first
 * part of the sequence has every value, and every pair of values of axes that interact; rounds with other
 * random numbers follow. */
#ifndef AUTOTUNE_VERIFY_AXES_H
#define AUTOTUNE_VERIFY_AXES_H

#include "../../runtime/base/random.h"

#include <stdbool.h>

enum verify_axis {
    AXIS_METHOD,
    AXIS_BITS,
    AXIS_GROUPS_OF, /* a group is tokens or channels */
    AXIS_ZERO_POINT,
    AXIS_WEIGHTS,
    AXIS_DTYPE,
    AXIS_QUERIES,
    AXIS_SCHEDULE, /* the kernels' parameters: those of the spec, or drawn from all that are valid */
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
    AXIS_SIZE, /* size of activations; weights are smaller or larger by the same factor */
    VERIFY_AXES
};

#define VERIFY_MAX_VALUES 20

/* How far an axis interacts. The choices cover all pairs of values of two CORE axes, and all pairs of a
 * value of a FEATURE axis with a value of the axis of queries, which is both. */
enum { VERIFY_CORE = 1, VERIFY_FEATURE = 2 };

typedef struct verify_choice {
    int value[VERIFY_AXES];
} verify_choice;

const char *verify_axis_name(enum verify_axis axis);
int verify_axis_values(enum verify_axis axis);

int verify_axis_interacts(enum verify_axis axis);

/* The value's name as shown to people, e.g. "4" for the axis "bits". */
const char *verify_value_name(enum verify_axis axis, int value);

/* The members that a value adds to a section of the spec, as JSON ("" where it adds none). */
enum verify_section { SECTION_MODEL, SECTION_CACHE, SECTION_TOP };
const char *verify_value_json(enum verify_axis axis, int value, enum verify_section section);

/* A value's numbers. AXIS_HEADS has two: query heads (which: 0) and KV heads (1). AXIS_LATENTS has two:
 * latents of keys and of values (0: one for each KV head). Other axes have at most one. */
int verify_value_number(enum verify_axis axis, int value, int which);

/* Whether the axis has a meaning beside the choice's other values: e.g. only method `latent` has groups of
 * latents. */
bool verify_axis_applies(enum verify_axis axis, const verify_choice *choice);

/* Compares a chosen value by name; false for a name that the axis lacks. */
bool verify_chosen(const verify_choice *choice, enum verify_axis axis, const char *name);

/* The sequence of a seed's choices. verify_sequence_create returns NULL when memory runs out. */
typedef struct verify_sequence verify_sequence;
verify_sequence *verify_sequence_create(uint64_t seed);
void verify_sequence_destroy(verify_sequence *sequence);

/* Choice `index` of the sequence. It does not depend on earlier calls, and takes no longer for a large
 * index. */
verify_choice verify_sequence_at(verify_sequence *sequence, int64_t index);

/* The number of choices, from the first on, that cover every value and every pair that counts. */
int64_t verify_sequence_cover(verify_sequence *sequence);

#endif
