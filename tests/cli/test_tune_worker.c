/* Tests the process that xq tune measures in: candidates that take too long, and interrupts. */
#include "../../cli/tune.h"
#include "../support/fake_cuda.h"
#include "../support/files.h"
#include "../support/lock_files.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct compare_options options = {
    .tokens = 40, .batch = 1, .queries = 1, .base_layer = CLI_BASE_LAYER, .synthetic = true};
static struct tune_job job = {
    .options = &options,
    .spec =
        "{\"model\": {\"hidden_size\": 128, \"num_attention_heads\": 4, \"num_key_value_heads\": 2, "
        "\"head_dim\": 64}, \"cache\": {\"method\": \"latent\", \"bits\": 4, \"group\": 64, \"page\": 16}}",
    .family = "attend",
    .implementation = XQ_FUSED,
};
static const char parameters[] = "{\"warps\": 4, \"m_tiles\": 1, \"stages\": 2, \"stage_steps\": 2, "
                                 "\"split_tokens\": 64, \"query_rows\": 8, \"value_tiles\": 1}";

static struct tune_worker *start(const char *device)
{
    struct tune_worker *worker = NULL;
    xq_device_info info;
    char *space = NULL;
    error err = ERROR_INIT;
    options.common.device = device;
    cr_assert_eq(tune_worker_start(&job, 200, NULL, &worker, &info, &space, &err), XQ_OK, "%s",
                 err.message);
    cr_expect(strstr(space, "\"candidates\":["), "%s", space);
    cr_expect_eq(info.is_sim, 1);
    free(space);
    return worker;
}

static struct tune_trial try_for(struct tune_worker *worker, double seconds)
{
    struct tune_trial trial;
    error err = ERROR_INIT;
    const struct tune_limit limit = {seconds, seconds};
    cr_assert(tune_worker_try(worker, parameters, false, &limit, NULL, &trial, &err), "%s", err.message);
    return trial;
}

Test(tune_worker, a_candidate_that_takes_too_long_is_ended_and_the_next_one_measured, .timeout = 300)
{
    struct tune_worker *worker = start("sim");
    for (int round = 0; round < 2; round++) {
        const struct tune_trial late = try_for(worker, 0);
        cr_expect_eq(late.outcome, TUNE_HUNG);
        cr_expect_str_eq(late.reason, "there was no result within 0 s");
        const struct tune_trial good = try_for(worker, 200);
        cr_expect_eq(good.outcome, TUNE_MEASURED, "%s", good.reason);
        cr_expect_gt(good.median, 0);
        cr_expect_lt(good.error, 2e-3);
    }
    tune_worker_end(worker);
}

/* The file by which measurements on the fake GPU take turns, and the process that holds it; 0: nobody
 * does. */
static const char *lock;
static pid_t holder;

static bool let_go_once_waited_for(void)
{
    if (holder && lock_file_is_waited_for(lock)) {
        lock_file_release(holder);
        holder = 0;
    }
    return false;
}

static bool is_waited_for(void)
{
    return lock_file_is_waited_for(lock);
}

/* Kernels of the fake driver do nothing, so every candidate is wrong. But each candidate is timed first. */
Test(tune_worker, a_candidate_waits_for_the_measurement_of_another_process, .timeout = 300)
{
    struct tune_worker *worker = NULL;
    struct tune_trial trial;
    xq_device_info info;
    char *space = NULL;
    error err = ERROR_INIT;
    const struct tune_limit limit = {200, 200};
    fake_cuda_use();
    lock = lock_file_of(FAKE_CUDA_UUID);
    options.common.device = "cuda";
    holder = lock_file_hold(lock);
    cr_assert_eq(tune_worker_start(&job, 200, let_go_once_waited_for, &worker, &info, &space, &err), XQ_OK,
                 "%s", err.message);
    cr_expect_eq(holder, 0, "ceilings are measured in turn too");
    cr_assert(tune_worker_try(worker, parameters, false, &limit, NULL, &trial, &err));
    cr_expect_eq(trial.outcome, TUNE_WRONG, "%s", trial.reason);
    cr_expect_eq(trial.waited, 0);
    holder = lock_file_hold(lock);
    cr_assert(tune_worker_try(worker, parameters, false, &limit, let_go_once_waited_for, &trial, &err));
    cr_expect_eq(trial.outcome, TUNE_WRONG, "%s", trial.reason);
    cr_expect_gt(trial.waited, 0);
    cr_expect_str_empty(trial.noticed.unlocked);
    /* An interrupt ends the wait, and so does the end of the time for the trial as a whole. */
    holder = lock_file_hold(lock);
    cr_expect_not(tune_worker_try(worker, parameters, false, &limit, is_waited_for, &trial, &err));
    cr_expect_eq(err.status, XQ_OK);
    const struct tune_limit none = {200, 0};
    cr_expect(tune_worker_try(worker, parameters, false, &none, NULL, &trial, &err));
    cr_expect_eq(trial.outcome, TUNE_HUNG);
    lock_file_release(holder);
    tune_worker_end(worker);
    free(space);
}

Test(tune_worker, a_gpu_without_a_lock_is_measured_and_told, .timeout = 300)
{
    struct tune_worker *worker = NULL;
    struct tune_trial trial;
    xq_device_info info;
    char *space = NULL;
    error err = ERROR_INIT;
    const struct tune_limit limit = {200, 200};
    fake_cuda_use();
    setenv("XQ_LOCK_DIR", "/nowhere/at/all", 1);
    options.common.device = "cuda";
    cr_assert_eq(tune_worker_start(&job, 200, NULL, &worker, &info, &space, &err), XQ_OK, "%s",
                 err.message);
    cr_assert(tune_worker_try(worker, parameters, false, &limit, NULL, &trial, &err));
    cr_expect(
        strstr(trial.noticed.unlocked, "/nowhere/at/all/xq-gpu-" FAKE_CUDA_UUID ".lock cannot be locked"),
        "%s", trial.noticed.unlocked);
    tune_worker_end(worker);
    free(space);
}

static bool always(void)
{
    return true;
}

Test(tune_worker, an_interrupt_ends_the_process, .timeout = 300)
{
    struct tune_worker *worker = start("sim");
    struct tune_trial trial;
    error err = ERROR_INIT;
    const struct tune_limit limit = {200, 200};
    cr_expect(!tune_worker_try(worker, parameters, false, &limit, always, &trial, &err));
    cr_expect_eq(err.status, XQ_OK, "an interrupt is no error");
    cr_expect_eq(try_for(worker, 200).outcome, TUNE_MEASURED);
    tune_worker_end(worker);
}

Test(tune_worker, setting_up_ends_with_the_time_and_with_an_interrupt, .timeout = 300)
{
    struct tune_worker *worker = NULL;
    xq_device_info info;
    char *space = NULL;
    error err = ERROR_INIT;
    options.common.device = "sim";
    cr_expect_eq(tune_worker_start(&job, 0, NULL, &worker, &info, &space, &err), XQ_ERROR_DEVICE);
    cr_expect_str_eq(err.field, "budget");
    error_clear(&err);
    cr_expect_eq(tune_worker_start(&job, 200, always, &worker, &info, &space, &err), XQ_ERROR_DEVICE);
    cr_expect(strstr(err.message, "interrupted"), "%s", err.message);
    cr_expect_null(worker);
    cr_expect_null(space);
    error_clear(&err);
}

Test(tune_worker, what_a_bench_cannot_be_set_up_for_is_told)
{
    struct tune_worker *worker = NULL;
    xq_device_info info;
    char *space = NULL;
    error err = ERROR_INIT;
    options.common.device = "sim:gtx280";
    cr_expect_eq(tune_worker_start(&job, 200, NULL, &worker, &info, &space, &err), XQ_ERROR_ARGUMENT);
    cr_expect(strstr(err.message, "h100, h200, a100, rtx4090"), "%s", err.message);
    cr_expect_null(worker);
    cr_expect_null(space);
    error_clear(&err);
    tune_worker_end(NULL);
}
