#ifndef LLAMA_BLAS_H
#define LLAMA_BLAS_H

/* OpenBLAS picks its kernels by the CPU's model when it is loaded. One that it does not know gets those of
 * a 64-bit CPU's least, many times slower: then the program starts again, and says what the CPU can do. */
void blas_use_the_whole_cpu(char **arguments);

#endif
