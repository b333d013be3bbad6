/* What verify.c has for tier.c. */
#ifndef AUTOTUNE_VERIFY_VERIFIER_H
#define AUTOTUNE_VERIFY_VERIFIER_H

#include "axes.h"
#include "verify.h"

/* The choices of a verifier that no other thread uses. */
verify_sequence *verifier_choices(verifier *v);

#endif
