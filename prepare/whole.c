#include "whole.h"

#include "layer_factor.h"

#include <cblas.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { MOST_THREADS = 64, MOST_BY_ITSELF = 16 /* each thread needs memory for a decomposition */ };

struct work {
    const whole_job *job;
    prepared_writer *writer;
    layer_shape shapes[PREPARED_MOST_METHODS];
    pthread_mutex_t lock; /* guards the members below, and the writer */
    pthread_cond_t turn;
    int next;    /* the next layer to begin, an index in the contents' layers */
    int running; /* running threads */
    error err;
};

/* Adds the layer, and the tensors that factors were made from, to an error. Errors about files already name
 * both. */
static xq_status name_layer(const model *source, int layer, error *err)
{
    if (err->status == XQ_ERROR_FORMAT || err->status == XQ_ERROR_IO)
        return err->status;
    const tensor *k = strstr(err->field, "wk") ? model_projection(source, layer, false) : NULL,
                 *v = strstr(err->field, "wv") ? model_projection(source, layer, true) : NULL,
                 *first = k ? k : v;
    if (!first)
        return error_within(err, "layer %d", layer);
    error_at(err, first->file, 0);
    error_field(err, first->name);
    if (k && v && k != v)
        return error_within(err, "layer %d: tensors %s and %s", layer, k->name, v->name);
    return error_within(err, "layer %d: tensor %s", layer, first->name);
}

/* Computes one layer. It touches no shared state and needs no lock. */
static xq_status make_layer(const struct work *w, int index, layer_weights *out, double lost[2], error *err)
{
    const prepared_contents *c = w->job->contents;
    int layer = c->layers[index];
    if (model_layer(w->job->source, layer, out, err) != XQ_OK)
        return err->status;
    const layer_shape *shape = &w->shapes[c->specs[1] && layer < c->base_layer];
    if ((w->job->calibration ? calibration_factor(w->job->calibration, layer, shape, out, lost, err)
                             : layer_factor(shape, out, lost, err)) != XQ_OK)
        return name_layer(w->job->source, layer, err);
    return XQ_OK;
}

/* Waits until the earlier layers are written, and returns whether this layer is to be written. The caller
 * holds the lock. */
static bool await_turn(struct work *w, int index)
{
    while (w->err.status == XQ_OK && prepared_done(w->writer) < index)
        pthread_cond_wait(&w->turn, &w->lock);
    return w->err.status == XQ_OK;
}

static void *run(void *argument)
{
    struct work *w = argument;
    pthread_mutex_lock(&w->lock);
    while (w->err.status == XQ_OK && w->next < w->job->contents->layer_count) {
        layer_weights weights = {0};
        double lost[2] = {0, 0};
        error err = ERROR_INIT;
        int index = w->next++;
        pthread_mutex_unlock(&w->lock);
        make_layer(w, index, &weights, lost, &err);
        pthread_mutex_lock(&w->lock);
        if (await_turn(w, index)) {
            if (err.status == XQ_OK)
                prepared_add_layer(w->writer, &weights, lost, &err);
            if (err.status != XQ_OK) {
                w->err = err;
                err = (error)ERROR_INIT;
            }
            pthread_cond_broadcast(&w->turn);
        }
        layer_weights_free(&weights);
        error_clear(&err);
    }
    w->running--;
    pthread_cond_broadcast(&w->turn);
    pthread_mutex_unlock(&w->lock);
    return NULL;
}

/* --------------------------------------------------------------- progress */

static double now(clockid_t clock, struct timespec *t)
{
    clock_gettime(clock, t);
    return (double)t->tv_sec + 1e-9 * (double)t->tv_nsec;
}

/* Estimates the finished fraction. After the latest finished layer, it assumes progress at the rate so far,
 * up to 0.9 of the layers that have been begun. */
static double fraction_of(const struct work *w, int before, double seconds, double seconds_at_last)
{
    int done = prepared_done(w->writer) - before, all = w->job->contents->layer_count - before;
    int begun = w->next - before - done;
    if (done == 0)
        return 0;
    double guess = done * seconds / seconds_at_last;
    return (guess < done + 0.9 * begun ? guess : done + 0.9 * begun) / all;
}

/* Reports progress until all threads have ended. The caller holds the lock. */
static void watch(struct work *w)
{
    struct timespec t;
    double begun = now(CLOCK_REALTIME, &t), at_last = begun;
    int before = prepared_done(w->writer), done = before;
    while (w->running > 0) {
        double seconds = now(CLOCK_REALTIME, &t);
        if (prepared_done(w->writer) != done) {
            done = prepared_done(w->writer);
            at_last = seconds;
        }
        if (w->job->progress)
            w->job->progress(w->job->user, done, fraction_of(w, before, seconds - begun, at_last - begun));
        t.tv_nsec += 200000000;
        if (t.tv_nsec >= 1000000000) {
            t.tv_nsec -= 1000000000;
            t.tv_sec++;
        }
        pthread_cond_timedwait(&w->turn, &w->lock, &t);
    }
}

/* ---------------------------------------------------------------- threads */

static int cores(void)
{
    cpu_set_t set;
    int count = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
    return count < MOST_BY_ITSELF ? count : MOST_BY_ITSELF;
}

static int thread_count(const whole_job *job, int layers)
{
    int count = job->threads > 0 ? job->threads : cores();
    count = count < MOST_THREADS ? count : MOST_THREADS;
    return count < layers ? count : layers;
}

xq_status whole_prepare(const whole_job *job, prepared_writer *writer, error *err)
{
    struct work w = {.job = job, .writer = writer, .next = prepared_done(writer), .err = ERROR_INIT};
    pthread_t threads[MOST_THREADS];
    int started = 0, wanted = thread_count(job, job->contents->layer_count - w.next);
    for (int i = 0; i < PREPARED_MOST_METHODS && job->contents->specs[i]; i++)
        if (layer_shape_read(job->contents->specs[i], &w.shapes[i], err) != XQ_OK)
            return err->status;
    /* Threads work on different layers, because that scales better than BLAS's own threads, and results do
     * not depend on the number of threads. */
    openblas_set_num_threads(1);
    pthread_mutex_init(&w.lock, NULL);
    pthread_cond_init(&w.turn, NULL);
    pthread_mutex_lock(&w.lock);
    for (; started < wanted; started++, w.running++)
        if (pthread_create(&threads[started], NULL, run, &w) != 0)
            break;
    if (wanted > 0 && started == 0)
        error_set(&w.err, XQ_ERROR_MEMORY, "argument", "no thread can be started");
    watch(&w);
    pthread_mutex_unlock(&w.lock);
    for (int i = 0; i < started; i++)
        pthread_join(threads[i], NULL);
    pthread_cond_destroy(&w.turn);
    pthread_mutex_destroy(&w.lock);
    if (w.err.status != XQ_OK)
        *err = w.err;
    return err->status;
}
