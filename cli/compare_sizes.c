/* The combinations of --tokens and --batch. */
#include "compare.h"

#include <stdlib.h>

enum { MOST_SIZES = 4096 };

static int count_of(const struct cli_list *list)
{
    return list->count ? list->count : 1;
}

/* Item i of a list, or `otherwise` where the list is empty. */
static int64_t item_of(const struct cli_list *list, int i, int64_t otherwise)
{
    int64_t value = otherwise;
    if (list->count)
        cli_read_whole(list->items[i], &value);
    return value;
}

static int64_t largest(const struct cli_list *list, int64_t otherwise)
{
    int64_t most = item_of(list, 0, otherwise);
    for (int i = 1; i < list->count; i++) {
        int64_t value = item_of(list, i, otherwise);
        most = value > most ? value : most;
    }
    return most;
}

xq_status compare_sizes_read(const struct compare_sizes *sizes, struct compare_options *o, error *err)
{
    const int64_t count = (int64_t)count_of(&sizes->tokens) * count_of(&sizes->batches);
    o->tokens = largest(&sizes->tokens, COMPARE_ALL_TOKENS);
    o->batch = largest(&sizes->batches, 1);
    if (count > MOST_SIZES)
        return error_set(err, XQ_ERROR_ARGUMENT, "argument",
                         "--tokens and --batch: they make %lld combinations; valid: at most %d",
                         (long long)count, MOST_SIZES);
    return XQ_OK;
}

static double tokens_of(const struct compare_size *size)
{
    return (double)size->tokens * size->batch;
}

static int larger_first(const void *a, const void *b)
{
    const struct compare_size *x = a, *y = b;
    const double difference = tokens_of(y) - tokens_of(x);
    return difference < 0 ? -1 : difference > 0 ? 1 : x->place - y->place;
}

xq_status compare_sizes_make(struct compare_sizes *sizes, struct compare_input *input, int64_t tokens,
                             error *err)
{
    const int lengths = count_of(&sizes->tokens);
    sizes->count = lengths * count_of(&sizes->batches);
    sizes->items = calloc((size_t)sizes->count, sizeof *sizes->items);
    if (!sizes->items)
        return error_set(err, XQ_ERROR_MEMORY, "argument", "out of memory");
    for (int i = 0; i < sizes->count && err->status == XQ_OK; i++) {
        struct compare_size *size = &sizes->items[i];
        *size = (struct compare_size){item_of(&sizes->tokens, i % lengths, tokens),
                                      (int)item_of(&sizes->batches, i / lengths, 1), i};
        sizes->tokens_sum += tokens_of(size);
        compare_input_resize(input, size->tokens, size->batch, err);
    }
    qsort(sizes->items, (size_t)sizes->count, sizeof *sizes->items, larger_first);
    return err->status;
}

void compare_sizes_free(struct compare_sizes *sizes)
{
    cli_list_free(&sizes->tokens);
    cli_list_free(&sizes->batches);
    free(sizes->items);
    sizes->items = NULL;
}
