#include "noticed.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { BUSY = 10 }; /* percent; a desktop alone causes less */

static const struct {
    uint64_t bit;
    const char *name;
    bool warns; /* reaching the power limit is usual under full load */
} reasons[] = {{MEASURE_POWER_LIMIT, "power limit", false},
               {MEASURE_SLOWDOWN, "slowdown", true},
               {MEASURE_SOFTWARE_HEAT, "temperature (software)", true},
               {MEASURE_HARDWARE_HEAT, "temperature (hardware)", true},
               {MEASURE_POWER_BRAKE, "power brake", true}};
enum { REASONS = sizeof reasons / sizeof reasons[0] };

/* ----------------------------------------------------------------- warning */

struct line {
    char text[1024];
};

/* Appends one clause. */
static void add(struct line *line, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void add(struct line *line, const char *format, ...)
{
    size_t length = strlen(line->text);
    va_list arguments;
    if (length > 0)
        length += (size_t)snprintf(line->text + length, sizeof line->text - length, "; ");
    va_start(arguments, format);
    vsnprintf(line->text + length, sizeof line->text - length, format, arguments);
    va_end(arguments);
}

static void add_lowered(struct line *line, uint64_t lowered)
{
    char names[160] = "";
    for (int i = 0; i < REASONS; i++)
        if (reasons[i].warns && lowered & reasons[i].bit)
            snprintf(names + strlen(names), sizeof names - strlen(names), "%s%s", *names ? ", " : "",
                     reasons[i].name);
    if (*names)
        add(line, "its clocks were lowered: %s", names);
}

void cli_warn_noticed(const char *subcommand, const struct cli_common *common,
                      const measure_noticed *noticed)
{
    const measure_load *load = &noticed->load;
    struct line line = {""};
    if (*noticed->unlocked)
        add(&line, "measurements did not wait for other processes that measure: %s", noticed->unlocked);
    if (load->known && load->processes > 0)
        add(&line, "%d other process%s the GPU", load->processes,
            load->processes == 1 ? " uses" : "es use");
    if (load->known && load->busy >= BUSY)
        add(&line, "the GPU was busy for %d %% of the time before the first measurement", load->busy);
    if (load->known)
        add_lowered(&line, load->lowered);
    if (*line.text && !common->quiet)
        fprintf(stderr, "xq %s: warning: times may be off: %s\n", subcommand, line.text);
}

/* -------------------------------------------------------------------- JSON */

static void add_figure(cJSON *o, const char *name, int value)
{
    if (value >= 0)
        cJSON_AddNumberToObject(o, name, value);
    else
        cJSON_AddNullToObject(o, name);
}

void cli_add_load(cJSON *object, const measure_noticed *noticed)
{
    const measure_load *load = &noticed->load;
    if (!load->known) {
        cJSON_AddNullToObject(object, "load");
        return;
    }
    cJSON *o = cJSON_AddObjectToObject(object, "load");
    add_figure(o, "processes", load->processes);
    add_figure(o, "busy_percent", load->busy);
    add_figure(o, "sm_mhz_low", load->sm_low);
    add_figure(o, "sm_mhz_high", load->sm_high);
    add_figure(o, "memory_mhz_low", load->memory_low);
    add_figure(o, "memory_mhz_high", load->memory_high);
    cJSON *names = cJSON_AddArrayToObject(o, "clocks_lowered_by");
    for (int i = 0; i < REASONS; i++)
        if (load->lowered & reasons[i].bit)
            cJSON_AddItemToArray(names, cJSON_CreateString(reasons[i].name));
}
