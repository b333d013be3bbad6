/* xq tune report as JSON. */
#include "../autotune/verify/verify.h"
#include "tune_report.h"

#include <math.h>

static void add_number(cJSON *o, const char *name, bool known, double value)
{
    if (known && isfinite(value))
        cJSON_AddNumberToObject(o, name, value);
    else
        cJSON_AddNullToObject(o, name);
}

static cJSON *ceilings_json(const ceilings *c)
{
    if (!c->source)
        return cJSON_CreateNull();
    cJSON *o = cJSON_CreateObject();
    cJSON_AddNumberToObject(o, "copy_bytes_per_second", c->copy_bytes_per_second);
    cJSON_AddNumberToObject(o, "f16_flops_per_second", c->f16_flops_per_second);
    cJSON_AddStringToObject(o, "source", c->source);
    return o;
}

static cJSON *device_json(const store_device *d, const ceilings *c)
{
    cJSON *o = cJSON_CreateObject();
    cJSON_AddStringToObject(o, "name", d->name);
    cJSON_AddStringToObject(o, "arch", d->arch);
    cJSON_AddNumberToObject(o, "capability", d->capability);
    cJSON_AddNumberToObject(o, "multiprocessors", d->multiprocessors);
    cJSON_AddNumberToObject(o, "memory_bytes", (double)d->memory_bytes);
    cJSON_AddNumberToObject(o, "driver", d->driver);
    cJSON_AddNumberToObject(o, "nvrtc", d->nvrtc);
    cJSON_AddStringToObject(o, "xq", d->xq);
    cJSON_AddStringToObject(o, "device_kind", d->is_sim ? "sim" : "cuda");
    cJSON_AddStringToObject(o, "time_kind", d->is_sim ? "modelled" : "measured");
    cJSON_AddItemToObject(o, "ceilings", ceilings_json(c));
    return o;
}

static cJSON *answer_json(const survey_answer *a)
{
    if (!a)
        return cJSON_CreateNull();
    cJSON *o = cJSON_CreateObject();
    cJSON_AddItemToObject(o, "parameters", cJSON_Parse(a->parameters));
    cJSON_AddStringToObject(o, "outcome", store_outcome_names[a->outcome]);
    if (a->outcome == STORE_MEASURED) {
        cJSON_AddNumberToObject(o, "time_us", 1e6 * a->seconds);
        cJSON_AddNumberToObject(o, "spread_us", 1e6 * a->spread);
    } else {
        cJSON_AddStringToObject(o, "reason", a->reason);
    }
    return o;
}

static cJSON *parameters_json(const survey_parameters *p)
{
    cJSON *list = cJSON_CreateArray();
    for (int i = 0; i < p->count; i++) {
        const survey_parameter *parameter = &p->items[i];
        cJSON *o = cJSON_CreateObject(), *values;
        cJSON_AddStringToObject(o, "parameter", parameter->name);
        add_number(o, "worst_over_best", parameter->ratio > 0, parameter->ratio);
        values = cJSON_AddArrayToObject(o, "values");
        for (int k = 0; k < parameter->count; k++) {
            const survey_value *v = &parameter->values[k];
            cJSON *value = cJSON_CreateObject();
            cJSON_AddItemToObject(value, "value", cJSON_Parse(v->text));
            add_number(value, "best_us", v->measured > 0, 1e6 * v->best);
            cJSON_AddNumberToObject(value, "measured", v->measured);
            cJSON_AddNumberToObject(value, "not_measured", v->other);
            cJSON_AddItemToArray(values, value);
        }
        cJSON_AddItemToArray(list, o);
    }
    return list;
}

static cJSON *reasons_json(const survey_reasons *reasons)
{
    cJSON *list = cJSON_CreateArray();
    for (int i = 0; i < reasons->count; i++) {
        cJSON *o = cJSON_CreateObject();
        cJSON_AddStringToObject(o, "outcome", store_outcome_names[reasons->items[i].outcome]);
        cJSON_AddStringToObject(o, "reason", reasons->items[i].text);
        cJSON_AddNumberToObject(o, "answers", reasons->items[i].count);
        cJSON_AddItemToArray(list, o);
    }
    return list;
}

static void add_default(cJSON *o, const struct tune_report_row *row)
{
    cJSON_AddItemToObject(o, "default_parameters",
                          row->chosen ? cJSON_Parse(row->chosen) : cJSON_CreateNull());
    if (!row->chosen)
        cJSON_AddStringToObject(o, "default_unknown", row->why ? row->why : "");
    cJSON_AddItemToObject(o, "default", answer_json(row->standard));
}

static void add_limit(cJSON *o, const roofline_limit *l)
{
    add_number(o, "limit_bytes", l->bytes > 0, l->bytes);
    add_number(o, "limit_flops", l->bytes > 0, l->flops);
    add_number(o, "limit_us", l->seconds > 0, 1e6 * l->seconds);
    if (l->seconds > 0)
        cJSON_AddStringToObject(o, "limited_by", l->by_memory ? "bytes" : "flops");
}

static cJSON *row_json(const struct tune_report_row *row)
{
    const survey_contest *c = row->contest;
    cJSON *o = cJSON_CreateObject();
    cJSON_AddNumberToObject(o, "device", c->device);
    cJSON_AddNumberToObject(o, "spec", c->spec);
    cJSON_AddStringToObject(o, "implementation", verify_implementation_names[c->implementation]);
    cJSON_AddStringToObject(o, "family", c->family);
    cJSON_AddNumberToObject(o, "tokens", (double)c->bucket.tokens);
    cJSON_AddNumberToObject(o, "batch", c->bucket.batch);
    cJSON_AddNumberToObject(o, "queries", c->bucket.queries);
    cJSON_AddBoolToObject(o, "cold_l2", c->mode.cold_l2);
    cJSON_AddBoolToObject(o, "in_graph", c->mode.in_graph);
    add_number(o, "candidates", row->candidates > 0, row->candidates);
    cJSON_AddNumberToObject(o, "measured", c->outcomes[STORE_MEASURED]);
    cJSON_AddNumberToObject(o, "wrong", c->outcomes[STORE_WRONG]);
    cJSON_AddNumberToObject(o, "failed", tune_report_failed(c));
    add_default(o, row);
    cJSON_AddItemToObject(o, "best", answer_json(row->best));
    add_number(o, "gain", row->gain > 0, row->gain);
    cJSON_AddBoolToObject(o, "beyond_spread", row->is_certain);
    add_limit(o, &row->limit);
    cJSON_AddItemToObject(o, "sensitivity", parameters_json(&row->parameters));
    cJSON_AddItemToObject(o, "reasons", reasons_json(&row->reasons));
    return o;
}

static cJSON *match_json(const survey_match *m)
{
    cJSON *o = cJSON_CreateObject(), *pairs;
    cJSON_AddNumberToObject(o, "modelled", m->modelled);
    cJSON_AddNumberToObject(o, "measured", m->measured);
    cJSON_AddNumberToObject(o, "median_measured_over_modelled", m->ratio);
    add_number(o, "rank_correlation", true, m->rank);
    pairs = cJSON_AddArrayToObject(o, "pairs_us");
    for (int i = 0; i < m->count; i++)
        cJSON_AddItemToArray(
            pairs,
            cJSON_CreateDoubleArray((double[]){1e6 * m->pairs[i].modelled, 1e6 * m->pairs[i].measured}, 2));
    return o;
}

cJSON *tune_report_json(const struct tune_report *r)
{
    const survey *s = &r->survey;
    cJSON *root = cJSON_CreateObject(), *list;
    cJSON_AddStringToObject(root, "store", r->path);
    cJSON_AddStringToObject(root, "xq", xq_version());
    cJSON_AddNumberToObject(root, "answers", (double)s->answers);
    cJSON_AddNumberToObject(root, "first_taken", (double)s->first);
    cJSON_AddNumberToObject(root, "last_taken", (double)s->last);
    list = cJSON_AddArrayToObject(root, "other_sources");
    for (int i = 0; i < s->other_count; i++) {
        cJSON *o = cJSON_CreateObject();
        cJSON_AddStringToObject(o, "implementation",
                                verify_implementation_names[s->others[i].implementation]);
        cJSON_AddStringToObject(o, "source", s->others[i].source);
        cJSON_AddNumberToObject(o, "answers", (double)s->others[i].answers);
        cJSON_AddItemToArray(list, o);
    }
    list = cJSON_AddArrayToObject(root, "devices");
    for (int i = 0; i < s->device_count; i++)
        cJSON_AddItemToArray(list, device_json(&s->devices[i], &r->ceilings[i]));
    list = cJSON_AddArrayToObject(root, "specs");
    for (int i = 0; i < s->spec_count; i++)
        cJSON_AddItemToArray(list, cJSON_Parse(s->specs[i]));
    list = cJSON_AddArrayToObject(root, "contests");
    for (int i = 0; i < s->contest_count; i++)
        cJSON_AddItemToArray(list, row_json(&r->rows[i]));
    cJSON_AddItemToObject(root, "reasons", reasons_json(&r->reasons));
    list = cJSON_AddArrayToObject(root, "modelled_against_measured");
    for (int i = 0; i < r->matches.count; i++)
        cJSON_AddItemToArray(list, match_json(&r->matches.items[i]));
    return root;
}
