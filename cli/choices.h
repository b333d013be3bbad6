/* What a spec chooses, before it is completed: the few choices on which commands themselves depend. */
#ifndef CLI_CHOICES_H
#define CLI_CHOICES_H

#include "../runtime/plan/spec_view.h"

struct cli_choices {
    bool cross_layer;  /* the method is x-cl or latent-cl */
    bool of_x;         /* it is x or x-cl */
    bool joint_latent; /* it is latent-cl, which has one latent for keys and values */
    bool has_bits, has_rotation;
    bool is_tuned;       /* it chooses parameters of kernels */
    bool lacks_table;    /* the model has LongRoPE, and the spec leaves open which of its tables is meant */
    char layer_kind[64]; /* "" where none is chosen */
};

/* A choice that is no valid one counts as not chosen: completing the spec refuses it. */
void cli_choices_read(const char *spec_json, struct cli_choices *out);

#endif
