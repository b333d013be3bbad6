/* Carries the faults that the kernel `check` finds in calls of a checked plan to the caller.
 *
 * Every call has a ticket. A ticket has a record for the call's fault, in memory that host and device
 * share, and a gate on the device, which the call's kernels look at. Tickets are reused after
 * FAULT_TICKETS calls. By then a gate must no longer be needed, which holds unless that many calls are
 * under way on several streams. */
#ifndef RUNTIME_LAUNCH_FAULT_LOG_H
#define RUNTIME_LAUNCH_FAULT_LOG_H

#include "context.h"

enum { FAULT_TICKETS = 4096 };

typedef struct fault_log fault_log;

struct fault_ticket {
    int64_t call;
    uint64_t gate, record, bell; /* device addresses */
};

/* Opens a log, and adds it to the context's list, in which xq_device_synchronize looks for faults. Errors:
 * XQ_ERROR_MEMORY, XQ_ERROR_DEVICE_MEMORY, XQ_ERROR_DEVICE. */
xq_status fault_log_open(xq_context *context, fault_log **out, error *err);

/* Closes a log. A fault that was never reported goes to the log callback. NULL is fine. */
void fault_log_close(xq_context *context, fault_log *log);

struct fault_ticket fault_log_ticket(fault_log *log);

/* A gate that is always open, for calls in which nothing can be at fault. */
uint64_t fault_log_open_gate(const fault_log *log);

/* The fault of the earliest call that has one becomes the error. The faults of later calls are forgotten
 * with it, because they are often its consequences. Does not wait. Returns err->status. */
xq_status fault_log_take(xq_context *context, fault_log *log, error *err);

/* The same for all plans of the context. */
xq_status fault_log_take_any(xq_context *context, error *err);

#endif
