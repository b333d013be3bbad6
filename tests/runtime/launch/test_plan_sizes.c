/* Tests the kernels that a plan has for calls of several sizes, as tables of tuned parameters say. */
#include "../../support/plan_fixture.h"
#include "../../support/tuned_table.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

static const char fake_gpu_spec[] = PLAN_LATENT;

static void use(const struct tuned_result *results, int count)
{
    tuned_table_use(fake_gpu_spec, results, count);
}

Test(plan_sizes, classes_are_the_nearest_powers_of_two)
{
    static const struct {
        int64_t size;
        int class;
    } cases[] = {{0, 0},   {1, 0},    {2, 1},     {3, 2},     {5, 2},      {6, 3},
                 {724, 9}, {725, 10}, {1448, 10}, {1449, 11}, {65535, 16}, {PLAN_MOST_TOKENS, 30}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        cr_expect_eq(plan_class(cases[i].size), cases[i].class, "%lld", (long long)cases[i].size);
    cr_expect_lt(plan_class(PLAN_MOST_TOKENS), PLAN_TOKEN_CLASSES);
    cr_expect_lt(plan_class(PLAN_MOST_BLOCKS), PLAN_BATCH_CLASSES);
}

/* Returns the threads per block of the kernel that a call of this size launches. */
static unsigned threads_for(xq_plan *plan, int32_t batch, int64_t tokens)
{
    xq_attend_args args = plan_attend_args(plan);
    args.table.batch = batch;
    args.max_tokens = tokens;
    cr_assert_eq(xq_plan_attend(plan, &args, NULL), XQ_OK, "%s", plan_error()->message);
    return fake->launches[(fake->launch_count - 1) % FAKE_CUDA_LAUNCHES].block[0];
}

static xq_plan *plan_for(int64_t max_tokens, int32_t max_batch)
{
    xq_plan_options o = plan_options(fake_gpu_spec, XQ_FUSED);
    o.max_tokens = max_tokens;
    o.max_batch = max_batch;
    return plan_make_with(&o);
}

static const struct tuned_result by_length[] = {{.capability = 90, .tokens = 512, .warps = 4},
                                                {.capability = 90, .tokens = 8192, .warps = 8}};

Test(plan_sizes, a_call_launches_the_kernel_that_is_best_for_its_size)
{
    use(by_length, 2);
    xq_plan *plan = plan_for(65536, 8);
    cr_expect_eq(plan->variants[PLAN_ONE], 2);
    cr_expect_eq(plan->variants[PLAN_MANY], 0);
    cr_expect_eq(threads_for(plan, 1, 65536), 256);
    cr_expect_eq(threads_for(plan, 8, 4096), 256);
    cr_expect_eq(threads_for(plan, 8, 1024), 128);
    cr_expect_eq(threads_for(plan, 1, 1), 128);
    cr_expect_eq(threads_for(plan, 1, 0), 128);
    plan_close(plan);
}

Test(plan_sizes, batches_count_too)
{
    const struct tuned_result by_batch[] = {{.capability = 90, .tokens = 4096, .warps = 4},
                                            {.capability = 90, .tokens = 4096, .batch = 64, .warps = 8}};
    use(by_batch, 2);
    xq_plan *plan = plan_for(4096, 64);
    cr_expect_eq(plan->variants[PLAN_ONE], 2);
    cr_expect_eq(threads_for(plan, 1, 4096), 128);
    cr_expect_eq(threads_for(plan, 64, 4096), 256);
    plan_close(plan);
}

Test(plan_sizes, a_plan_loads_no_kernel_that_no_call_of_its_can_use)
{
    const struct tuned_result alike[] = {{.capability = 90, .tokens = 512, .warps = 4},
                                         {.capability = 90, .tokens = 8192, .warps = 4},
                                         {.capability = 90, .tokens = 32768, .batch = 64, .warps = 4}};
    use(by_length, 2);
    xq_plan *plan = plan_for(1024, 1);
    cr_expect_eq(plan->variants[PLAN_ONE], 1);
    cr_expect_eq(threads_for(plan, 1, 700), 128);
    plan_close(plan);
    use(alike, 3);
    plan = plan_for(65536, 64);
    cr_expect_eq(plan->variants[PLAN_ONE], 1);
    plan_close(plan);
    setenv("XQ_TUNED", "", 1);
    plan = plan_for(65536, 64);
    cr_expect_eq(plan->variants[PLAN_ONE], 1);
    plan_close(plan);
}

Test(plan_sizes, a_spec_that_chooses_has_one_kernel)
{
    use(by_length, 2);
    xq_plan_options o =
        plan_options("{" PLAN_MODEL ", \"cache\": {\"method\": \"latent\", \"bits\": 4, \"group\": 64, "
                     "\"rank_k\": 128, \"rank_v\": 64, \"page\": 32}, \"weights\": \"f16\", "
                     "\"tuning\": {\"attend\": {\"warps\": 4}}}",
                     XQ_FUSED);
    o.max_tokens = 65536;
    xq_plan *plan = plan_make_with(&o);
    cr_expect_eq(plan->variants[PLAN_ONE], 1);
    cr_expect_eq(threads_for(plan, 1, 65536), 128);
    plan_close(plan);
}

Test(plan_sizes, kernels_for_many_queries_have_sizes_of_their_own)
{
    static const char many[] =
        "{" PLAN_MODEL ", \"cache\": {\"method\": \"latent\", \"bits\": 4, \"group\": 64, \"rank_k\": 128, "
        "\"rank_v\": 64, \"page\": 32}, \"weights\": \"f16\", \"queries\": \"many\"}";
    tuned_table_use(many, by_length, 2);
    xq_plan_options o = plan_options(fake_gpu_spec, XQ_FUSED);
    o.max_tokens = 65536;
    o.max_queries = 8;
    xq_plan *plan = plan_make_with(&o);
    cr_expect_eq(plan->variants[PLAN_ONE], 1);
    cr_expect_eq(plan->variants[PLAN_MANY], 2);
    plan_close(plan);
    o = plan_options(many, XQ_FUSED);
    o.max_tokens = 65536;
    plan = plan_make_with(&o);
    cr_expect_eq(plan->variants[PLAN_ONE], 0);
    cr_expect_eq(plan->variants[PLAN_MANY], 2);
    plan_close(plan);
}

Test(plan_sizes, an_image_keeps_all_kernels)
{
    use(by_length, 2);
    xq_plan *plan = plan_for(65536, 8), *loaded;
    size_t bytes;
    cr_assert_eq(xq_plan_save(plan, NULL, 0, &bytes), XQ_OK);
    void *image = malloc(bytes);
    cr_assert_eq(xq_plan_save(plan, image, bytes, &bytes), XQ_OK);
    cr_assert_eq(xq_plan_load(context, image, bytes, &loaded), XQ_OK);
    cr_expect_eq(memcmp(loaded->pick, plan->pick, sizeof plan->pick), 0);
    cr_expect_eq(loaded->workspace.bytes, plan->workspace.bytes);
    cr_expect_eq(threads_for(loaded, 1, 65536), 256);
    cr_expect_eq(threads_for(loaded, 1, 600), 128);
    xq_plan_destroy(loaded);
    free(image);
    plan_close(plan);
}

/* The workspace is large enough for each of the kernels that a call may launch. */
Test(plan_sizes, the_workspace_serves_every_kernel)
{
    const struct tuned_result splits[] = {
        {.capability = 90, .tokens = 512, .parameters = "{\"split_tokens\": 256}"},
        {.capability = 90, .tokens = 8192, .parameters = "{\"split_tokens\": 1024}"}};
    use(splits, 2);
    xq_plan *plan = plan_for(16384, 4);
    cr_assert_eq(plan->variants[PLAN_ONE], 2);
    const size_t of_one = (size_t)plan->shape.heads * (size_t)plan->shape.head_dim * 2;
    for (int v = 0; v < 2; v++)
        cr_expect_geq((plan->workspace.partial_lse - plan->workspace.partial_out) / of_one,
                      (size_t)plan->attention[PLAN_ONE][v].split.partials);
    plan_close(plan);
}
