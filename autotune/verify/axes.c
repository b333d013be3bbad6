/* Determines which choices are made, and in what order. */
#include "axes.h"

#include <stdlib.h>
#include <string.h>

static int interacts(int axis)
{
    return verify_axis_interacts((enum verify_axis)axis);
}

/* ---------------------------------------------------------------- compatible values */

static bool is_cross_layer(const verify_choice *c)
{
    return verify_chosen(c, AXIS_METHOD, "x-cl") || verify_chosen(c, AXIS_METHOD, "latent-cl");
}

bool verify_axis_applies(enum verify_axis axis, const verify_choice *choice)
{
    switch (axis) {
    case AXIS_ACCUMULATOR:
        return is_cross_layer(choice);
    case AXIS_RANKS:
        return verify_chosen(choice, AXIS_METHOD, "latent") ||
               verify_chosen(choice, AXIS_METHOD, "latent-cl");
    case AXIS_LATENTS:
        return verify_chosen(choice, AXIS_METHOD, "latent");
    case AXIS_FEEDBACK:
        return (verify_chosen(choice, AXIS_METHOD, "latent") ||
                verify_chosen(choice, AXIS_METHOD, "x-rotated")) &&
               verify_chosen(choice, AXIS_GROUPS_OF, "token") && !verify_chosen(choice, AXIS_GROUP, "row");
    default:
        return true;
    }
}

static int number(const verify_choice *c, enum verify_axis axis, int which)
{
    return verify_value_number(axis, c->value[axis], which);
}

/* Whether a choice's values go together. It excludes values that a spec would refuse together, or that
 * would be slow without showing more. */
static bool goes_together(const verify_choice *c)
{
    int group = number(c, AXIS_GROUP, 0), page = number(c, AXIS_PAGE, 0);
    int kv_heads = number(c, AXIS_HEADS, 1), kv_width = kv_heads * number(c, AXIS_HEAD_DIM, 0);
    if (!verify_chosen(c, AXIS_GROUPS_OF, "token") && (group == 0 || (page % group && group % page)))
        return false; /* groups of tokens: a page must be a multiple or a divisor of a group */
    if (verify_chosen(c, AXIS_GROUPS_OF, "both-channel") && !verify_chosen(c, AXIS_METHOD, "latent"))
        return false;
    for (int which = 0; which < 2 && verify_axis_applies(AXIS_LATENTS, c); which++) {
        int latents = number(c, AXIS_LATENTS, which);
        if (latents == 0 ? kv_heads < 2 : kv_heads % latents)
            return false;
    }
    return kv_width <= 2048 && number(c, AXIS_HEADS, 0) * number(c, AXIS_HEAD_DIM, 0) <= 16384;
}

static verify_choice draw(random_stream *r)
{
    verify_choice c;
    do {
        for (int a = 0; a < VERIFY_AXES;
             a++) /* features are rare, so that the other values are also seen without them */
            c.value[a] = (interacts(a) == VERIFY_FEATURE || a == AXIS_SIZE) && random_between(r, 0, 1)
                             ? 0
                             : random_between(r, 0, verify_axis_values((enum verify_axis)a) - 1);
    } while (!goes_together(&c));
    return c;
}

/* ---------------------------------------------------------------- covering */

typedef struct cover {
    bool single[VERIFY_AXES][VERIFY_MAX_VALUES];
    bool pair[AXIS_HEADS][VERIFY_MAX_VALUES][AXIS_HEADS][VERIFY_MAX_VALUES];
} cover;

static bool counts(int a, int b)
{
    return a < b && ((interacts(a) & interacts(b) & VERIFY_CORE) ||
                     (interacts(a) == (VERIFY_CORE | VERIFY_FEATURE) && interacts(b) & VERIFY_FEATURE));
}

/* Returns the number of values and pairs of a choice that are new. With `mark`, marks them as seen. */
static int add(cover *seen, const verify_choice *c, bool mark)
{
    int new = 0;
    for (int a = 0; a < VERIFY_AXES; a++) {
        if (!verify_axis_applies((enum verify_axis)a, c))
            continue;
        bool *single = &seen->single[a][c->value[a]];
        new += !*single;
        *single = *single || mark;
        for (int b = a + 1; b < AXIS_HEADS; b++) {
            if (!counts(a, b))
                continue;
            bool *pair = &seen->pair[a][c->value[a]][b][c->value[b]];
            new += !*pair;
            *pair = *pair || mark;
        }
    }
    return new;
}

/* The choice with the most new values and pairs among a few random ones. */
static verify_choice next(random_stream *r, cover *seen, int *new)
{
    enum { CANDIDATES = 200 };
    verify_choice best = draw(r);
    *new = add(seen, &best, false);
    for (int i = 1; i < CANDIDATES; i++) {
        verify_choice c = draw(r);
        int gain = add(seen, &c, false);
        if (gain > *new) {
            best = c;
            *new = gain;
        }
    }
    add(seen, &best, true);
    return best;
}

/* ---------------------------------------------------------------- one value at a time */

static void set(verify_choice *c, enum verify_axis axis, const char *name)
{
    for (int value = 0; value < verify_axis_values(axis); value++)
        if (strcmp(verify_value_name(axis, value), name) == 0)
            c->value[axis] = value;
}

/* Whether the values of an axis are combined with the single values of other axes, in turn. Such an axis
 * needs no choices of its own, because a kernel supports all of its values anyway. */
static bool turns_by_itself(int axis)
{
    return axis == AXIS_HEADS || axis == AXIS_GROUP || axis == AXIS_PAGE;
}

/* A choice that is plain attention except for one value, so that a failing case shows which value is at
 * fault. Returns false if there are no more such choices. */
static bool single_choice(int64_t index, verify_choice *c)
{
    int64_t left = index;
    *c = (verify_choice){{0}};
    set(c, AXIS_METHOD, index % 2 ? "latent" : "x");
    set(c, AXIS_QUERIES, index / 3 % 3 == 2 ? "many" : "one"); /* both kinds, in turn */
    for (int axis = 0; axis < VERIFY_AXES; axis++) {
        int others = turns_by_itself(axis) ? 0 : verify_axis_values((enum verify_axis)axis) - 1;
        if (left >= others) {
            left -= others;
            continue;
        }
        if (axis == AXIS_ACCUMULATOR)
            set(c, AXIS_METHOD, left % 2 ? "x-cl" : "latent-cl");
        else if (axis == AXIS_RANKS || axis == AXIS_LATENTS || axis == AXIS_FEEDBACK)
            set(c, AXIS_METHOD, "latent");
        c->value[axis] = (int)left + 1;
        if (axis == AXIS_GROUPS_OF && verify_chosen(c, AXIS_GROUPS_OF, "both-channel"))
            set(c, AXIS_METHOD, "latent");
        int64_t turn = index;
        do {
            for (int a = 0; a < VERIFY_AXES; a++)
                if (turns_by_itself(a))
                    c->value[a] = (int)(turn % verify_axis_values((enum verify_axis)a));
            turn++;
        } while (!goes_together(c) || !verify_axis_applies((enum verify_axis)axis, c));
        return true;
    }
    return false;
}

/* ---------------------------------------------------------------- the sequence
 * The choices of the small tier come first: single ones, and then random ones until nothing new is left.
 * Rounds of ROUND choices follow. Each round has its own random numbers, and begins with nothing covered.
 * So computing a choice costs no more than its round, however large its index is. */

enum { ROUND = 64 };

struct verify_sequence {
    uint64_t seed;
    int64_t cover; /* number of choices in the small tier; 0 until known */
    int64_t first; /* index of the current round's first choice; 0: the small tier */
    int64_t index; /* index of `choice`; first - 1 before the round's first choice */
    random_stream r;
    cover seen;
    verify_choice choice;
};

static void begin_round(verify_sequence *s, int64_t first)
{
    static const cover nothing;
    s->first = first;
    s->index = first - 1;
    s->r = random_begin(s->seed, UINT64_MAX - (uint64_t)first);
    s->seen = nothing;
}

/* Makes the round's next choice, and returns how much of it is new. */
static int step(verify_sequence *s)
{
    int new = 1;
    s->index++;
    if (s->first == 0 && single_choice(s->index, &s->choice))
        add(&s->seen, &s->choice, true);
    else
        s->choice = next(&s->r, &s->seen, &new);
    return new;
}

verify_sequence *verify_sequence_create(uint64_t seed)
{
    verify_sequence *s = calloc(1, sizeof *s);
    if (s) {
        s->seed = seed;
        begin_round(s, 0);
    }
    return s;
}

void verify_sequence_destroy(verify_sequence *sequence)
{
    free(sequence);
}

int64_t verify_sequence_cover(verify_sequence *s)
{
    if (s->cover)
        return s->cover;
    begin_round(s, 0);
    while (step(s) > 0)
        continue;
    s->cover = s->index;
    begin_round(s, 0);
    return s->cover;
}

verify_choice verify_sequence_at(verify_sequence *s, int64_t index)
{
    int64_t small = verify_sequence_cover(s);
    int64_t first = index < small ? 0 : index - (index - small) % ROUND;
    if (first != s->first || index < s->index)
        begin_round(s, first);
    while (s->index < index)
        step(s);
    return s->choice;
}
