/* A survey of a store summarizes its answers, contest by contest. A contest holds all answers whose
 * questions differ in nothing but parameters. */
#ifndef AUTOTUNE_SEARCH_SURVEY_H
#define AUTOTUNE_SEARCH_SURVEY_H

#include "store.h"

/* --------------------------------------------------------------- contests */

typedef struct survey_answer {
    char *parameters; /* JSON in canonical form */
    store_outcome outcome;
    double seconds, spread; /* STORE_MEASURED; others: 0 */
    char *reason;           /* "" for STORE_MEASURED */
} survey_answer;

typedef struct survey_contest {
    int device, spec; /* indices into the survey's lists */
    xq_implementation implementation;
    char *family, *source;
    store_bucket bucket;
    store_mode mode;
    survey_answer *answers; /* sorted by parameters */
    int count, outcomes[STORE_OUTCOMES];
    int best; /* index of the measured answer with the least time; -1: nothing was measured */
} survey_contest;

/* The number of answers that hold for other sources of a family. */
typedef struct survey_other {
    xq_implementation implementation;
    char *source;
    int64_t answers;
} survey_other;

typedef struct survey {
    store_device *devices;    /* the survey owns their texts */
    store_ceilings *ceilings; /* [device_count]; `taken` is 0 where the store has none */
    char **specs;             /* the specs' choices, JSON in canonical form */
    survey_contest *contests;
    survey_other *others;
    int device_count, spec_count, contest_count, other_count;
    int64_t answers;     /* all answers of the store */
    int64_t other;       /* how many of `answers` hold for other sources */
    int64_t first, last; /* Unix time of the earliest and of the latest answer; 0 in an empty store */
} survey;

/* `sources` gives, for each implementation, the sources whose answers make contests; the other answers are
 * only counted. Release *out with survey_free, even after a failure. Errors: those of store_list. */
xq_status survey_make(store *s, const char *const sources[], survey *out, error *err);
void survey_free(survey *s);

/* Returns the answer for these parameters (JSON in canonical form), or NULL. */
const survey_answer *survey_find(const survey_contest *contest, const char *parameters);

/* Whether the first answer is faster than the second beyond the spread of both: their quartiles do not
 * overlap. */
bool survey_is_faster(const survey_answer *a, const survey_answer *b);

/* ------------------------------------------------------------- sensitivity */

typedef struct survey_value {
    char *text;          /* JSON */
    int measured, other; /* answers with this value that have a time, and that have none */
    double best;         /* the least time with this value, in seconds; 0 if there is none */
} survey_value;

typedef struct survey_parameter {
    char *name;
    survey_value *values; /* ascending */
    int count;
    /* Each value's best time leaves all other parameters free. The ratio divides the worst of these times
     * by the best: it is 1 where the parameter does not matter, and 0 where fewer than two values were
     * measured. */
    double ratio;
} survey_parameter;

/* Sorted by falling ratio, then by name. */
typedef struct survey_parameters {
    survey_parameter *items;
    int count;
} survey_parameters;

/* Release *out with survey_parameters_free, even after a failure. */
xq_status survey_parameters_make(const survey_contest *contest, survey_parameters *out, error *err);
void survey_parameters_free(survey_parameters *p);

/* ----------------------------------------------------------------- reasons */

/* A reason why answers have no time. It stands for the answers of one outcome whose reasons differ in
 * nothing but numbers. */
typedef struct survey_reason {
    store_outcome outcome;
    char *text; /* the reason, with # for each number that differs */
    int count;
    char *key;
} survey_reason;

/* Sorted by falling count, then by outcome and text. */
typedef struct survey_reasons {
    survey_reason *items;
    int count;
} survey_reasons;

/* Groups the reasons of `count` contests. Release *out with survey_reasons_free, even after a failure. */
xq_status survey_reasons_make(const survey_contest *contests, int count, survey_reasons *out, error *err);
void survey_reasons_free(survey_reasons *r);

/* ------------------------------------------------------------------- pairs */

/* The times of one choice of parameters on a software device and on a GPU of the same compute
 * capability. */
typedef struct survey_pair {
    double modelled, measured; /* seconds */
} survey_pair;

/* The same contest on a software device and on a GPU. */
typedef struct survey_match {
    int modelled, measured; /* indices of the two contests */
    survey_pair *pairs;
    int count;    /* at least 1 */
    double ratio; /* the median of measured over modelled */
    double rank;  /* Spearman's rank correlation: 1 where both order the choices alike; NAN where it is
                     undefined, with fewer than three pairs, or where all times of a device are equal */
} survey_match;

typedef struct survey_matches {
    survey_match *items;
    int count;
} survey_matches;

/* Release *out with survey_matches_free, even after a failure. */
xq_status survey_matches_make(const survey *s, survey_matches *out, error *err);
void survey_matches_free(survey_matches *m);

/* --------------------------------------------------------- shared by the above */

/* Returns room for one more element of `size` bytes in an array of `count`. When memory runs out, it
 * returns NULL, sets *err, and leaves the array as it was. */
void *survey_grow(void *array, int count, size_t size, error *err);
char *survey_copy(const char *text, error *err);

#endif
