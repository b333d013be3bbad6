/* Computes how much each parameter matters in a contest. */
#include "survey.h"

#include <cjson/cJSON.h>
#include <stdlib.h>
#include <string.h>

void survey_parameters_free(survey_parameters *p)
{
    for (int i = 0; i < p->count; i++) {
        for (int k = 0; k < p->items[i].count; k++)
            free(p->items[i].values[k].text);
        free(p->items[i].values);
        free(p->items[i].name);
    }
    free(p->items);
    *p = (survey_parameters){0};
}

static survey_parameter *parameter_of(survey_parameters *p, const char *name, error *err)
{
    for (int i = 0; i < p->count; i++)
        if (strcmp(p->items[i].name, name) == 0)
            return &p->items[i];
    survey_parameter *more = survey_grow(p->items, p->count, sizeof *more, err);
    if (!more)
        return NULL;
    p->items = more;
    more[p->count] = (survey_parameter){.name = survey_copy(name, err)};
    return err->status == XQ_OK ? &more[p->count++] : NULL;
}

static survey_value *value_of(survey_parameter *p, const char *text, error *err)
{
    for (int i = 0; i < p->count; i++)
        if (strcmp(p->values[i].text, text) == 0)
            return &p->values[i];
    survey_value *more = survey_grow(p->values, p->count, sizeof *more, err);
    if (!more)
        return NULL;
    p->values = more;
    more[p->count] = (survey_value){.text = survey_copy(text, err)};
    return err->status == XQ_OK ? &more[p->count++] : NULL;
}

static xq_status add_value(survey_parameters *p, const cJSON *item, const survey_answer *a, error *err)
{
    char *text = cJSON_PrintUnformatted(item);
    survey_parameter *parameter = text ? parameter_of(p, item->string, err) : NULL;
    survey_value *v = parameter ? value_of(parameter, text, err) : NULL;
    if (!text)
        error_set(err, XQ_ERROR_MEMORY, "file", "out of memory");
    free(text);
    if (!v)
        return err->status;
    if (a->outcome != STORE_MEASURED)
        v->other++;
    else if (v->measured++ == 0 || a->seconds < v->best)
        v->best = a->seconds;
    return XQ_OK;
}

/* Orders numbers before other values. */
static int by_value(const void *a, const void *b)
{
    const char *x = ((const survey_value *)a)->text, *y = ((const survey_value *)b)->text;
    char *x_end, *y_end;
    double x_number = strtod(x, &x_end), y_number = strtod(y, &y_end);
    bool x_is_number = x_end != x, y_is_number = y_end != y;
    if (x_is_number != y_is_number)
        return x_is_number ? -1 : 1;
    if (x_is_number && x_number != y_number)
        return x_number < y_number ? -1 : 1;
    return strcmp(x, y);
}

static int by_ratio(const void *a, const void *b)
{
    const survey_parameter *x = a, *y = b;
    return x->ratio != y->ratio ? (x->ratio > y->ratio ? -1 : 1) : strcmp(x->name, y->name);
}

static double ratio_of(const survey_parameter *p)
{
    double best = 0, worst = 0;
    int measured = 0;
    for (int i = 0; i < p->count; i++) {
        const survey_value *v = &p->values[i];
        if (!v->measured)
            continue;
        best = measured && best < v->best ? best : v->best;
        worst = worst > v->best ? worst : v->best;
        measured++;
    }
    return measured > 1 ? worst / best : 0;
}

xq_status survey_parameters_make(const survey_contest *c, survey_parameters *out, error *err)
{
    *out = (survey_parameters){0};
    for (int i = 0; i < c->count && err->status == XQ_OK; i++) {
        cJSON *all = cJSON_Parse(c->answers[i].parameters);
        for (const cJSON *item = all ? all->child : NULL; item && err->status == XQ_OK; item = item->next)
            add_value(out, item, &c->answers[i], err);
        cJSON_Delete(all);
    }
    for (int i = 0; i < out->count; i++) {
        survey_parameter *p = &out->items[i];
        qsort(p->values, (size_t)p->count, sizeof *p->values, by_value);
        p->ratio = ratio_of(p);
    }
    if (out->count)
        qsort(out->items, (size_t)out->count, sizeof *out->items, by_ratio);
    return err->status;
}
