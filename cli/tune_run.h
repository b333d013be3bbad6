/* A run of xq tune: its options, its jobs, and their results. The command is tune.c; tune_jobs.c makes the
 * jobs, tune_search.c runs them, and tune_print.c reports them. */
#ifndef CLI_TUNE_RUN_H
#define CLI_TUNE_RUN_H

#include "../autotune/search/search.h"
#include "tune_store.h"

/* A candidate of a job, and its last trial. */
struct candidate {
    char *parameters;
    const cJSON *stated; /* its object in the space */
    bool tried;
    bool may_be_stored;      /* a brief trial came from the store, which may have a full one too */
    struct tune_trial trial; /* the last trial */
};

/* A job with its outcome. */
struct tuned {
    struct tune_job job;
    const char *model;     /* name of the model, where there are several; else NULL */
    int bits;              /* 0: the bits of the spec */
    cJSON *space, *likely; /* `likely` is for a dry run */
    struct candidate *candidates;
    int count, standard, stored; /* number of candidates; index of the default; number of trials from the
                                    store */
    double limit;                /* seconds: the limit of a step, from a trial of this run; 0: none */
    bool done, interrupted, confirmed; /* confirmed: the winner was right again after its measurements */
    char failed[200];                  /* why this job could not be done; "": it could, or the whole run
                                          failed */
    struct search_result result;
};

/* A model to tune for. */
struct tune_model {
    char *name; /* NULL: it is the only model */
    char *spec; /* its choices */
};

struct tuning {
    struct compare_options o;
    struct cli_list bits, families, contexts, batches, queries;
    const char *strategy_name, *budget, *store_path, *launch;
    enum search_strategy strategy;
    store *store; /* NULL: no store */
    const char *shard_text;
    int64_t most, shard, shards; /* shards 0: all candidates */
    bool dry_run;
    double budget_seconds, begun;
    struct tune_model *models;
    int model_count;
    gen *generator;
    struct compare_options *options; /* one for each job */
    struct tuned *jobs;
    int job_count, failures; /* failures: number of jobs that failed although others could be done */
    xq_device_info device;
    struct cli_progress progress;
    measure_noticed noticed;
};

/* Reads the settings, and makes a job for every model and every combination of the lists. Errors:
 * XQ_ERROR_ARGUMENT, those of cli_spec_json and gen_space. */
xq_status tune_read_settings(struct tuning *t, error *err);
xq_status tune_make_jobs(struct tuning *t, error *err);

/* Reads the candidates of a job from the JSON of gen_space. */
xq_status tune_read_space(struct tuned *job, const char *space, error *err);

/* Runs the jobs, until the budget ends or an interrupt comes. */
xq_status tune_run_jobs(struct tuning *t, error *err);
bool tune_is_interrupted(void);

/* "attend, 4 bits, 4096 tokens", with the model where there are several. */
void tune_print_job(const struct tuned *job);
void tune_print_results(const struct tuning *t);
xq_status tune_write_json(const struct tuning *t, error *err);

void tune_release(struct tuning *t);

#endif
