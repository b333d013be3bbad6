/* A tiny Hugging Face model directory for tests: hidden size 128, 2 heads, 1 KV head of 64, 2 layers. */
#ifndef TESTS_MODEL_FILES_H
#define TESTS_MODEL_FILES_H

enum { MODEL_D = 128, MODEL_HEADS = 2, MODEL_DKV = 64, MODEL_LAYERS = 2 };

/* Changes to make to an otherwise valid directory. Zero-initialize it. */
struct model_change {
    const char *config;       /* text of config.json instead of the valid one */
    const char *drop, *extra; /* a tensor to leave out; one to add, [1] */
    const char *nan;          /* name of a tensor whose element 5 is NaN */
    const char *narrow;       /* name of a tensor with one row too few */
    const char *zero;         /* tensors whose names begin with this text hold zeros */
};

const char *model_files(const struct model_change *change);

/* Value of a projection at [out][in], as it is written (an f16 number). */
float model_value(int layer, int is_v, int out, int in);

#endif
