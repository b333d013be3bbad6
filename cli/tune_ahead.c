#include "tune_ahead.h"
#include "../runtime/plan/kernel_build.h"
#include "../runtime/plan/spec_view.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <unistd.h>

enum { MOST_THREADS = 16 };

struct waiting {
    struct waiting *next;
    char *spec;
};

struct tune_ahead {
    xq_context *context;
    const char *family;
    pthread_mutex_t lock; /* guards `first`, `end` and `ending` */
    pthread_cond_t change;
    struct waiting *first, **end;
    bool ending;
    pthread_t threads[MOST_THREADS];
    int count;
};

static void compile(struct tune_ahead *a, const char *spec)
{
    char *completed = NULL;
    kernel_build *built = NULL;
    struct spec_view view;
    error err = ERROR_INIT;
    if (context_complete(a->context, spec, &completed, &err) == XQ_OK &&
        spec_view_read(completed, &view, &err) == XQ_OK)
        kernel_build_create(a->context, completed, view.shape.arch, a->family, &built, &err);
    kernel_build_destroy(built);
    free(completed);
    error_clear(&err);
}

/* Takes the first spec that waits; NULL at the end. */
static struct waiting *take(struct tune_ahead *a)
{
    pthread_mutex_lock(&a->lock);
    while (!a->ending && !a->first)
        pthread_cond_wait(&a->change, &a->lock);
    struct waiting *w = a->ending ? NULL : a->first;
    if (w) {
        a->first = w->next;
        if (!a->first)
            a->end = &a->first;
    }
    pthread_mutex_unlock(&a->lock);
    return w;
}

static void *work(void *user)
{
    struct waiting *w;
    while ((w = take(user))) {
        compile(user, w->spec);
        free(w->spec);
        free(w);
    }
    return NULL;
}

struct tune_ahead *tune_ahead_start(xq_context *context, const char *family)
{
    struct tune_ahead *a = calloc(1, sizeof *a);
    long wanted = sysconf(_SC_NPROCESSORS_ONLN) - 1;
    if (!a)
        return NULL;
    a->context = context;
    a->family = family;
    a->end = &a->first;
    pthread_mutex_init(&a->lock, NULL);
    pthread_cond_init(&a->change, NULL);
    wanted = wanted < 1 ? 1 : wanted > MOST_THREADS ? MOST_THREADS : wanted;
    while (a->count < wanted && pthread_create(&a->threads[a->count], NULL, work, a) == 0)
        a->count++;
    if (a->count > 0)
        return a;
    tune_ahead_end(a);
    return NULL;
}

void tune_ahead_add(struct tune_ahead *a, char *spec)
{
    struct waiting *w = a ? malloc(sizeof *w) : NULL;
    if (!w) {
        free(spec);
        return;
    }
    *w = (struct waiting){NULL, spec};
    pthread_mutex_lock(&a->lock);
    *a->end = w;
    a->end = &w->next;
    pthread_cond_signal(&a->change);
    pthread_mutex_unlock(&a->lock);
}

void tune_ahead_end(struct tune_ahead *a)
{
    if (!a)
        return;
    pthread_mutex_lock(&a->lock);
    a->ending = true;
    pthread_cond_broadcast(&a->change);
    pthread_mutex_unlock(&a->lock);
    for (int i = 0; i < a->count; i++)
        pthread_join(a->threads[i], NULL);
    while (a->first) {
        struct waiting *w = a->first;
        a->first = w->next;
        free(w->spec);
        free(w);
    }
    pthread_mutex_destroy(&a->lock);
    pthread_cond_destroy(&a->change);
    free(a);
}
