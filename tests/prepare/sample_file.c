#include "sample_file.h"
#include "../../runtime/base/half.h"
#include "../../runtime/base/publish.h"
#include "../support/files.h"

#include <criterion/criterion.h>
#include <string.h>

const char sample_spec[] =
    SAMPLE_MODEL "\"method\":\"latent\",\"bits\":4,\"groups_k\":1,\"groups_v\":1,\"rank_k\":3,\"rank_v\":1,"
                 "\"rotation\":true},\"tuning\":{}}";
const char sample_cross_spec[] =
    SAMPLE_MODEL "\"method\":\"x-cl\",\"groups_k\":1,\"groups_v\":1,\"rank_k\":2,\"rank_v\":0}}";
static float uk[6] = {1, 2, 3, 4, 5, 6}, ak[3] = {0.1f, -65504, 1e-8f}, uv[2] = {7, 8}, av[1] = {9};
static float wk[2] = {1, 2}, wv[2] = {3, 4};
static float bk[1] = {0.3f}, bv[1] = {1e9f}; /* vectors stay f32 */
const layer_weights sample_layer = {.uk = uk, .ak = ak, .uv = uv, .av = av, .bk = bk, .bv = bv};
const layer_weights sample_cross_layer = {.wk = wk, .wv = wv, .bk = bk, .bv = bv};
const double sample_lost[2] = {0.1, 0.25};
const int sample_layers[2] = {2, 7};

prepared_contents sample_contents(tensor_type type)
{
    return (prepared_contents){
        .specs = {sample_spec}, .layers = sample_layers, .layer_count = 2, .store = type, .source = 42};
}

prepared_writer *sample_create(const char *path, const prepared_contents *c)
{
    prepared_writer *w;
    publication *file;
    error err = ERROR_INIT;
    cr_assert_eq(publish_resume(path, &file, &err), XQ_OK, "%s", err.message);
    cr_assert_eq(prepared_create(file, c, &w, &err), XQ_OK, "%s", err.message);
    return w;
}

void sample_add(prepared_writer *w, const layer_weights *weights)
{
    error err = ERROR_INIT;
    cr_assert_eq(prepared_add_layer(w, weights, sample_lost, &err), XQ_OK, "%s", err.message);
}

void sample_commit(prepared_writer *w)
{
    error err = ERROR_INIT;
    cr_assert_eq(prepared_commit(w, &err), XQ_OK, "%s", err.message);
}

const char *sample_written(tensor_type type)
{
    const char *path = files_path(files_directory(), "w.safetensors");
    const prepared_contents c = sample_contents(type);
    prepared_writer *w = sample_create(path, &c);
    sample_add(w, &sample_layer);
    sample_add(w, &sample_layer);
    sample_commit(w);
    return path;
}

prepared_file *sample_open(const char *path)
{
    prepared_file *x;
    error err = ERROR_INIT;
    cr_assert_eq(prepared_file_open(path, &x, &err), XQ_OK, "%s", err.message);
    return x;
}

float sample_stored(tensor_type type, float value)
{
    return type == TENSOR_F16    ? half_round(value)
           : type == TENSOR_BF16 ? half_from_bfloat(half_to_bfloat(value))
                                 : value;
}

xq_status sample_read_lost(const prepared_file *x, int of_layer, double kept[2], error *err)
{
    const tensor *t;
    uint64_t offset;
    if (prepared_file_tensor(x, prepared_file_place(x, of_layer, err), PREPARED_LOST, &t, &offset, err) ==
        XQ_OK)
        memcpy(kept, t->data, 2 * sizeof *kept);
    return err->status;
}

void sample_write_two_methods(const char *path, tensor_type store)
{
    prepared_contents c = sample_contents(store);
    c.specs[0] = sample_cross_spec;
    c.specs[1] = sample_spec;
    c.base_layer = 7;
    prepared_writer *w = sample_create(path, &c);
    sample_add(w, &sample_layer);
    sample_add(w, &sample_cross_layer);
    sample_commit(w);
}
