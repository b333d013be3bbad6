/* The table of a sweep: one line for each batch and number of tokens. */
#include "compare_table.h"

#include <math.h>
#include <stdio.h>

static const char *bound(const struct compare_row *row)
{
    const char *name = compare_bound(row);
    return name ? name : "-";
}

static void print_header(const struct compare_row *row)
{
    const char *kind = row->measured ? "measured" : "modelled";
    printf("                  %-17s", compare_name(row[COMPARE_FP16].implementation));
    for (int i = COMPARE_FP8; i < COMPARE_IMPLEMENTATIONS; i++)
        printf("   %-25s", compare_name(row[i].implementation));
    printf("   cache, MB\n                  %8s %-8s", kind, "bound");
    for (int i = COMPARE_FP8; i < COMPARE_IMPLEMENTATIONS; i++)
        printf("   %8s %7s %-8s", kind, "time /", "bound");
    printf("\n  %5s %8s  %8s %-8s", "batch", "tokens", "us", "by");
    for (int i = COMPARE_FP8; i < COMPARE_IMPLEMENTATIONS; i++)
        printf("   %8s %7s %-8s", "us", "fp16-kv", "by");
    printf("   %8s %8s %9s\n", "fp16", "fp8", "quantized");
}

/* `rows`: the rows of all implementations. */
static void print_line(const struct compare_row *rows)
{
    char text[2][32];
    const double fp16 = rows[COMPARE_FP16].seconds;
    printf("  %5d %8lld  %8s %-8s", rows->batch, (long long)rows->tokens,
           compare_figure(text[0], sizeof text[0], fp16 * 1e6), bound(&rows[COMPARE_FP16]));
    for (int i = COMPARE_FP8; i < COMPARE_IMPLEMENTATIONS; i++)
        printf("   %8s %7s %-8s", compare_figure(text[0], sizeof text[0], rows[i].seconds * 1e6),
               compare_figure(text[1], sizeof text[1], rows[i].seconds / fp16), bound(&rows[i]));
    printf("   %8s",
           compare_figure(text[0], sizeof text[0], compare_cache_bytes(&rows[COMPARE_FP16]) * 1e-6));
    printf(" %8s", compare_figure(text[0], sizeof text[0], compare_cache_bytes(&rows[COMPARE_FP8]) * 1e-6));
    printf(" %9s\n",
           compare_figure(text[0], sizeof text[0], compare_cache_bytes(&rows[COMPARE_FUSED]) * 1e-6));
}

/* Prints the table of one layer at one bit width. `first`: its rows at the first size. */
static void print_table(const struct compare_result *r, const struct compare_row *first)
{
    printf("\nlayer %d, %d bits\n", first->layer, first->bits);
    print_header(first);
    for (int i = 0; i < r->sizes; i++)
        print_line(first + i * r->widths * COMPARE_IMPLEMENTATIONS);
}

static void print_errors(const struct compare_result *r)
{
    double kernel = 0, method[COMPARE_IMPLEMENTATIONS] = {0};
    for (int i = 0; i < r->count; i++) {
        const int which = i % COMPARE_IMPLEMENTATIONS;
        kernel = fmax(kernel, isfinite(r->rows[i].kernel_error) ? r->rows[i].kernel_error : INFINITY);
        method[which] = fmax(method[which], r->rows[i].method_error);
    }
    printf("\nAll rows: kernel error up to %.1e; method error up to %.1e for fp16-kv, %.1e for fp8-kv and "
           "%.1e "
           "for fused. --json has the errors of each row.\n",
           kernel, method[COMPARE_FP16], method[COMPARE_FP8], method[COMPARE_FUSED]);
}

void compare_print_sweep(const struct compare_result *r)
{
    compare_print_model(r);
    printf("One %sstep of one layer, %d %s of each sequence, at %d sizes.\n",
           r->rows->queries == 1 ? "decode " : "", r->rows->queries,
           r->rows->queries == 1 ? "query" : "queries", r->sizes);
    compare_print_device(r);
    for (int i = 0; i < r->count; i += r->sizes * r->widths * COMPARE_IMPLEMENTATIONS)
        for (int k = 0; k < r->widths; k++)
            print_table(r, &r->rows[i + k * COMPARE_IMPLEMENTATIONS]);
    compare_print_rows_legend();
    printf("Columns  batch, tokens   number of sequences, and cached tokens of each\n");
    compare_print_times_legend(r->rows);
    printf("         time / fp16-kv   below 1 if the step is faster than with fp16 keys and values\n"
           "         cache    memory of all sequences in one layer, in MB; unfused and fused use the same "
           "cache\n");
    print_errors(r);
}
