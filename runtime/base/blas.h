#ifndef RUNTIME_BASE_BLAS_H
#define RUNTIME_BASE_BLAS_H

/* For the start of a program that uses OpenBLAS. OpenBLAS picks its kernels by the CPU's model when it is
 * loaded. A CPU that it does not know gets the kernels of the most basic 64-bit CPU, which are many times
 * slower. In that case this function starts the program again, with an environment variable that says what
 * the CPU can do. `arguments` are those of main. Without OpenBLAS it does nothing. */
void blas_use_the_whole_cpu(char **arguments);

#endif
