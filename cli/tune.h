/* xq tune in parts: the command (tune.c), a bench on which candidates are tried (tune_bench.c), and the
 * process of its own in which a bench stands (tune_worker.c). */
#ifndef CLI_TUNE_H
#define CLI_TUNE_H

#include "../autotune/measure/noticed.h"
#include "compare.h"

/* A kernel family for one spec, and how attention is called. */
struct tune_job {
    const struct compare_options *options; /* tokens, batch, queries, the spec's and the common options */
    const char *spec;                      /* choices, with the bits of this job */
    const char *family;
    xq_implementation implementation; /* whose step runs the family */
    const char *launch;               /* --launch: "graph" or "stream"; NULL: not given */
};

/* Whether steps are timed within a graph: those of a GPU, unless they shall not be. */
bool tune_in_graph(const struct tune_job *job, bool is_sim);

/* The families that a step of attention runs, and of which implementation; false for another. */
bool tune_family(const char *name, xq_implementation *implementation);

/* Whether what is measured of a family is appending the newest token of each sequence, not attending. */
bool tune_appends(const char *family);

/* The names of those families, for messages. */
extern const char tune_families[];

/* The families that a step of an implementation may run, numbered from 0; NULL behind the last. */
const char *tune_family_of_step(xq_implementation implementation, int number);

/* ------------------------------------------------------------------- bench */

enum tune_outcome {
    TUNE_MEASURED,
    TUNE_WRONG,   /* it ran, and its results are not those of the reference */
    TUNE_REFUSED, /* by the compiler, or by the device before it ran */
    TUNE_CRASHED, /* it took the device, or its process, along */
    TUNE_HUNG
};
extern const char *const tune_outcome_names[];

struct tune_trial {
    enum tune_outcome outcome;
    bool modelled;
    int repeats;              /* 1 where modelled */
    double median, low, high; /* seconds of a step, quartiles; modelled: all the same */
    double limit;             /* the least time that the device's ceilings allow for this cache */
    ceilings ceilings;        /* those; `source` is the same text in every process of this program */
    double waited;            /* seconds, for measurements of other processes */
    measure_noticed noticed;  /* since the bench was opened */
    double error, lse_error;  /* against double precision on the same cache; NAN where it did not run */
    char reason[400];         /* unless measured */
};

/* A layer with its cache on a device, and its reference. */
struct tune_bench;

/* Draws a layer's inputs, opens the device, and lists the candidates (gen_space; caller frees *space).
 * Nothing is cached yet: the first trial does that. `watch` goes around measurements, and outlives the
 * bench. Errors: those of a context, of gen_space, and of
 * compare_input_open. */
xq_status tune_bench_open(const struct tune_job *job, struct measure_watch *watch, struct tune_bench **out,
                          xq_device_info *device, char **space, error *err);

/* Compiles the family with these parameters (a JSON object), attends, compares with the reference, and
 * times; `brief`: with few repeats. One that is faster than all before it attends over a few random shapes
 * too (tune_shapes.h). */
void tune_bench_try(struct tune_bench *bench, const char *parameters, bool brief, struct tune_trial *out);
/* tune_bench_try once more for a candidate that shall win, with all repeats. When it was measured it
 * attends again over every cache that took part (compare_repeat), and over the random shapes, whatever its
 * time. */
void tune_bench_confirm(struct tune_bench *bench, const char *parameters, struct tune_trial *out);
/* Compiles a candidate that will be tried soon, while others are measured. */
void tune_bench_expect(struct tune_bench *bench, const char *parameters);
void tune_bench_close(struct tune_bench *bench);

/* ------------------------------------------------------------------ worker */

/* A bench in a process of its own: a candidate that hangs, faults or exits costs only that process. */
struct tune_worker;

/* Starts the process, and waits for at most `seconds` until its bench stands. *device and *space are what
 * the bench says; caller frees *space. `stop` may be NULL; where it says true, the wait is over. Errors:
 * those of tune_bench_open; field "budget" where the time did not suffice; XQ_ERROR_DEVICE where `stop`
 * said true; XQ_ERROR_INTERNAL where no process can be made. */
xq_status tune_worker_start(const struct tune_job *job, double seconds, bool (*stop)(void),
                            struct tune_worker **out, xq_device_info *device, char **space, error *err);

/* How long a trial may take, in seconds: itself, and with waiting for other processes' measurements. */
struct tune_limit {
    double own, whole;
};

/* tune_bench_try, within the limit. After TUNE_CRASHED and TUNE_HUNG the process is gone, and the next
 * trial starts another. `stop`: asked while waiting; where it says true the process is ended, and the
 * result is false. Errors of the next process: those of tune_worker_start. */
bool tune_worker_try(struct tune_worker *worker, const char *parameters, bool brief,
                     const struct tune_limit *limit, bool (*stop)(void), struct tune_trial *out,
                     error *err);

/* tune_bench_confirm, in the same way. */
bool tune_worker_confirm(struct tune_worker *worker, const char *parameters, const struct tune_limit *limit,
                         bool (*stop)(void), struct tune_trial *out, error *err);

/* tune_bench_expect; nothing where there is no process. */
void tune_worker_expect(struct tune_worker *worker, const char *parameters);

/* NULL is fine. */
void tune_worker_end(struct tune_worker *worker);

#endif
