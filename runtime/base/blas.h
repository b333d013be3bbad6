#ifndef RUNTIME_BASE_BLAS_H
#define RUNTIME_BASE_BLAS_H

/* For the start of a program that uses OpenBLAS. OpenBLAS picks its kernels by the CPU's model when it is
 * loaded. A CPU that it does not know gets the kernels of the least 64-bit CPU, which are many times
 * slower. Then the program starts again, with an environment variable that says what the CPU can do.
 * `arguments` are those of main. Without OpenBLAS nothing happens. */
void blas_use_the_whole_cpu(char **arguments);

#endif
