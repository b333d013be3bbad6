/* Parts of specs as text, for tables of cases: JSON without backslashes. clang-format takes the colons of
 * JSON for those of C and breaks lines at them, so it is off in tables that use these macros. */
#ifndef TESTS_SPEC_TEXT_H
#define TESTS_SPEC_TEXT_H

// clang-format off
#define TEXT(...) #__VA_ARGS__      /* members of an object */
#define ALSO(...) ", " #__VA_ARGS__ /* members that follow others */

/* The members of a model that every case has. */
#define HEADS(heads, kv_heads, head_dim) \
    TEXT("num_attention_heads": heads, "num_key_value_heads": kv_heads, "head_dim": head_dim)

/* Members of a spec after its model and cache: types of weights, and of activations. */
#define INT8         ALSO("weights": "int8")
#define E4M3         ALSO("weights": "e4m3")
#define BF16_WEIGHTS ALSO("weights": "bf16")
#define BF16         ALSO("dtype": "bf16")
// clang-format on

#endif
