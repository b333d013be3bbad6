#include "tuned_table.h"

#include "files.h"
#include "generator.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static error err = ERROR_INIT;

static gen_hash shape_of(const char *spec_json)
{
    gen_hash hash;
    char *completed = generator_complete(spec_json);
    cr_assert_eq(gen_shape(generator(), completed, &hash, &err), XQ_OK, "%s", err.message);
    free(completed);
    return hash;
}

const char *tuned_source(gen *g)
{
    static gen_hash hash;
    cr_assert_eq(gen_family_source(g, "attend", &hash, &err), XQ_OK);
    return hash.hex;
}

static int print_result(char *to, size_t room, const struct tuned_result *r, const char *shape)
{
    char parameters[64];
    snprintf(parameters, sizeof parameters, "{\"warps\": %d}", r->warps ? r->warps : 4);
    return snprintf(
        to, room,
        "{\"device\": \"%s\", \"capability\": %d, \"multiprocessors\": %d, \"memory\": 1000000000, "
        "\"modelled\": %s, \"driver\": 0, \"nvrtc\": 13000, \"xq\": \"0.1.0\", \"family\": \"%s\", "
        "\"tokens\": %d, \"batch\": %d, \"queries\": %d, \"shape\": \"%s\", \"source\": \"%s\", "
        "\"spec\": {}, \"parameters\": %s, \"seconds\": 1e-6, \"spread\": 0, "
        "\"default_seconds\": 2e-6, \"default_spread\": 0, \"taken\": 1}",
        r->device ? r->device : "GPU", r->capability ? r->capability : 89,
        r->multiprocessors ? r->multiprocessors : 100, r->measured ? "false" : "true",
        r->family ? r->family : "attend", r->tokens ? r->tokens : 4096, r->batch ? r->batch : 1,
        r->queries ? r->queries : 1, shape, r->source ? r->source : tuned_source(generator()),
        r->parameters ? r->parameters : parameters);
}

const char *tuned_table(const char *spec_json, const struct tuned_result *results, int count)
{
    static char text[1 << 16];
    const gen_hash shape = shape_of(spec_json);
    size_t at = (size_t)snprintf(text, sizeof text, "{\"xq_tuned\": 1, \"results\": [\n");
    for (int i = 0; i < count; i++) {
        at += (size_t)print_result(text + at, sizeof text - at, &results[i], shape.hex);
        at += (size_t)snprintf(text + at, sizeof text - at, "%s\n", i + 1 < count ? "," : "");
        cr_assert_lt(at, sizeof text - 8);
    }
    snprintf(text + at, sizeof text - at, "]}\n");
    return text;
}

const char *tuned_table_use(const char *spec_json, const struct tuned_result *results, int count)
{
    const char *path = files_path(files_directory(), "t.json");
    const char *text = tuned_table(spec_json, results, count);
    files_write(path, text, strlen(text));
    setenv("XQ_TUNED", path, 1);
    return path;
}
