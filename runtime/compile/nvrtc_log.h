/* Reads the output of NVRTC and ptxas. */
#ifndef RUNTIME_COMPILE_NVRTC_LOG_H
#define RUNTIME_COMPILE_NVRTC_LOG_H

#include "nvrtc.h"

#include <stdbool.h>

struct nvrtc_diagnostic {
    char file[512]; /* "templates/attend.cu.lt"; "" when the log names no place */
    int line;
    char message[512];
};

/* Finds the first error of a log. A header's name gets its folder (templates/lib/). An error of ptxas
 * names a line of the PTX; it is followed through the PTX's .loc directives to the template. */
bool nvrtc_log_first_error(const char *log, const char *ptx, const nvrtc_input *input,
                           struct nvrtc_diagnostic *out);

#endif
