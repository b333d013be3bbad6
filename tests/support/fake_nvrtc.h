/* The fake NVRTC (tests/fake/fake_nvrtc.c) as tests see it. */
#ifndef TESTS_FAKE_NVRTC_H
#define TESTS_FAKE_NVRTC_H

/* Points XQ_NVRTC at a copy of the fake library beside the test program, which then acts as NVRTC 12.0.
 * `architectures` lists the architectures that it knows, such as "80,90"; NULL: all up to 9.0. Call this
 * before NVRTC is opened. */
void fake_nvrtc_use(const char *architectures);
/* Does the same with another version: 13 stands for 13.0. */
void fake_nvrtc_use_version(int major, const char *architectures);

#endif
