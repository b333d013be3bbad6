/* The faults that the kernel `check` finds in calls of a checked plan, on their way to the caller.
 *
 * A call has a ticket: a record, in memory that host and device share, for its fault; and a gate on the
 * device, which its kernels look at. Tickets are used again after FAULT_TICKETS calls: a gate must not be
 * needed any more by then, which is so unless that many calls are under way on several streams. */
#ifndef RUNTIME_LAUNCH_FAULT_LOG_H
#define RUNTIME_LAUNCH_FAULT_LOG_H

#include "context.h"

enum { FAULT_TICKETS = 4096 };

typedef struct fault_log fault_log;

struct fault_ticket {
    int64_t call;
    uint64_t gate, record, bell; /* on the device */
};

/* Joins the context's list, in which xq_device_synchronize looks. Errors: XQ_ERROR_MEMORY,
 * XQ_ERROR_DEVICE_MEMORY, XQ_ERROR_DEVICE. */
xq_status fault_log_open(xq_context *context, fault_log **out, error *err);

/* A fault that nobody asked for is told to the log callback. NULL is fine. */
void fault_log_close(xq_context *context, fault_log *log);

struct fault_ticket fault_log_ticket(fault_log *log);

/* A gate that is always open, for calls in which nothing can be at fault. */
uint64_t fault_log_open_gate(const fault_log *log);

/* The fault of the earliest call that has one becomes the error; those of later calls are forgotten with
 * it, since they are often its consequences. Waits for nothing. Returns err->status. */
xq_status fault_log_take(xq_context *context, fault_log *log, error *err);

/* The same for all plans of the context. */
xq_status fault_log_take_any(xq_context *context, error *err);

#endif
