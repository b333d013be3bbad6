/* The store of measurements: questions that were put to a device, and their answers, in one SQLite file
 * that several processes may use at once (docs/tuning.md).
 *
 * A question names a device, a spec, a kernel family, the sizes of a call, and the kernel's parameters. Its
 * answer is the kernel's time, or the reason why there is none. A store holds at most one answer to each
 * question. When a call returns XQ_OK, its result is on disk: neither a killed process nor a power cut
 * loses it.
 *
 * The texts of a question must be printable, not empty, and at most STORE_TEXT bytes long. `spec` and
 * `parameters` are JSON objects of any length. Two objects are the same if they differ only in white space,
 * in the order of their members, or in how they write numbers. A bad argument gives XQ_ERROR_ARGUMENT with
 * the field's name.
 *
 * Calls fail with XQ_ERROR_IO where the file cannot be read or written, or where another process keeps it
 * locked for more than STORE_PATIENCE seconds; and with XQ_ERROR_FORMAT where the file is no store, is
 * damaged, or has a newer version.
 *
 * One thread at a time may use a handle. A process that was forked while any store was open can use no
 * store (XQ_ERROR_ARGUMENT) until it calls exec: fork first, and open stores afterwards. */
#ifndef AUTOTUNE_SEARCH_STORE_H
#define AUTOTUNE_SEARCH_STORE_H

#include "../../runtime/base/error.h"

#include <stdbool.h>
#include <stdint.h>

typedef struct store store;

enum { STORE_TEXT = 255, STORE_PATIENCE = 10 };

/* ---------------------------------------------------------------- questions */

/* Two devices are the same if all members are equal: a new driver or a new NVRTC may change times. */
typedef struct store_device {
    const char *name, *arch; /* "NVIDIA H100 ...", "sm_90" */
    int capability;          /* 10 * major + minor */
    int multiprocessors;
    int64_t memory_bytes;
    bool is_sim;    /* the software device: times are modelled */
    int driver;     /* 1000 * major + 10 * minor of the driver; 0 for the software device */
    int nvrtc;      /* NVRTC's version, encoded in the same way */
    const char *xq; /* version of xq */
} store_device;

typedef struct store_bucket {
    int64_t tokens; /* context tokens of each sequence */
    int batch;      /* sequences */
    int queries;    /* queries of each sequence */
} store_bucket;

typedef struct store_mode {
    bool cold_l2;  /* L2 holds nothing that the kernel reads */
    bool in_graph; /* launched as part of a captured graph */
} store_mode;

typedef struct store_question {
    store_device device;
    const char *spec; /* a spec's choices, without its member "tuning" */
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
    STORE_WRONG, /* the kernel ran, and its results failed verification */
    STORE_NOT_COMPILED,
    STORE_HUNG,
    STORE_CRASHED,
    STORE_REFUSED, /* the device refused the kernel before it ran */
    STORE_OUTCOMES
} store_outcome;

/* The names of outcomes in the file: "measured", "wrong", "not compiled", "hung", "crashed", "refused". */
extern const char *const store_outcome_names[STORE_OUTCOMES];

typedef struct store_answer {
    store_outcome outcome;
    double seconds;    /* STORE_MEASURED: the median of the repeats; others: 0 */
    double spread;     /* STORE_MEASURED: seconds between the quartiles of the repeats; others: 0 */
    int repeats;       /* STORE_MEASURED: at least 1; others: 0 */
    int64_t taken;     /* when the answer was taken: Unix time, in seconds */
    char reason[1024]; /* STORE_MEASURED: ""; others: why, stored as one printable line */
} store_answer;

typedef struct store_row {
    store_question question;
    store_answer answer;
} store_row;

/* ----------------------------------------------------------------- lifetime */

typedef enum store_access {
    STORE_READ,  /* changes no byte of the file, which may be in a folder that cannot be written */
    STORE_WRITE, /* the file's folder must be writable too */
    STORE_CREATE /* like STORE_WRITE; a path that does not exist becomes an empty store */
} store_access;

/* Checks the whole file. A file that is refused stays as it is, and nothing is created beside it. */
xq_status store_open(const char *path, store_access access, store **out, error *err);

/* `s` may be NULL, or a handle that was opened before this process was forked. */
void store_close(store *s);

/* -------------------------------------------------------------- reading, writing */

/* Adds an answer, in one transaction. If the store already has an answer to the same question, the better
 * one is kept. The answer of a kernel that ran to its end (STORE_MEASURED, STORE_WRONG) is better than the
 * answer of a kernel that did not; among equals the one that was taken last is better. *kept, unless NULL,
 * says whether the store now holds the new answer. */
xq_status store_add(store *s, const store_row *row, bool *kept, error *err);

/* *found says whether the question has an answer; *out is filled only then. */
xq_status store_find(store *s, const store_question *question, store_answer *out, bool *found, error *err);

/* Selects the rows that equal every member that is given. A member that is NULL allows any value. */
typedef struct store_filter {
    const store_device *device;
    const char *spec, *family, *source, *parameters;
    const xq_implementation *implementation;
    const store_bucket *bucket;
    const store_mode *mode;
    const store_outcome *outcome;
} store_filter;

/* Receives one row, whose texts are valid during the call only. A failure ends the listing and becomes its
 * result. The store cannot be used during the call (XQ_ERROR_ARGUMENT). */
typedef xq_status store_visit(void *user, const store_row *row, error *err);

/* Visits the rows that the filter selects (NULL: all), sorted by question, so that stores with equal
 * contents are listed alike. The listing shows the store at one moment, whatever other processes add
 * meanwhile. */
xq_status store_list(store *s, const store_filter *filter, store_visit *visit, void *user, error *err);

/* Visits only the fastest of the measured rows that differ in nothing but parameters. Among equally fast
 * rows it takes the one with the least spread, then the first by parameters. A filter that names one
 * device, implementation, source and mode gives one row for each spec, family and bucket. A filter whose
 * `outcome` is not STORE_MEASURED is refused. */
xq_status store_best(store *s, const store_filter *filter, store_visit *visit, void *user, error *err);

/* ----------------------------------------------------------------- ceilings */

/* The best rates of a device, to which its times are compared. */
typedef struct store_ceilings {
    double copy_bytes_per_second, f16_flops_per_second; /* > 0 */
    char origin[STORE_TEXT + 1];                        /* source of the rates, for people */
    int64_t taken;                                      /* when they were taken: Unix time, in seconds */
} store_ceilings;

/* A store keeps only the latest ceilings of each device. */
xq_status store_add_ceilings(store *s, const store_device *device, const store_ceilings *ceilings,
                             error *err);
xq_status store_find_ceilings(store *s, const store_device *device, store_ceilings *out, bool *found,
                              error *err);

/* ------------------------------------------------------------------ merging */

typedef struct store_merged {
    int64_t read; /* rows of the inputs */
    int64_t kept; /* rows that were better than the output's own at that point */
} store_merged;

/* Merges the rows and ceilings of several stores into one, by the rules of store_add and
 * store_add_ceilings; among equally good answers the later input's is taken. The output appears with all
 * rows or not at all. If the output is a store already, its rows take part, and it changes in one
 * transaction. Any other existing file is refused as output, and so is an output that is also an input, or
 * an input given twice. *out may be NULL. */
xq_status store_merge(const char *const *inputs, int count, const char *output, store_merged *out,
                      error *err);

#endif
