/* The store of measurements: questions that were put to a device, each with its answer, in one SQLite file
 * that several processes may use at once (docs/tuning.md).
 *
 * A question names a device, a spec, a kernel family, sizes, and the parameters of the kernel; the answer
 * is the kernel's time, or why there is none. A store holds one answer to a question. A call that returns
 * XQ_OK has its result on disk: neither a killed process nor a power cut loses it.
 *
 * Texts of a question must be printable and not empty, of at most STORE_TEXT bytes; `spec` and `parameters`
 * are JSON objects of any length. Objects that differ only in white space, in the order of their members or
 * in how they write numbers are the same. Bad arguments: XQ_ERROR_ARGUMENT with the field's name.
 *
 * Files fail with XQ_ERROR_IO (it cannot be read or written, or another process keeps it locked for more
 * than STORE_PATIENCE seconds) or XQ_ERROR_FORMAT (it is no store, damaged, or of a newer version).
 *
 * A handle is used by one thread at a time. A process that is forked while any store is open can use none
 * (XQ_ERROR_ARGUMENT) until it calls exec: fork first, and open stores afterwards. */
#ifndef AUTOTUNE_SEARCH_STORE_H
#define AUTOTUNE_SEARCH_STORE_H

#include "../../runtime/base/error.h"

#include <stdbool.h>
#include <stdint.h>

typedef struct store store;

enum { STORE_TEXT = 255, STORE_PATIENCE = 10 };

/* ---------------------------------------------------------------- questions */

/* Two devices are the same if all of this is: a new driver or a new NVRTC may change times. */
typedef struct store_device {
    const char *name, *arch; /* "NVIDIA H100 ...", "sm_90" */
    int capability;          /* 10 * major + minor */
    int multiprocessors;
    int64_t memory_bytes;
    bool is_sim;    /* the software device: times are modelled */
    int driver;     /* 1000 * major + 10 * minor; 0 for the software device */
    int nvrtc;      /* likewise */
    const char *xq; /* version */
} store_device;

typedef struct store_bucket {
    int64_t tokens; /* of context, of each sequence */
    int batch;      /* sequences */
    int queries;    /* of each sequence */
} store_bucket;

typedef struct store_mode {
    bool cold_l2;  /* L2 holds nothing of what the kernel reads */
    bool in_graph; /* launched as part of a captured graph */
} store_mode;

typedef struct store_question {
    store_device device;
    const char *spec; /* the choices of a spec, without its member "tuning" */
    xq_implementation implementation;
    const char *family;
    store_bucket bucket;
    const char *source; /* hash of the family's sources */
    store_mode mode;
    const char *parameters; /* {"warps": 4, ...} */
} store_question;

/* ------------------------------------------------------------------ answers */

typedef enum store_outcome {
    STORE_MEASURED,
    STORE_WRONG, /* it ran, and its results failed verification */
    STORE_NOT_COMPILED,
    STORE_HUNG,
    STORE_CRASHED,
    STORE_REFUSED, /* by the device, before it ran */
    STORE_OUTCOMES
} store_outcome;

/* The names that the file uses: "measured", "wrong", "not compiled", "hung", "crashed", "refused". */
extern const char *const store_outcome_names[STORE_OUTCOMES];

typedef struct store_answer {
    store_outcome outcome;
    double seconds;    /* measured: the median of the repeats; others: 0 */
    double spread;     /* measured: seconds between their quartiles; others: 0 */
    int repeats;       /* measured: at least 1; others: 0 */
    int64_t taken;     /* Unix time, in seconds */
    char reason[1024]; /* measured: ""; others: why, which is stored as one printable line */
} store_answer;

typedef struct store_row {
    store_question question;
    store_answer answer;
} store_row;

/* ----------------------------------------------------------------- lifetime */

typedef enum store_access {
    STORE_READ,  /* changes no byte of the file, which may lie where nothing can be written */
    STORE_WRITE, /* its folder must be writable too */
    STORE_CREATE /* the same; a path that does not exist becomes an empty store */
} store_access;

/* Checks the whole file. One that is refused stays as it is, and nothing is created beside it. */
xq_status store_open(const char *path, store_access access, store **out, error *err);

/* NULL is fine, and so is a handle that was opened before this process was forked. */
void store_close(store *s);

/* -------------------------------------------------------------- reading, writing */

/* Adds an answer, in one transaction. An answer that the store has to the same question is replaced unless
 * it is the better one: one of a kernel that ran to its end (STORE_MEASURED, STORE_WRONG) is better than
 * one of a kernel that did not, and among such the one that was taken last. *kept, unless NULL: whether the
 * store now holds this answer. */
xq_status store_add(store *s, const store_row *row, bool *kept, error *err);

/* *out is filled where the question has an answer. */
xq_status store_find(store *s, const store_question *question, store_answer *out, bool *found, error *err);

/* Selects the rows that equal every member given. A member that is NULL selects any value. */
typedef struct store_filter {
    const store_device *device;
    const char *spec, *family, *source, *parameters;
    const xq_implementation *implementation;
    const store_bucket *bucket;
    const store_mode *mode;
    const store_outcome *outcome;
} store_filter;

/* Takes one row, whose texts are valid during the call. A failure ends the listing, and is its result. The
 * store cannot be used meanwhile (XQ_ERROR_ARGUMENT). */
typedef xq_status store_visit(void *user, const store_row *row, error *err);

/* Visits the rows of a filter (NULL: all), sorted by question, so that stores of equal contents are listed
 * alike. The rows are those of one moment, whatever other processes add meanwhile. */
xq_status store_list(store *s, const store_filter *filter, store_visit *visit, void *user, error *err);

/* The same, but of the measured rows that differ in nothing but parameters only the fastest (among equals
 * the one with the least spread, then the first by parameters). That is one row for each spec, family and
 * bucket, where the filter names one device, implementation, source and mode. An `outcome` other than
 * STORE_MEASURED is refused. */
xq_status store_best(store *s, const store_filter *filter, store_visit *visit, void *user, error *err);

/* ----------------------------------------------------------------- ceilings */

/* The best rates of a device, against which its answers are held. */
typedef struct store_ceilings {
    double copy_bytes_per_second, f16_flops_per_second; /* > 0 */
    char origin[STORE_TEXT + 1];                        /* where they come from, for people */
    int64_t taken;                                      /* Unix time, in seconds */
} store_ceilings;

/* A store keeps the ceilings of a device that were taken last. */
xq_status store_add_ceilings(store *s, const store_device *device, const store_ceilings *ceilings,
                             error *err);
xq_status store_find_ceilings(store *s, const store_device *device, store_ceilings *out, bool *found,
                              error *err);

/* ------------------------------------------------------------------ merging */

typedef struct store_merged {
    int64_t read; /* rows of the inputs */
    int64_t kept; /* those that were better than what the output had until then */
} store_merged;

/* Puts the rows and ceilings of several stores into one, by the rules of store_add and store_add_ceilings;
 * among equally good answers that of the later input is taken. The output appears with all rows or not at
 * all. Where it is a store already, its rows stay and take part, and it changes in one transaction;
 * anything else that exists is refused, and so is an output that is an input, or an input given twice. *out
 * may be NULL. */
xq_status store_merge(const char *const *inputs, int count, const char *output, store_merged *out,
                      error *err);

#endif
