/* Finds the places where NVRTC may be. */
#ifndef RUNTIME_COMPILE_NVRTC_FIND_H
#define RUNTIME_COMPILE_NVRTC_FIND_H

/* Candidates for dlopen, best first. Paths are files that exist, except bare names, which the loader looks
 * up. `tried` lists in words the places that were searched, one on each line. */
struct nvrtc_candidates {
    char **paths;
    int count;
    char *tried;
};

/* Returns 0, or -1 when memory ran out. */
int nvrtc_find(struct nvrtc_candidates *out);
void nvrtc_candidates_free(struct nvrtc_candidates *candidates);

#endif
