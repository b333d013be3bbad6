#include "fault_log.h"
#include "fault_text.h"

#include <stdlib.h>

/* The memory that host and device share. */
struct shared {
    int bell, reserved;
    struct xq_fault_record records[FAULT_TICKETS];
};

struct fault_log {
    fault_log *next; /* next log of the context */
    struct device *device;
    uint64_t gates; /* int [FAULT_TICKETS + 1]; the last one is always 0 */
    uint64_t place; /* device address of `shared` */
    struct shared *shared;
    int64_t calls; /* calls so far */
};

static void release(fault_log *log)
{
    error ignored = ERROR_INIT; /* freeing fails only after a fault that was reported already */
    if (log->shared)
        log->device->ops->shared_free(log->device, log->place, log->shared, &ignored);
    if (log->gates)
        log->device->ops->free(log->device, log->gates, &ignored);
    error_clear(&ignored);
    free(log);
}

xq_status fault_log_open(xq_context *context, fault_log **out, error *err)
{
    device *d = context->device;
    size_t gates = (FAULT_TICKETS + 1) * sizeof(int);
    void *host = NULL;
    fault_log *log = (fault_log *)calloc(1, sizeof *log);
    if (!log)
        return error_set(err, XQ_ERROR_MEMORY, "device", "out of memory");
    log->device = d;
    if (d->ops->alloc(d, gates, &log->gates, err) == XQ_OK &&
        d->ops->fill(d, log->gates, 0, gates, err) == XQ_OK)
        d->ops->shared_alloc(d, sizeof *log->shared, &log->place, &host, err);
    log->shared = (struct shared *)host;
    if (err->status != XQ_OK) {
        release(log);
        return err->status;
    }
    pthread_mutex_lock(&context->fault_lock);
    log->next = context->fault_logs;
    context->fault_logs = log;
    pthread_mutex_unlock(&context->fault_lock);
    *out = log;
    return XQ_OK;
}

static void leave_list(xq_context *context, const fault_log *log)
{
    pthread_mutex_lock(&context->fault_lock);
    fault_log **link = &context->fault_logs;
    while (*link != log)
        link = &(*link)->next;
    *link = log->next;
    pthread_mutex_unlock(&context->fault_lock);
}

void fault_log_close(xq_context *context, fault_log *log)
{
    if (!log)
        return;
    error err = ERROR_INIT;
    if (fault_log_take(context, log, &err) != XQ_OK)
        log_message(&context->log, XQ_LOG_WARNING,
                    "a checked plan is destroyed before its fault was reported: %s", err.message);
    error_clear(&err);
    leave_list(context, log);
    release(log);
}

struct fault_ticket fault_log_ticket(fault_log *log)
{
    int64_t call = __atomic_fetch_add(&log->calls, 1, __ATOMIC_RELAXED);
    uint64_t ticket = (uint64_t)call % FAULT_TICKETS;
    return (struct fault_ticket){
        .call = call,
        .gate = log->gates + ticket * sizeof(int),
        .record = log->place + offsetof(struct shared, records) + ticket * sizeof(struct xq_fault_record),
        .bell = log->place + offsetof(struct shared, bell),
    };
}

uint64_t fault_log_open_gate(const fault_log *log)
{
    return log->gates + FAULT_TICKETS * sizeof(int);
}

/* Returns the fault of the earliest call, and empties all records. */
static struct xq_fault empty_records(struct shared *shared)
{
    struct xq_fault_record first = {.fault = {.kind = 0}};
    for (int i = 0; i < FAULT_TICKETS; i++) {
        struct xq_fault_record *r = &shared->records[i];
        if (!__atomic_load_n(&r->full, __ATOMIC_ACQUIRE))
            continue;
        if (!first.full || r->call < first.call)
            first = *r;
        __atomic_store_n(&r->full, 0, __ATOMIC_RELEASE);
    }
    return first.fault;
}

static bool is_rung(const fault_log *log)
{
    return __atomic_load_n(&log->shared->bell, __ATOMIC_RELAXED);
}

/* One thread at a time may call this. The bell is reset before the records are read, so that no record is
 * missed. */
static xq_status take_fault(fault_log *log, error *err)
{
    struct xq_fault fault = {.kind = 0};
    if (__atomic_exchange_n(&log->shared->bell, 0, __ATOMIC_ACQ_REL))
        fault = empty_records(log->shared);
    return fault.kind ? fault_error(&fault, err) : err->status;
}

xq_status fault_log_take(xq_context *context, fault_log *log, error *err)
{
    if (!is_rung(log))
        return err->status;
    pthread_mutex_lock(&context->fault_lock);
    take_fault(log, err);
    pthread_mutex_unlock(&context->fault_lock);
    return err->status;
}

xq_status fault_log_take_any(xq_context *context, error *err)
{
    pthread_mutex_lock(&context->fault_lock);
    for (fault_log *log = context->fault_logs; log && err->status == XQ_OK; log = log->next)
        if (is_rung(log))
            take_fault(log, err);
    pthread_mutex_unlock(&context->fault_lock);
    return err->status;
}
