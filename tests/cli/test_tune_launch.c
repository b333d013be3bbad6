/* Tests what xq tune stores about the way that a step was launched. */
#include "../../cli/tune_store.h"
#include "../support/files.h"
#include "../support/generator.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct compare_options options = {.tokens = 40, .batch = 1, .queries = 1};
static const char spec[] =
    "{\"model\": {\"hidden_size\": 128, \"num_attention_heads\": 4, \"num_key_value_heads\": 2, "
    "\"head_dim\": 64}, \"cache\": {\"method\": \"latent\", \"bits\": 4, \"group\": 64, \"page\": 16}}";

struct modes {
    int rows, in_graph, cold;
};

static xq_status count(void *user, const store_row *row, error *err)
{
    struct modes *m = user;
    m->rows++;
    m->in_graph += row->question.mode.in_graph;
    m->cold += row->question.mode.cold_l2;
    return err->status;
}

/* Stores a trial that was launched in this way. The store may hold trials that were launched in other ways,
 * which do not answer this question. */
static struct modes keep(store *s, const char *launch, bool is_sim)
{
    const struct tune_job job = {.options = &options,
                                 .spec = spec,
                                 .family = "attend",
                                 .implementation = XQ_FUSED,
                                 .launch = launch};
    const struct tune_trial trial = {.outcome = TUNE_MEASURED,
                                     .repeats = 30,
                                     .median = 5e-6,
                                     .low = 4e-6,
                                     .high = 6e-6,
                                     .modelled = is_sim};
    const xq_device_info device = {.name = "a GPU",
                                   .arch = "sm_90",
                                   .is_sim = is_sim,
                                   .driver = 13000,
                                   .nvrtc = 13000,
                                   .sm_count = 8,
                                   .memory_bytes = 1 << 30};
    struct tune_question question;
    struct tune_trial found_trial;
    struct modes modes = {0};
    error err = ERROR_INIT;
    bool found = true;
    gen *g = NULL;
    cr_assert_eq(gen_create(NULL, &g, &err), XQ_OK);
    cr_assert_eq(tune_question_make(g, &job, &device, &question, &err), XQ_OK, "%s", err.message);
    cr_assert_eq(tune_store_find(s, &question, "{\"warps\":4}", &found_trial, &found, &err), XQ_OK);
    cr_expect_not(found, "one way to launch says nothing of the other");
    cr_assert_eq(tune_store_add(s, &question, "{\"warps\":4}", &trial, &err), XQ_OK, "%s", err.message);
    cr_assert_eq(tune_store_find(s, &question, "{\"warps\":4}", &found_trial, &found, &err), XQ_OK);
    cr_expect(found);
    cr_assert_eq(store_list(s, NULL, count, &modes, &err), XQ_OK);
    tune_question_free(&question);
    gen_destroy(g);
    return modes;
}

Test(tune_launch, the_store_says_how_a_step_was_launched)
{
    store *s = NULL;
    error err = ERROR_INIT;
    cr_assert_eq(store_open(files_path(files_directory(), "one.db"), STORE_CREATE, &s, &err), XQ_OK, "%s",
                 err.message);
    struct modes m = keep(s, NULL, false);
    cr_expect(m.rows == 1 && m.in_graph == 1 && m.cold == 1, "a GPU is timed as decoding launches");
    m = keep(s, "stream", false);
    cr_expect(m.rows == 2 && m.in_graph == 1 && m.cold == 2);
    m = keep(s, NULL, true);
    cr_expect(m.rows == 3 && m.in_graph == 1, "the software device has no graphs");
    store_close(s);
}
