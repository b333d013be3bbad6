/* Preparing the layers of a model, several at a time. */
#ifndef PREPARE_WHOLE_H
#define PREPARE_WHOLE_H

#include "calibration.h"
#include "model.h"
#include "prepared_write.h"

typedef struct whole_job {
    const model *source;
    const prepared_contents *contents;
    const calibration *calibration; /* NULL: none */
    int threads;                    /* layers at a time; 0: one for each core, up to 16 */
    /* Called from whole_prepare a few times a second: layers that are done, the fraction of the work of
     * this call. */
    void (*progress)(void *user, int done, double fraction);
    void *user;
} whole_job;

/* Makes the layers that the writer does not have yet. What is written depends neither on the number of
 * threads nor on their order. Errors: the first layer's that has one. */
xq_status whole_prepare(const whole_job *job, prepared_writer *writer, error *err);

#endif
