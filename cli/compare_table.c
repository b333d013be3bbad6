/* The output of compare for people: tables and explanations below them. */
#include "compare_table.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* The unit of bytes for the whole table, so that columns can be compared at a glance. */
struct unit {
    const char *name;
    double size;
};

static struct unit byte_unit(const struct compare_result *r)
{
    double most = 0;
    for (int i = 0; i < r->count; i++)
        most = fmax(most, fmax(r->rows[i].l2_read_bytes + r->rows[i].l2_write_bytes,
                               r->rows[i].read_bytes + r->rows[i].write_bytes));
    return most >= 1e7 ? (struct unit){"MB", 1e6} : (struct unit){"kB", 1e3};
}

const char *compare_figure(char *text, size_t size, double value)
{
    int digits = value >= 1000 ? 0 : value >= 100 ? 1 : value >= 10 ? 2 : 3;
    if (!isfinite(value))
        snprintf(text, size, "%s", isnan(value) ? "NaN" : "inf");
    else
        snprintf(text, size, "%.*f", digits, value);
    return text;
}

static const char *figure_if(char *text, size_t size, bool known, double value)
{
    if (known)
        return compare_figure(text, size, value);
    snprintf(text, size, "-");
    return text;
}

static void print_header(const struct unit *unit)
{
    printf("           %8s %7s %8s %8s %8s %8s %8s %8s %-8s %8s %6s\n", "cache", "smaller", "kernel",
           "method", "device", "L2", "matrix", "time", "bound", "limit", "time /");
    printf("           %8s %7s %8s %8s %8s %8s %8s %8s %-8s %8s %6s\n", "B/token", "x", "error", "error",
           unit->name, unit->name, "MFLOP", "us", "by", "us", "limit");
}

static void print_row(const struct compare_row *row, const struct unit *unit)
{
    char text[8][32];
    const char *bound = compare_bound(row);
    bool limited = row->limit.seconds > 0;
    printf(
        "  %-8s %8s %7s %8.1e %8.1e %8s %8s %8s %8s %-8s %8s %6s\n", compare_name(row->implementation),
        compare_figure(text[0], sizeof text[0], row->cache_bytes_per_token),
        compare_figure(text[1], sizeof text[1], row->cache_saving), row->kernel_error, row->method_error,
        figure_if(text[2], sizeof text[2], row->counted, (row->read_bytes + row->write_bytes) / unit->size),
        figure_if(text[3], sizeof text[3], row->counted,
                  (row->l2_read_bytes + row->l2_write_bytes) / unit->size),
        figure_if(text[4], sizeof text[4], row->counted, row->matrix_flops * 1e-6),
        compare_figure(text[5], sizeof text[5], row->seconds * 1e6), bound ? bound : "-",
        figure_if(text[6], sizeof text[6], limited, row->limit.seconds * 1e6),
        figure_if(text[7], sizeof text[7], limited, limited ? row->seconds / row->limit.seconds : 0));
}

static void print_method(const layer_shape *s)
{
    const char *name = layer_method_name(s->method);
    if (s->method == LAYER_LATENT && (s->groups_k > 1 || s->groups_v > 1))
        printf("Method latent: the cache holds %d latent%s of %d numbers a token for keys and %d of %d for "
               "values; K and V\n"
               "are rematerialized from them.\n",
               s->groups_k, s->groups_k == 1 ? "" : "s", s->rank_k / s->groups_k, s->groups_v,
               s->rank_v / s->groups_v);
    else if (s->method == LAYER_LATENT)
        printf("Method latent: the cache holds X*Uk and X*Uv, %d + %d numbers a token; K and V are "
               "rematerialized from them.\n",
               s->rank_k, s->rank_v);
    else if (layer_is_rotated_x(s))
        printf("Method x, rotated: the cache holds X*U, %d numbers a token; K and V are rematerialized "
               "from them.\n",
               s->hidden_size);
    else if (s->method == LAYER_X)
        printf("Method x: the cache holds the activations X, %d numbers a token; K and V are "
               "rematerialized from them.\n",
               s->hidden_size);
    else
        printf("Method %s: the cache holds the part of X that earlier layers lack, %d numbers a token. "
               "These parts\n"
               "add up to X, from which K and V are rematerialized.\n",
               name, s->rank_k);
}

/* Prints memory beside the pages. */
static void print_extras(const struct compare_row *row)
{
    if (row->tail_bytes > 0)
        printf("Besides its pages, each sequence takes %.0f bytes for its newest tokens, unquantized until "
               "their group is full.\n",
               row->tail_bytes);
    if (row->accumulator_bytes_per_token > 0)
        printf("Besides the pages, the accumulator takes %.4g bytes a token, once for all layers.\n",
               row->accumulator_bytes_per_token);
}

void compare_print_model(const struct compare_result *r)
{
    const layer_shape *s = &r->traits->shape;
    printf("%s: hidden size %d, %d query heads, %d key/value heads of %d; input: %s\n",
           cli_show(r->model_name).text, s->hidden_size, s->heads, s->kv_heads, s->head_dim,
           cli_show(r->input_name).text);
    print_method(s);
}

void compare_print_device(const struct compare_result *r)
{
    print_extras(&r->rows[COMPARE_FUSED]);
    printf("Device: %s. Times are %s.\n", r->device->name,
           r->rows[0].measured ? "MEASURED (median of 30 runs over caches that L2 does not hold)"
                               : "MODELLED, not measured: from counted work and the datasheet of that GPU");
}

static void print_task(const struct compare_result *r)
{
    const struct compare_row *row = &r->rows[0];
    compare_print_model(r);
    printf("One %sstep of one layer: %d sequence%s of %lld cached tokens, ",
           row->queries == 1 ? "decode " : "", row->batch, row->batch == 1 ? "" : "s",
           (long long)row->tokens);
    if (row->queries == 1)
        printf("one query each.\n");
    else
        printf("%d queries each.\n", row->queries);
    compare_print_device(r);
}

void compare_print_rows_legend(void)
{
    printf(
        "\nRows     fp16-kv  keys and values kept in fp16, a flash-decoding kernel: what engines do today\n"
        "         fp8-kv   the same in e4m3, with a scale for all keys and one for all values: half the "
        "memory\n"
        "         unfused  quantized cache; dequantize, GEMM, RoPE, attention, each through device memory\n"
        "         fused    quantized cache; the same steps in one kernel, intermediate results stay on the "
        "chip\n");
}

void compare_print_times_legend(const struct compare_row *row)
{
    printf("         time     one step%s\n",
           row->measured
               ? ""
               : ", MODELLED: the cost of launches, and the busiest of memory, L2, shared memory,\n"
                 "                  matrix units and issue slots");
    if (row->measured)
        printf("         bound by   not known for measured times (--device sim models it)\n");
    else
        printf("         bound by   the largest part of that time, over all launches of the step: launches "
               "(their fixed\n"
               "                  cost), memory, L2, shared (memory), matrix (units), issue (of "
               "instructions)\n");
}

static void print_legend(const struct compare_result *r)
{
    const struct compare_row *row = &r->rows[0];
    compare_print_rows_legend();
    printf(
        "Columns  cache    bytes of one token in one layer's cache: codes, scales, offsets, padding\n"
        "         smaller  how many times smaller than the fp16 keys and values, unquantized tokens "
        "included\n"
        "         kernel   error of the output against double precision on the very same cache (relative, "
        "L2)\n"
        "         method   error against exact attention on the unquantized inputs: what the whole method "
        "loses\n");
    if (row->counted)
        printf("         device   device memory read and written in the step (each 32-byte sector counted "
               "once)\n"
               "         L2       bytes that the kernels asked for, repeats included (most of them "
               "answered by L2)\n"
               "         matrix   work of the matrix units, in millions of floating-point operations\n");
    else
        printf("         device, L2, matrix   only the software device counts these (--device sim)\n");
    compare_print_times_legend(row);
    if (row->limit.seconds > 0)
        printf("         limit    least time for this cache: every byte moved once at %.2f TB/s, or the "
               "cheapest exact\n"
               "                  arithmetic at %.0f TFLOP/s, whichever is longer (%s)\n"
               "         time / limit   1 would be perfect. Launching a kernel takes microseconds, so "
               "short steps stay far\n"
               "                  from 1; more tokens or a larger --batch show the kernels themselves\n",
               r->ceilings->copy_bytes_per_second * 1e-12, r->ceilings->f16_flops_per_second * 1e-12,
               r->ceilings->source);
    else
        printf("         limit    not known: this GPU's bandwidth and matrix rate are not measured\n");
}

/* Prints one sentence for each bit width, with geometric means over layers. */
static void print_summary(const struct compare_result *r)
{
    for (int i = 0; i < r->count; i += COMPARE_IMPLEMENTATIONS) {
        int bits = r->rows[i].bits, groups = 0;
        double to_fp16 = 0, to_fp8 = 0, to_unfused = 0, bytes = 0, worst = 0;
        bool first = true;
        for (int j = 0; j < i; j += COMPARE_IMPLEMENTATIONS)
            first &= r->rows[j].bits != bits;
        if (!first)
            continue;
        for (int j = i; j < r->count; j += COMPARE_IMPLEMENTATIONS) {
            const struct compare_row *rows = &r->rows[j], *unfused = rows + COMPARE_UNFUSED,
                                     *fused = rows + COMPARE_FUSED;
            if (rows->bits != bits)
                continue;
            groups++;
            to_fp16 += log(rows[COMPARE_FP16].seconds / fused->seconds);
            to_fp8 += log(rows[COMPARE_FP8].seconds / fused->seconds);
            to_unfused += log(unfused->seconds / fused->seconds);
            bytes += log((unfused->read_bytes + unfused->write_bytes) /
                         (fused->read_bytes + fused->write_bytes));
            worst = fmax(worst, fused->method_error);
        }
        printf("%sAt %d bits the cache is %.1fx smaller (error up to %.1e); the fused step takes 1/%.1f of "
               "unfused's time",
               i == 0 ? "\n" : "", bits, r->rows[i + COMPARE_FUSED].cache_saving, worst,
               exp(to_unfused / groups));
        if (r->rows[i].counted)
            printf(" and 1/%.1f of its\nmemory traffic", exp(bytes / groups));
        printf(", and %.2fx the time of fp16-kv, %.2fx that of fp8-kv%s.\n", exp(-to_fp16 / groups),
               exp(-to_fp8 / groups), r->rows[i].measured ? "" : " (modelled)");
    }
}

static void print_rows(const struct compare_result *r)
{
    struct unit unit = byte_unit(r);
    for (int i = 0; i < r->count; i++) {
        if (i % COMPARE_IMPLEMENTATIONS == 0) {
            printf("\nlayer %d, %d bits\n", r->rows[i].layer, r->rows[i].bits);
            print_header(&unit);
        }
        print_row(&r->rows[i], &unit);
    }
}

void compare_print(const struct compare_result *r)
{
    if (r->sizes > 1) {
        compare_print_sweep(r);
        return;
    }
    print_task(r);
    print_rows(r);
    print_legend(r);
    print_summary(r);
}
