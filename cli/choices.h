/* The few choices of a spec that commands themselves depend on, read before the spec is completed. */
#ifndef CLI_CHOICES_H
#define CLI_CHOICES_H

#include "../runtime/plan/spec_view.h"

struct cli_choices {
    bool cross_layer;  /* the method is x-cl or latent-cl */
    bool of_x;         /* the method is x or x-cl */
    bool joint_latent; /* the method is latent-cl, which has one latent for keys and values */
    bool has_bits, has_rotation, has_weights;
    bool is_tuned;    /* the spec chooses parameters of kernels */
    bool lacks_table; /* the model has LongRoPE, and the spec does not say which of its tables is meant */
    char layer_kind[64]; /* "" where none is chosen */
};

/* An invalid choice counts as not chosen, because completing the spec will refuse it. */
void cli_choices_read(const char *spec_json, struct cli_choices *out);

#endif
