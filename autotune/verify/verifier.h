/* The part of verify.c that tier.c needs. */
#ifndef AUTOTUNE_VERIFY_VERIFIER_H
#define AUTOTUNE_VERIFY_VERIFIER_H

#include "axes.h"
#include "verify.h"

/* The sequence of choices of the slot that no other thread uses. */
verify_sequence *verifier_choices(verifier *v);

#endif
