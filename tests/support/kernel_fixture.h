/* Code that kernel tests share: a spec on the software device, device memory that the fixture releases, and
 * random sequences in shuffled, poisoned pages. Failures end the test. */
#ifndef TESTS_KERNEL_FIXTURE_H
#define TESTS_KERNEL_FIXTURE_H

#include "../../autotune/reference/reference.h"
#include "../../runtime/base/random.h"
#include "../../runtime/plan/kernel_build.h"

#include "params.h"

#define FIXTURE_MAX_BATCH   8
#define FIXTURE_MAX_BUFFERS 64
#define FIXTURE_MAX_KERNELS 8
#define FIXTURE_NAN         0xffff /* a NaN as f16 */

/* A kernel: its build, and the loaded kernel. */
typedef struct test_kernel {
    kernel_build *build; /* NULL: compiled from a test's own source */
    kernel *loaded;
} test_kernel;

/* Compiles and loads the kernel of a family for a completed spec. On failure *out is empty. */
xq_status test_kernel_open(xq_context *context, const char *completed, const char *family, test_kernel *out,
                           error *err);
void test_kernel_close(test_kernel *k);

typedef struct fixture {
    xq_context *context;
    char *completed; /* the completed spec */
    reference_model model;
    int page, group, bits;
    test_kernel kernels[FIXTURE_MAX_KERNELS];
    int kernel_count;
    uint64_t buffers[FIXTURE_MAX_BUFFERS];
    int buffer_count;
} fixture;

/* Writes a spec as JSON into static memory. With method "latent" rank_k is smaller than dkv if dkv is above
 * 64. Weights are f16. `tuning` holds the members of the tuning object. */
const char *fixture_spec(const char *method, int hidden, int heads, int kv_heads, int head_dim, int page,
                         int bits, int group, const char *tuning);

void fixture_open(fixture *f, const char *spec_json);
/* On another software device than the default one: "sim:a100", for its architecture too. */
void fixture_open_on(fixture *f, const char *device_name, const char *spec_json);
void fixture_close(fixture *f);

/* Loads the kernel of a family; it belongs to the fixture. */
test_kernel *fixture_kernel(fixture *f, const char *family);
/* Compiles the kernel `test` from CUDA source, which may include headers of templates/lib; it belongs to
 * the fixture. */
test_kernel *fixture_source(fixture *f, const char *source, int threads);
int fixture_constant(const test_kernel *k, const char *name);

/* Allocates device memory, with a copy of `data` or filled with a byte, that lasts until
 * fixture_release. */
uint64_t fixture_upload(fixture *f, const void *data, size_t bytes);
uint64_t fixture_filled(fixture *f, uint8_t value, size_t bytes);
void *fixture_download(fixture *f, uint64_t pointer, size_t bytes); /* the caller frees it */
void fixture_release(fixture *f);

void fixture_launch(fixture *f, const test_kernel *k, int grid_x, int grid_y, int grid_z,
                    const void *params, size_t params_bytes);

/* Counters of the software device since the last call. */
device_counters fixture_counters(fixture *f);

/* Converts rows [rows, heads, head_dim] to doubles, and rotates row r to position first + r. The caller
 * frees the result. */
double *fixture_rotated(const fixture *f, const uint16_t *halves, int rows, int heads, int first);

/* Random sequences in pages. Their lengths lie around the edges of pages and tiles, and some are zero. Page
 * ids are shuffled unless they are asked for in order. Indices beyond the table name no page, and
 * last_page_len of an empty sequence has no meaning. */
typedef struct paged {
    int batch, page, entries, longest;
    int pool; /* pages in the pool; if shuffled, more than the table names */
    int lengths[FIXTURE_MAX_BATCH];
    int32_t indptr[FIXTURE_MAX_BATCH + 1], last_page_len[FIXTURE_MAX_BATCH];
    int32_t *indices;
} paged;

void paged_draw(random_stream *r, paged *p, int batch, int page, int longest, bool in_order);
void paged_free(paged *p);
struct xq_table paged_upload(fixture *f, const paged *p, bool without_indices);

/* The page that holds a token. */
int paged_page(const paged *p, int sequence, int token);

/* Offset in elements of a token's row in KV pages; which: 0 for K, 1 for V. */
size_t kv_row(const fixture *f, int page, int which, int slot);

/* Returns pages of 16-bit elements as pages of e4m3; the caller frees them. */
uint8_t *kv_narrow(const fixture *f, const uint16_t *kv, int pages, bool bf16, float k_scale,
                   float v_scale);

#endif
