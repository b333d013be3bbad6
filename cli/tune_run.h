/* A run of xq tune: what it is asked for, its jobs, and what became of them. The command is tune.c; jobs
 * come from tune_jobs.c, are done in tune_search.c, and are told of by tune_print.c. */
#ifndef CLI_TUNE_RUN_H
#define CLI_TUNE_RUN_H

#include "../autotune/search/search.h"
#include "tune_store.h"

/* A candidate of a job, and what became of it. */
struct candidate {
    char *parameters;
    const cJSON *stated; /* as the space has it */
    bool tried;
    bool may_be_stored;      /* a brief trial was taken from the store, which may have a full one too */
    struct tune_trial trial; /* the last */
};

/* A job with its outcome. */
struct tuned {
    struct tune_job job;
    const char *model;     /* its name, where there are several; else NULL */
    int bits;              /* 0: as the spec says */
    cJSON *space, *likely; /* likely: in a dry run */
    struct candidate *candidates;
    int count, standard, stored; /* candidates; the default's place; how many trials the store had */
    double limit;                /* seconds, of a step, as a trial of this run said; 0: there was none */
    bool done, interrupted, confirmed; /* confirmed: the winner was right again after its measurements */
    char failed[200];                  /* why it could not be done, where other jobs can; else "" */
    struct search_result result;
};

/* A model to tune for. */
struct tune_model {
    char *name; /* NULL: the only one */
    char *spec; /* its choices */
};

struct tuning {
    struct compare_options o;
    struct cli_list bits, families, contexts, batches, queries;
    const char *strategy_name, *budget, *store_path, *launch;
    enum search_strategy strategy;
    store *store; /* NULL: none */
    const char *shard_text;
    int64_t most, shard, shards; /* shards 0: all candidates */
    bool dry_run;
    double budget_seconds, begun;
    struct tune_model *models;
    int model_count;
    gen *generator;
    struct compare_options *options; /* of each job */
    struct tuned *jobs;
    int job_count, failures; /* of jobs, where others could be done */
    xq_device_info device;
    struct cli_progress progress;
    measure_noticed noticed;
};

/* Reads the settings, and makes the jobs: for every model, and every combination of the lists. Errors:
 * XQ_ERROR_ARGUMENT, those of cli_spec_json and gen_space. */
xq_status tune_read_settings(struct tuning *t, error *err);
xq_status tune_make_jobs(struct tuning *t, error *err);

/* Takes over what gen_space lists of a job's candidates. */
xq_status tune_read_space(struct tuned *job, const char *space, error *err);

/* Does the jobs, until the budget ends or an interrupt comes. */
xq_status tune_run_jobs(struct tuning *t, error *err);
bool tune_is_interrupted(void);

/* "attend, 4 bits, 4096 tokens", with the model where there are several. */
void tune_print_job(const struct tuned *job);
void tune_print_results(const struct tuning *t);
xq_status tune_write_json(const struct tuning *t, error *err);

void tune_release(struct tuning *t);

#endif
