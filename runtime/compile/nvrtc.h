/* NVRTC, loaded with dlopen: CUDA C++ in, PTX and cubin out. May be used from several threads. */
#ifndef RUNTIME_COMPILE_NVRTC_H
#define RUNTIME_COMPILE_NVRTC_H

#include "../base/error.h"

typedef struct nvrtc nvrtc;

/* Looks for libnvrtc.so.13, .12 or libnvrtc.so in these places: $XQ_NVRTC (a file; if it is set, nothing
 * else is tried); CUDA_HOME and CUDA_PATH; the loader's path; /usr/local/cuda*; the `nvidia` packages of
 * Python environments (VIRTUAL_ENV, those on PATH, and the user's). Errors: XQ_ERROR_NO_TOOLCHAIN naming
 * what was tried (all of it in the log). */
xq_status nvrtc_open(nvrtc **out, error *err);

/* The same for a GPU whose driver has CUDA version `driver` (1000 * major + 10 * minor; 0: no GPU). An
 * NVRTC of a later major version is taken only if there is no other, because the driver may refuse its
 * code. */
xq_status nvrtc_open_for(int driver, nvrtc **out, error *err);
void nvrtc_close(nvrtc *library);

int nvrtc_version(const nvrtc *library); /* 1000 * major + 10 * minor */

/* Returns the newest architecture that this NVRTC compiles for and that is no newer than `most` (90 for
 * sm_90); 0: none. */
int nvrtc_newest(const nvrtc *library, int most);
const char *nvrtc_path(const nvrtc *library); /* the path that was given to dlopen */

typedef struct nvrtc_input {
    const char *name; /* name of the source in diagnostics, unless #line says otherwise */
    const char *source;
    int header_count;
    const char *const *header_names, *const *header_texts;
    int option_count;
    const char *const *options; /* --gpu-architecture among them */
} nvrtc_input;

typedef struct nvrtc_output {
    char *ptx;   /* NUL-terminated */
    void *cubin; /* NULL for a virtual architecture (compute_XX) */
    size_t cubin_bytes;
    char *log; /* never NULL; may be empty */
} nvrtc_output;

/* Compiles. Errors: XQ_ERROR_COMPILE with the log, and with the template's file and line if the log gives
 * one. */
xq_status nvrtc_compile(const nvrtc *library, const nvrtc_input *input, nvrtc_output *out, error *err);
void nvrtc_output_free(nvrtc_output *out);

/* The report of ptxas on one kernel. It is present if the options hold --ptxas-options=-v and the
 * architecture is a real one. */
typedef struct nvrtc_resources {
    char entry[128];
    int registers, barriers;
    int stack_bytes, spill_store_bytes, spill_load_bytes;
    int shared_bytes; /* static shared memory */
} nvrtc_resources;

/* Fills up to `max` entries in the order of the log; returns how many entries the log holds. */
int nvrtc_resource_report(const char *log, nvrtc_resources *out, int max);

#endif
