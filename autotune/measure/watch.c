#include "watch.h"

#include <stdio.h>

measure_turn measure_watch_begin(measure_watch *watch, device *d)
{
    error err = ERROR_INIT;
    if (!watch || d->properties.is_sim)
        return (measure_turn){-1};
    measure_turn turn = measure_turn_take(d->properties.uuid, watch->waits, watch->user, &err);
    if (err.status != XQ_OK && !*watch->noticed.unlocked)
        snprintf(watch->noticed.unlocked, sizeof watch->noticed.unlocked, "%.255s", err.message);
    error_clear(&err);
    return turn;
}

void measure_watch_end(measure_watch *watch, device *d, measure_turn *turn)
{
    (void)watch;
    (void)d;
    measure_turn_end(turn);
}

void measure_noticed_add(measure_noticed *to, const measure_noticed *later)
{
    if (!*to->unlocked)
        snprintf(to->unlocked, sizeof to->unlocked, "%s", later->unlocked);
}
