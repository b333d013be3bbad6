#ifndef LLAMA_BLAS_H
#define LLAMA_BLAS_H

/* OpenBLAS picks its kernels by the CPU's model when it is loaded. A CPU that it does not know gets the
 * kernels of the oldest 64-bit CPUs, which are many times slower. In that case this function restarts the
 * program with OPENBLAS_CORETYPE set to what the CPU supports. */
void blas_use_the_whole_cpu(char **arguments);

#endif
