/* Helpers of the example programs: errors, device memory and f16 numbers. An engine has its own. */
#ifndef EMBED_COMMON_H
#define EMBED_COMMON_H

#ifndef PROGRAM
#define PROGRAM "embed" /* name that messages begin with */
#endif

#include <xq/xq.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static xq_context *context;

/* Every xq call that can fail goes through this function. An engine would pass the detail to its own error
 * handling. */
static inline void check(xq_status status, const char *what)
{
    if (status == XQ_OK)
        return;
    xq_error_detail detail = XQ_ERROR_DETAIL_INIT;
    xq_last_error(context, &detail);
    fprintf(stderr, PROGRAM ": %s: %s: %s\n", what, xq_status_name(status),
            detail.message ? detail.message : "");
    exit(1);
}

/* Returns the device that the argument names, or auto without an argument. The program ends on `--help` and
 * on extra arguments. */
static inline const char *device_argument(int argc, char **argv)
{
    int asked = argc == 2 && strcmp(argv[1], "--help") == 0;
    if (argc <= 2 && !asked)
        return argc == 2 ? argv[1] : "auto";
    fprintf(asked ? stdout : stderr, "usage: " PROGRAM " [DEVICE], where DEVICE is auto (default), cuda, "
                                     "cuda:N, sim or sim:GPU\n");
    exit(asked ? 0 : 1);
}

/* Opens the device that device_argument returns. Returns 1 for the software device. */
static inline int open_context(int argc, char **argv)
{
    xq_context_options options = XQ_CONTEXT_OPTIONS_INIT;
    xq_device_info device = XQ_DEVICE_INFO_INIT;
    options.device = device_argument(argc, argv);
    check(xq_context_create(&options, &context), "xq_context_create");
    check(xq_context_device(context, &device), "xq_context_device");
    printf("device          %s\n", device.name);
    return device.is_sim;
}

static inline void *host_memory(size_t bytes)
{
    void *memory = malloc(bytes);
    if (memory)
        return memory;
    fprintf(stderr, PROGRAM ": out of memory\n");
    exit(1);
}

static inline uint64_t upload(const void *data, size_t bytes)
{
    uint64_t pointer;
    check(xq_device_alloc(context, bytes, &pointer), "xq_device_alloc");
    check(xq_device_write(context, pointer, data, bytes), "xq_device_write");
    return pointer;
}

/* Allocates zeroed device memory. Returns 0 for 0 bytes. */
static inline uint64_t allocate(size_t bytes)
{
    uint64_t pointer = 0;
    if (bytes == 0)
        return 0;
    check(xq_device_alloc(context, bytes, &pointer), "xq_device_alloc");
    check(xq_device_fill(context, pointer, 0, bytes), "xq_device_fill");
    return pointer;
}

static inline void release(uint64_t pointer)
{
    if (pointer)
        check(xq_device_free(context, pointer), "xq_device_free");
}

static inline void write_device(uint64_t destination, const void *source, size_t bytes)
{
    check(xq_device_write(context, destination, source, bytes), "xq_device_write");
}

/* Packs a layer's matrices for the plan and returns them in device memory. */
static inline uint64_t upload_weights(xq_plan *plan, const xq_weights *weights)
{
    xq_plan_info info = XQ_PLAN_INFO_INIT;
    check(xq_plan_query(plan, &info), "xq_plan_query");
    void *packed = host_memory(info.weights_bytes);
    check(xq_plan_pack_weights(plan, weights, packed, info.weights_bytes), "xq_plan_pack_weights");
    uint64_t pointer = upload(packed, info.weights_bytes);
    free(packed);
    return pointer;
}

/* Rounds a finite number to the nearest f16. The examples only use zero and numbers in the range of normal
 * f16. */
static inline uint16_t half_bits(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    uint32_t sign = bits >> 16 & 0x8000, magnitude = bits & 0x7fffffff;
    if (magnitude < 0x38800000) /* below 2^-14: flushed to zero */
        return (uint16_t)sign;
    magnitude += 0xfff + (magnitude >> 13 & 1); /* round to nearest, ties to even */
    return (uint16_t)(sign | ((magnitude - 0x38000000) >> 13));
}

static inline double half_value(uint16_t bits)
{
    int exponent = bits >> 10 & 31, fraction = bits & 1023;
    double magnitude = exponent ? ldexp(1024 + fraction, exponent - 25) : ldexp(fraction, -24);
    return bits & 0x8000 ? -magnitude : magnitude;
}

/* Fills in random f16 numbers, uniform in -scale .. scale. */
static inline void random_halves(uint16_t *bits, int count, float scale)
{
    for (int i = 0; i < count; i++)
        bits[i] = half_bits(((float)rand() / (float)RAND_MAX * 2 - 1) * scale);
}

#endif
