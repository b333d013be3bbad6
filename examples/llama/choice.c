#include "choice.h"
#include "fail.h"

#include <stdlib.h>
#include <string.h>

static const char *const names[] = {"f32", "fp16", "kivi", "x", "latent", "x-cl", "latent-cl"};
const char method_names[] = "f32, fp16, kivi, x, latent, x-cl, latent-cl";

const char *method_name(method m)
{
    return names[m];
}

int method_find(const char *name, method *m)
{
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (strcmp(names[i], name) == 0) {
            *m = (method)i;
            return 1;
        }
    return 0;
}

/* The layer's entry of the --layer-bits list. */
static int listed_bits(const char *list, int layers, int layer)
{
    int count = 0, bits = 0;
    for (const char *at = list; *at;) {
        char *end;
        long value = strtol(at, &end, 10);
        if (end == at || (*end && *end != ',') || (*end == ',' && !end[1]))
            fail(EXIT_USAGE,
                 "--layer-bits: '%s' is no list of numbers; valid: B,B,... with one number for each layer",
                 list);
        if (value < 1 || value > 16)
            fail(EXIT_INPUT, "--layer-bits: '%s' has a number out of range; valid: 1 to 16", list);
        if (count++ == layer)
            bits = (int)value;
        at = *end ? end + 1 : end;
    }
    if (count != layers)
        fail(EXIT_INPUT, "--layer-bits: it lists %d layers; the model has %d", count, layers);
    return bits;
}

int choice_bits(const choice *c, int layers, int layer)
{
    if (c->layer_bits)
        return listed_bits(c->layer_bits, layers, layer);
    return layer < c->first_layers ? c->first_bits : c->bits;
}
