/* The entry point that libFuzzer calls; see fuzz_ptx.c. */
#ifndef TESTS_FUZZ_PTX_H
#define TESTS_FUZZ_PTX_H

#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

#endif
