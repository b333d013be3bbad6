/* The fake NVRTC (tests/fake/fake_nvrtc.c) as tests see it. */
#ifndef TESTS_FAKE_NVRTC_H
#define TESTS_FAKE_NVRTC_H

/* Points XQ_NVRTC at a copy of the fake beside the test program, which then is NVRTC 12.0.
 * `architectures`: what it knows, as "80,90"; NULL: those up to 9.0. To be called before NVRTC is opened.
 */
void fake_nvrtc_use(const char *architectures);
/* The same of another version: 13 for 13.0. */
void fake_nvrtc_use_version(int major, const char *architectures);

#endif
