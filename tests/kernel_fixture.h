/* What kernel tests share: a spec on the software device, memory that is released with it, and random
 * sequences in shuffled, poisoned pages. Failures end the test. */
#ifndef TESTS_KERNEL_FIXTURE_H
#define TESTS_KERNEL_FIXTURE_H

#include "../autotune/reference/reference.h"
#include "../runtime/base/random.h"
#include "../runtime/plan/kernel_build.h"

#include "params.h"

#define FIXTURE_MAX_BATCH   8
#define FIXTURE_MAX_BUFFERS 64
#define FIXTURE_MAX_KERNELS 8
#define FIXTURE_NAN         0xffff /* f16 */

/* A kernel as it was compiled, and as it is loaded. */
typedef struct test_kernel {
    kernel_build *build; /* NULL: made of a test's own source */
    kernel *loaded;
} test_kernel;

/* Compiles and loads a family for a completed spec. On failure *out is empty. */
xq_status test_kernel_open(xq_context *context, const char *completed, const char *family, test_kernel *out,
                           error *err);
void test_kernel_close(test_kernel *k);

typedef struct fixture {
    xq_context *context;
    char *completed; /* the spec */
    reference_model model;
    int page, group, bits;
    test_kernel kernels[FIXTURE_MAX_KERNELS];
    int kernel_count;
    uint64_t buffers[FIXTURE_MAX_BUFFERS];
    int buffer_count;
} fixture;

/* A spec as JSON, in static memory: ranks that are not all dkv for "latent"; `tuning` is the inside of its
 * object. */
const char *fixture_spec(const char *method, int hidden, int heads, int kv_heads, int head_dim, int page,
                         int bits, int group, const char *tuning);

void fixture_open(fixture *f, const char *spec_json);
/* On another software device than the default one: "sim:a100", for its architecture too. */
void fixture_open_on(fixture *f, const char *device_name, const char *spec_json);
void fixture_close(fixture *f);

/* Loads a family; it belongs to the fixture. */
test_kernel *fixture_kernel(fixture *f, const char *family);
/* A kernel `test` of CUDA source that includes templates/lib headers; it belongs to the fixture. */
test_kernel *fixture_source(fixture *f, const char *source, int threads);
int fixture_constant(const test_kernel *k, const char *name);

/* Device memory until fixture_release: with a copy of `data`, or filled with a byte. */
uint64_t fixture_upload(fixture *f, const void *data, size_t bytes);
uint64_t fixture_filled(fixture *f, uint8_t value, size_t bytes);
void *fixture_download(fixture *f, uint64_t pointer, size_t bytes); /* caller frees */
void fixture_release(fixture *f);

void fixture_launch(fixture *f, const test_kernel *k, int grid_x, int grid_y, int grid_z,
                    const void *params, size_t params_bytes);

/* What the software device has counted since the last call. */
device_counters fixture_counters(fixture *f);

/* Rows [rows, heads, head_dim] in double precision, row r rotated to position first + r; the caller frees
 * them. */
double *fixture_rotated(const fixture *f, const uint16_t *halves, int rows, int heads, int first);

/* Sequences in pages: lengths around the edges of pages and tiles, zero included; page ids shuffled;
 * indices beyond the table name no page, and neither do the last_page_len of empty sequences say anything.
 */
typedef struct paged {
    int batch, page, entries, longest;
    int pool; /* pages, more than the table names */
    int lengths[FIXTURE_MAX_BATCH];
    int32_t indptr[FIXTURE_MAX_BATCH + 1], last_page_len[FIXTURE_MAX_BATCH];
    int32_t *indices;
} paged;

void paged_draw(random_stream *r, paged *p, int batch, int page, int longest, bool in_order);
void paged_free(paged *p);
struct xq_table paged_upload(fixture *f, const paged *p, bool without_indices);

/* The page that holds a token. */
int paged_page(const paged *p, int sequence, int token);

/* Element offset of a token's row in KV pages; which: 0 K, 1 V. */
size_t kv_row(const fixture *f, int page, int which, int slot);

/* Pages of 16-bit elements as pages of e4m3, which the caller frees. */
uint8_t *kv_narrow(const fixture *f, const uint16_t *kv, int pages, bool bf16, float k_scale,
                   float v_scale);

#endif
