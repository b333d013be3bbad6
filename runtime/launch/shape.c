#include "shape.h"

#include <string.h>

const struct shape_matrix *shape_matrix(const struct shape_weights *weights, const char *name)
{
    for (int i = 0; i < weights->matrix_count; i++)
        if (strcmp(weights->matrices[i].name, name) == 0)
            return &weights->matrices[i];
    return NULL;
}

const struct shape_vector *shape_vector(const struct shape_weights *weights, const char *name)
{
    for (int i = 0; i < weights->vector_count; i++)
        if (strcmp(weights->vectors[i].name, name) == 0)
            return &weights->vectors[i];
    return NULL;
}
