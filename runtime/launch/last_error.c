/* Records are found by thread, under a lock that only failing calls take. A record lives as long as its
 * context, but once its thread has ended it may be dropped to make room. */
#include "last_error.h"
#include "../base/descriptor.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

struct thread_error {
    struct thread_error *next;
    pid_t thread;
    error detail;
};

/* If there are more records than this, those of finished threads are dropped. */
enum { MANY_THREADS = 64 };

static pid_t this_thread(void)
{
    return (pid_t)syscall(SYS_gettid);
}

static struct thread_error *find(const xq_context *context, pid_t thread)
{
    struct thread_error *e = context->errors;
    while (e && e->thread != thread)
        e = e->next;
    return e;
}

static void drop_finished(xq_context *context)
{
    int count = 0;
    for (struct thread_error *e = context->errors; e; e = e->next)
        count++;
    if (count < MANY_THREADS)
        return;
    for (struct thread_error **link = &context->errors; *link;) {
        struct thread_error *e = *link;
        if (syscall(SYS_tgkill, getpid(), e->thread, 0) == 0) {
            link = &e->next;
            continue;
        }
        *link = e->next;
        error_clear(&e->detail);
        free(e);
    }
}

xq_status context_fail(xq_context *context, error *err)
{
    xq_status status = err->status;
    pid_t thread = this_thread();
    pthread_mutex_lock(&context->error_lock);
    struct thread_error *e = find(context, thread);
    if (!e) {
        drop_finished(context);
        e = (struct thread_error *)calloc(1, sizeof *e);
        if (e) {
            e->thread = thread;
            e->next = context->errors;
            context->errors = e;
        }
    }
    if (e) {
        error_clear(&e->detail);
        e->detail = *err;
        *err = (error)ERROR_INIT;
    }
    pthread_mutex_unlock(&context->error_lock);
    error_clear(err);
    return status;
}

void last_error_free_all(xq_context *context)
{
    while (context->errors) {
        struct thread_error *e = context->errors;
        context->errors = e->next;
        error_clear(&e->detail);
        free(e);
    }
}

/* The last failure of the calls without a context. It is the only state that the library keeps outside of
 * objects: threads do not share it, and it needs no memory that anyone would have to free. */
static __thread struct {
    xq_status status;
    char field[sizeof((error *)0)->field], message[sizeof((error *)0)->message];
} without_context;

xq_status last_error_keep(error *err)
{
    without_context.status = err->status;
    snprintf(without_context.field, sizeof without_context.field, "%s", err->field);
    snprintf(without_context.message, sizeof without_context.message, "%s", err->message);
    error_clear(err);
    return without_context.status;
}

static xq_status read_without_context(xq_error_detail *detail)
{
    if (without_context.status == XQ_OK)
        return XQ_ERROR_ARGUMENT;
    const xq_error_detail full = {
        .struct_size = sizeof full,
        .status = without_context.status,
        .stage = "argument",
        .message = without_context.message,
        .field = without_context.field[0] ? without_context.field : NULL,
    };
    error err = ERROR_INIT;
    return descriptor_write(detail, &full, sizeof full, sizeof full, "detail", &err);
}

xq_status xq_last_error(const xq_context *context, xq_error_detail *detail)
{
    if (!detail)
        return XQ_ERROR_ARGUMENT;
    if (!context)
        return read_without_context(detail);
    xq_error_detail full = XQ_ERROR_DETAIL_INIT;
    xq_context *c = (xq_context *)context; /* the lock is not part of the state that a reader sees */
    pthread_mutex_lock(&c->error_lock);
    const struct thread_error *e = find(c, this_thread());
    pthread_mutex_unlock(&c->error_lock);
    if (e) {
        full.status = e->detail.status;
        full.stage = e->detail.stage;
        full.message = e->detail.message;
        full.field = e->detail.field[0] ? e->detail.field : NULL;
        full.file = e->detail.file[0] ? e->detail.file : NULL;
        full.line = e->detail.line;
        full.log = e->detail.log;
    }
    error err = ERROR_INIT;
    return descriptor_write(detail, &full, sizeof full, sizeof full, "detail", &err);
}

xq_status last_error_read(const xq_context *context, xq_status status, error *err)
{
    xq_error_detail detail = XQ_ERROR_DETAIL_INIT;
    if (!context || xq_last_error(context, &detail) != XQ_OK || detail.status != status)
        return error_set(err, status, "argument", "%s",
                         status == XQ_ERROR_MEMORY ? "out of memory" : xq_status_name(status));
    error_set(err, status, detail.stage, "%s", detail.message);
    if (detail.file)
        error_at(err, detail.file, detail.line);
    if (detail.field)
        error_field(err, detail.field);
    return error_log(err, detail.log);
}
