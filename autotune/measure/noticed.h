/* What was noticed during measurements that other processes could disturb. */
#ifndef AUTOTUNE_MEASURE_NOTICED_H
#define AUTOTUNE_MEASURE_NOTICED_H

typedef struct measure_noticed {
    char unlocked[256]; /* why a measurement did not wait for its turn (turn.h); "": all did */
} measure_noticed;

/* Adds what was noticed later, maybe by another process. */
void measure_noticed_add(measure_noticed *to, const measure_noticed *later);

#endif
