/* Linked in place of runtime/plan/ into a library that launches plan images and builds no plans. */
#include "context.h"

const struct toolchain_ops *const context_toolchain = NULL;
