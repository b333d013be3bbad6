/* The parts of xq tune: the command (tune.c), a bench on which candidates are tried (tune_bench.c), and the
 * worker, a process of its own for a bench (tune_worker.c). */
#ifndef CLI_TUNE_H
#define CLI_TUNE_H

#include "../autotune/measure/noticed.h"
#include "compare.h"

/* A kernel family for one spec, and the size of attention calls. */
struct tune_job {
    const struct compare_options *options; /* tokens, batch, queries, spec options and common options */
    const char *spec;                      /* its choices, with the bits of this job */
    const char *family;
    xq_implementation implementation; /* the implementation whose step runs the family */
    const char *launch;               /* --launch: "graph" or "stream"; NULL: not given */
};

/* Whether steps are timed within a graph. On a GPU they are, unless --launch says otherwise. */
bool tune_in_graph(const struct tune_job *job, bool is_sim);

/* Whether a step of attention runs this family, and the implementation whose step does. */
bool tune_family(const char *name, xq_implementation *implementation);

/* Whether the measured step appends the newest token of each sequence, instead of attending. */
bool tune_appends(const char *family);

/* The names of these families, for messages. */
extern const char tune_families[];

/* The families that a step of an implementation may run, numbered from 0; NULL after the last. */
const char *tune_family_of_step(xq_implementation implementation, int number);

/* ------------------------------------------------------------------- bench */

enum tune_outcome {
    TUNE_MEASURED,
    TUNE_WRONG,   /* it ran, but its results differ from the reference */
    TUNE_REFUSED, /* by the compiler, or by the device before it ran */
    TUNE_CRASHED, /* it broke the device, or ended its process */
    TUNE_HUNG
};
extern const char *const tune_outcome_names[];

struct tune_trial {
    enum tune_outcome outcome;
    bool modelled;
    int repeats;              /* 1 where modelled */
    double median, low, high; /* seconds of a step, and their quartiles; all the same where modelled */
    double limit;      /* the least time, in seconds, that the device's ceilings allow for this cache */
    ceilings ceilings; /* of the device; `source` is the same static text in every process */
    double waited;     /* seconds spent waiting for measurements of other processes */
    measure_noticed noticed; /* since the bench was opened */
    double error, lse_error; /* against double precision on the same cache; NAN where it did not run */
    char reason[400];        /* why it was not measured; "" where it was */
};

/* A layer with its cache on a device, and its reference. */
struct tune_bench;

/* Draws a layer's inputs, opens the device, and lists the candidates (gen_space; caller frees *space).
 * Nothing is cached yet: the first trial fills the cache. `watch` is used for all measurements, and must
 * outlive the bench. Errors: those of a context, of gen_space, and of compare_input_open. */
xq_status tune_bench_open(const struct tune_job *job, struct measure_watch *watch, struct tune_bench **out,
                          xq_device_info *device, char **space, error *err);

/* Compiles the family with these parameters (a JSON object), attends, compares with the reference, and
 * times the step; `brief`: with few repeats. A candidate that is faster than all earlier ones also attends
 * over a few random shapes (tune_shapes.h). */
void tune_bench_try(struct tune_bench *bench, const char *parameters, bool brief, struct tune_trial *out);
/* Tries a candidate again before it wins, with all repeats. After its measurements it attends again over
 * every cache that took part (compare_repeat), and over the random shapes, whatever its time. */
void tune_bench_confirm(struct tune_bench *bench, const char *parameters, struct tune_trial *out);
/* Begins to compile a candidate that will be tried soon, while others are measured. */
void tune_bench_expect(struct tune_bench *bench, const char *parameters);
void tune_bench_close(struct tune_bench *bench);

/* ------------------------------------------------------------------ worker */

/* A bench in a process of its own. A candidate that hangs, faults or exits costs only this process. */
struct tune_worker;

/* Starts the process, and waits for at most `seconds` until its bench is set up. *device and *space are the
 * results of tune_bench_open; caller frees *space. `stop` may be NULL; the wait ends when it returns true.
 * Errors: those of tune_bench_open; field "budget" where the time did not suffice; XQ_ERROR_DEVICE where
 * `stop` returned true; XQ_ERROR_INTERNAL where no process can be made. */
xq_status tune_worker_start(const struct tune_job *job, double seconds, bool (*stop)(void),
                            struct tune_worker **out, xq_device_info *device, char **space, error *err);

/* How long a trial may take, in seconds: without and with the time that it waits for measurements of other
 * processes. */
struct tune_limit {
    double own, whole;
};

/* Calls tune_bench_try in the worker, within the limit. After TUNE_CRASHED and TUNE_HUNG the process is
 * gone, and the next trial starts another one. `stop` is called while waiting; when it returns true the
 * process is ended, and the result is false. Errors of starting another process: those of
 * tune_worker_start. */
bool tune_worker_try(struct tune_worker *worker, const char *parameters, bool brief,
                     const struct tune_limit *limit, bool (*stop)(void), struct tune_trial *out,
                     error *err);

/* Calls tune_bench_confirm in the same way. */
bool tune_worker_confirm(struct tune_worker *worker, const char *parameters, const struct tune_limit *limit,
                         bool (*stop)(void), struct tune_trial *out, error *err);

/* Calls tune_bench_expect; does nothing where there is no process. */
void tune_worker_expect(struct tune_worker *worker, const char *parameters);

/* `worker` may be NULL. */
void tune_worker_end(struct tune_worker *worker);

#endif
