#include "watch.h"

#include <stdio.h>

/* ------------------------------------------------------------------ adding */

static int most(int a, int b)
{
    return a > b ? a : b;
}

/* The smaller of two figures. A negative figure is unknown. */
static int least(int a, int b)
{
    return a < 0 || (b >= 0 && b < a) ? b : a;
}

static void add_load(measure_load *to, const measure_load *later)
{
    if (!later->known)
        return;
    if (!to->known) {
        *to = *later;
        return;
    }
    to->processes = most(to->processes, later->processes);
    to->sm_low = least(to->sm_low, later->sm_low);
    to->sm_high = most(to->sm_high, later->sm_high);
    to->memory_low = least(to->memory_low, later->memory_low);
    to->memory_high = most(to->memory_high, later->memory_high);
    to->lowered |= later->lowered;
}

void measure_noticed_add(measure_noticed *to, const measure_noticed *later)
{
    if (!*to->unlocked)
        snprintf(to->unlocked, sizeof to->unlocked, "%s", later->unlocked);
    add_load(&to->load, &later->load);
}

/* ---------------------------------------------------------------- watching */

/* Reads the state of the GPU. Its clocks count at the end of a measurement, when the GPU has worked. Its
 * load counts before the first measurement, when it does not come from this process. */
static void look(measure_watch *watch, const device *d, bool ended)
{
    if (!watch->looked_for)
        watch->nvml = nvml_open(d->properties.uuid);
    watch->looked_for = true;
    if (!watch->nvml)
        return;
    const nvml_state s = nvml_look(watch->nvml);
    const measure_load seen = {.known = true,
                               .processes = s.processes,
                               .busy = s.busy,
                               .sm_low = ended ? s.sm : -1,
                               .sm_high = ended ? s.sm : -1,
                               .memory_low = ended ? s.memory : -1,
                               .memory_high = ended ? s.memory : -1,
                               .lowered = ended ? s.lowered : 0};
    add_load(&watch->noticed.load, &seen);
}

measure_turn measure_watch_begin(measure_watch *watch, device *d)
{
    error err = ERROR_INIT;
    if (!watch || d->properties.is_sim)
        return (measure_turn){-1};
    measure_turn turn = measure_turn_take(d->properties.uuid, watch->waits, watch->user, &err);
    if (err.status != XQ_OK && !*watch->noticed.unlocked)
        snprintf(watch->noticed.unlocked, sizeof watch->noticed.unlocked, "%.255s", err.message);
    error_clear(&err);
    look(watch, d, false);
    return turn;
}

void measure_watch_end(measure_watch *watch, device *d, measure_turn *turn)
{
    if (watch && !d->properties.is_sim)
        look(watch, d, true);
    measure_turn_end(turn);
}

void measure_watch_close(measure_watch *watch)
{
    nvml_close(watch->nvml);
    watch->nvml = NULL;
    watch->looked_for = false;
}
