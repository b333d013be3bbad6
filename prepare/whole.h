/* Prepares the layers of a model, several at a time. */
#ifndef PREPARE_WHOLE_H
#define PREPARE_WHOLE_H

#include "calibration.h"
#include "model.h"
#include "prepared_write.h"

typedef struct whole_job {
    const model *source;
    const prepared_contents *contents;
    const calibration *calibration; /* NULL: none */
    int threads;                    /* layers at a time, at most 64; 0: one for each core, up to 16 */
    /* Called from whole_prepare a few times a second, with the number of finished layers, and the finished
     * fraction of this call's work. */
    void (*progress)(void *user, int done, double fraction);
    void *user;
} whole_job;

/* Makes the layers that the writer does not have yet. The file's contents depend neither on the number of
 * threads nor on their order. Errors: the error of the first layer, in the writer's order, that has one. */
xq_status whole_prepare(const whole_job *job, prepared_writer *writer, error *err);

#endif
