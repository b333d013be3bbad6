/* A file of prepared weights of two small layers, for tests of what becomes of it. Failures end the test.
 */
#ifndef TESTS_SAMPLE_FILE_H
#define TESTS_SAMPLE_FILE_H

#include "../../prepare/prepared_file.h"
#include "../../prepare/prepared_write.h"

/* The model has hidden size 2, one head of dimension 1, and a bias; the ranks are 3 and 1. */
#define SAMPLE_MODEL                                                                                       \
    "{\"model\":{\"hidden_size\":2,\"num_attention_heads\":1,\"num_key_value_heads\":1,\"head_dim\":1,"    \
    "\"attention_bias\":true},\"cache\":{"
extern const char sample_spec[], sample_cross_spec[];
extern const layer_weights sample_layer, sample_cross_layer; /* layers of these specs */
extern const double sample_lost[2];
extern const int sample_layers[2]; /* the numbers of the layers in a file */

/* The contents of a file of sample_layers. */
prepared_contents sample_contents(tensor_type type);

/* The steps of writing a file: create, add each layer, commit. */
prepared_writer *sample_create(const char *path, const prepared_contents *c);
void sample_add(prepared_writer *w, const layer_weights *weights);
void sample_commit(prepared_writer *w);

/* Writes a file in a folder of its own, and returns its path. */
const char *sample_written(tensor_type type);

/* Opens a file, which must succeed. */
prepared_file *sample_open(const char *path);

/* The value that a file of this type holds for a value. */
float sample_stored(tensor_type type, float value);

/* Reads the losses of a layer. */
xq_status sample_read_lost(const prepared_file *x, int of_layer, double kept[2], error *err);

/* Writes a file whose layer before the base has a method of its own. */
void sample_write_two_methods(const char *path, tensor_type store);

#endif
