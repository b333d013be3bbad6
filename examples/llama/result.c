#include "result.h"
#include "fail.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static cJSON *cache_json(const options *o, const session *s, const result *r)
{
    const choice *c = &s->choice;
    cJSON *json = cJSON_Duplicate(c->cache, 1);
    cJSON_AddStringToObject(json, "method", method_name(c->method));
    cJSON_AddStringToObject(json, "device", o->device);
    cJSON_AddNumberToObject(json, "chunk", r->chunk);
    if (c->method < CACHE_KIVI)
        return json;
    cJSON_AddNumberToObject(json, "bits", c->bits);
    cJSON_AddNumberToObject(json, "first_layers", c->first_layers);
    cJSON_AddNumberToObject(json, "first_bits", c->first_bits);
    if (c->layer_bits)
        cJSON_AddStringToObject(json, "layer_bits", c->layer_bits);
    if (c->prepared)
        cJSON_AddStringToObject(json, "prepared", c->prepared);
    if (c->method >= CACHE_X)
        cJSON_AddStringToObject(json, "weights", s->formats->layer[0].weights);
    return json;
}

static void add_divergence(cJSON *json, const options *o, const divergence_summary *d)
{
    if (d->tokens == 0)
        return;
    cJSON_AddStringToObject(json, "reference", o->reference);
    cJSON_AddNumberToObject(json, "kl_mean", d->mean);
    cJSON_AddNumberToObject(json, "kl_p99", d->p99);
    cJSON_AddNumberToObject(json, "top1", d->top1);
    cJSON_AddNumberToObject(json, "kl_tokens", (double)d->tokens);
}

static char *result_json(const options *o, const session *s, const result *r)
{
    cJSON *json = cJSON_CreateObject();
    cJSON_AddStringToObject(json, "model", o->model);
    cJSON_AddStringToObject(json, "text", o->text);
    cJSON_AddNumberToObject(json, "tokens", (double)r->windows * o->window);
    cJSON_AddNumberToObject(json, "windows", r->windows);
    cJSON_AddNumberToObject(json, "window", o->window);
    if (r->bos >= 0)
        cJSON_AddNumberToObject(json, "bos", r->bos);
    cJSON_AddItemToObject(json, "cache", cache_json(o, s, r));
    cJSON_AddNumberToObject(json, "ppl", exp(r->nll));
    cJSON_AddNumberToObject(json, "nll", r->nll);
    add_divergence(json, o, &r->divergence);
    cJSON_AddNumberToObject(json, "memory", s->formats->memory);
    cJSON_AddNumberToObject(json, "memory_paper", s->formats->memory_paper);
    cJSON_AddNumberToObject(json, "bytes_per_token", s->formats->bytes / o->window);
    cJSON_AddNumberToObject(json, "seconds", r->seconds);
    char *text = cJSON_Print(json);
    cJSON_Delete(json);
    return text;
}

static void write_file(const char *path, const char *text)
{
    char temporary[4096];
    snprintf(temporary, sizeof temporary, "%s.%ld.tmp", path, (long)getpid());
    FILE *file = fopen(temporary, "w");
    bool written = file && fprintf(file, "%s\n", text) > 0 && fflush(file) == 0 && fsync(fileno(file)) == 0;
    if (file)
        written = fclose(file) == 0 && written;
    if (!written || rename(temporary, path) != 0)
        fail(EXIT_INPUT, "%s: %s", path, strerror(errno));
}

static void print_line(FILE *file, const options *o, const session *s, const result *r)
{
    const divergence_summary *d = &r->divergence;
    fprintf(
        file,
        "%s: perplexity %.4f over %d windows of %d tokens; cache %s: %.4f of fp16's memory (%.4f as the "
        "paper counts), %.0f bytes a token; ",
        o->model, exp(r->nll), r->windows, o->window, method_name(o->choice.method), s->formats->memory,
        s->formats->memory_paper, s->formats->bytes / o->window);
    if (d->tokens > 0)
        fprintf(
            file,
            "from fp16: KL divergence %.5f on average, %.5f at the 99th percentile, the same most likely "
            "token for %.2f %% of %lld; ",
            d->mean, d->p99, 100 * d->top1, (long long)d->tokens);
    fprintf(file, "%.1f s\n", r->seconds);
}

void result_print(const options *o, const session *s, const result *r)
{
    char *text = result_json(o, s, r);
    bool to_output = o->json && strcmp(o->json, "-") == 0;
    print_line(to_output ? stderr : stdout, o, s, r);
    if (to_output)
        puts(text);
    else if (o->json)
        write_file(o->json, text);
    free(text);
}
