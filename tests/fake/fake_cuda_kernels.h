/* Device memory and kernels of the stand-in driver, where it has such. Functions that return bool print
 * what went wrong before they return false. */
#ifndef TESTS_FAKE_FAKE_CUDA_KERNELS_H
#define TESTS_FAKE_FAKE_CUDA_KERNELS_H

#include "../support/fake_cuda.h"

#include <stdbool.h>

struct fake_cuda_kernels {
    uint64_t (*alloc)(size_t bytes); /* 0: out of memory */
    void (*free)(uint64_t pointer);
    bool (*write)(uint64_t destination, const void *source, size_t bytes);
    bool (*read)(void *destination, uint64_t source, size_t bytes);
    bool (*fill)(uint64_t pointer, unsigned char value, size_t bytes);
    void *(*load)(const char *ptx); /* a module; NULL: the text is no PTX that can be run */
    void (*unload)(void *module);
    bool (*launch)(const struct fake_cuda_launch *); /* has ended when it returns */
};

/* NULL: memory is the host's, and kernels do not run. */
extern const struct fake_cuda_kernels *const fake_cuda_kernels;

#endif
