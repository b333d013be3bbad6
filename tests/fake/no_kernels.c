/* libfake_cuda.so runs no kernels. */
#include "fake_cuda_kernels.h"

const struct fake_cuda_kernels *const fake_cuda_kernels = NULL;
