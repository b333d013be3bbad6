/* The device memory and the kernels of a stand-in driver whose kernels run. Functions that return bool
 * print the error before they return false. */
#ifndef TESTS_FAKE_FAKE_CUDA_KERNELS_H
#define TESTS_FAKE_FAKE_CUDA_KERNELS_H

#include "../support/fake_cuda.h"

#include <stdbool.h>

struct fake_cuda_kernels {
    uint64_t (*alloc)(size_t bytes); /* returns 0 if there is no memory left */
    void (*free)(uint64_t pointer);
    bool (*write)(uint64_t destination, const void *source, size_t bytes);
    bool (*read)(void *destination, uint64_t source, size_t bytes);
    bool (*fill)(uint64_t pointer, unsigned char value, size_t bytes);
    void *(*load)(const char *ptx); /* returns a module, or NULL if this PTX cannot run */
    void (*unload)(void *module);
    bool (*launch)(const struct fake_cuda_launch *); /* returns when the kernel has ended */
};

/* NULL in the driver whose memory is the host's and whose kernels do not run. */
extern const struct fake_cuda_kernels *const fake_cuda_kernels;

#endif
