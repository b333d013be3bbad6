#include "fault_check.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char head[] =
    ".version 8.4\n.target sm_80\n.address_size 64\n.file 1 \"templates/fault.cu.lt\"\n"
    ".extern .shared .align 16 .b8 dynamic[];\n"
    ".visible .entry fault_kernel(.param .align 8 .b8 params[16])\n{\n"
    "    .shared .align 16 .b8 memory[2048];\n    .local .align 16 .b8 frame[64];\n"
    "    .reg .pred %p<8>;\n    .reg .b16 %h<4>;\n    .reg .b32 %r<20>, %me, %warp, %lane, %block;\n"
    "    .reg .b64 %l<8>, %buffer, %freed, %mine;\n"
    "    ld.param.u64 %buffer, [params];\n    ld.param.u64 %freed, [params+8];\n"
    "    mov.u32 %me, %tid.x;\n    shr.u32 %warp, %me, 5;\n    and.b32 %lane, %me, 31;\n"
    "    mov.u32 %block, %ctaid.x;\n    mul.wide.u32 %mine, %me, 4;\n    add.s64 %mine, %mine, %buffer;\n"
    "    mov.u32 %r0, memory;\n    shl.b32 %r1, %me, 4;\n    add.s32 %r1, %r1, %r0;\n"
    "    .loc 1 7 0\n";

char *fault_module(const char *body)
{
    size_t bytes = sizeof head + strlen(body) + 64;
    char *text = malloc(bytes);
    cr_assert_not_null(text);
    snprintf(text, bytes, "%s%s\n    ret;\n}\n", head, body);
    return text;
}

/* Whether the message names one of the lines that carry the mark. */
static bool names_marked_line(const char *text, const char *message)
{
    int line = 1;
    for (const char *c = text; *c; c++) {
        char expected[32];
        snprintf(expected, sizeof expected, "line %d ", line);
        if (strncmp(c, "//!", 3) == 0 && strstr(message, expected))
            return true;
        line += *c == '\n';
    }
    return false;
}

bool fault_names_line(const char *text, const char *message)
{
    const char *mark = strstr(text, "//!");
    int line = 1;
    for (const char *c = text; mark && c < mark; c++)
        line += *c == '\n';
    for (int i = 0; mark && i < 2; i++) {
        char expected[32];
        snprintf(expected, sizeof expected, "line %d:", line + i);
        if (strstr(message, expected))
            return true;
    }
    return !mark;
}

xq_status fault_run(device *sim, const struct fault *fault, const char *body, error *err)
{
    const device_ops *ops = sim->ops;
    struct fault_params params = {0};
    error setup = ERROR_INIT;
    ops->alloc(sim, BUFFER_BYTES, &params.buffer, &setup);
    ops->alloc(sim, 256, &params.freed, &setup);
    ops->fill(sim, params.buffer, 0, BUFFER_BYTES, &setup);
    ops->free(sim, params.freed, &setup);
    cr_assert_eq(setup.status, XQ_OK, "%s", setup.message);
    char *text = fault_module(body);
    struct ptx_launch launch = {.ptx = text,
                                .entry = "fault_kernel",
                                .grid = fault->grid ? fault->grid : 1,
                                .block = fault->block ? fault->block : 32,
                                .shared_bytes = fault->shared_bytes,
                                .params = &params,
                                .params_bytes = sizeof params};
    xq_status status = ptx_run(sim, &launch, err);
    ops->free(sim, params.buffer, &setup);
    error_clear(&setup);
    free(text);
    return status;
}

bool fault_says_all(const char *message, const char *words)
{
    char copy[256];
    snprintf(copy, sizeof copy, "%s", words);
    for (char *word = strtok(copy, "|"); word; word = strtok(NULL, "|"))
        if (!strcasestr(message, word))
            return false;
    return true;
}

void fault_expect(device *sim, const struct fault *fault)
{
    error err = ERROR_INIT;
    char *text = fault_module(fault->faulty);
    fault_run(sim, fault, fault->faulty, &err);
    cr_expect_eq(err.status, XQ_ERROR_DEVICE, "%s: status %d (%s)", fault->name, err.status, err.message);
    cr_expect(fault_says_all(err.message, fault->says), "%s: '%s' does not say %s", fault->name,
              err.message, fault->says);
    cr_expect(fault_says_all(err.message, "fault_kernel"), "%s: no kernel in '%s'", fault->name,
              err.message);
    char expected[64];
    if (strstr(fault->faulty, "//!")) {
        cr_expect(names_marked_line(text, err.message) || fault_names_line(text, err.message),
                  "%s: not the marked line in '%s'", fault->name, err.message);
        cr_expect(err.line == 42 && strcmp(err.file, "templates/fault.cu.lt") == 0, "%s: at %s:%d",
                  fault->name, err.file, err.line);
    }
    free(text);
    if (fault->at_block > 0) {
        snprintf(expected, sizeof expected, "block (%d, 0, 0)", fault->at_block - 1);
        cr_expect(fault_says_all(err.message, expected), "%s: not %s in '%s'", fault->name, expected,
                  err.message);
    }
    if (fault->at_thread > 0) {
        snprintf(expected, sizeof expected, "thread (%d, 0, 0)", fault->at_thread - 1);
        cr_expect(fault_says_all(err.message, expected), "%s: not %s in '%s'", fault->name, expected,
                  err.message);
    }
    error_clear(&err);
    if (!fault->sound)
        return;
    fault_run(sim, fault, fault->sound, &err);
    cr_expect_eq(err.status, XQ_OK, "%s, put right: %s", fault->name, err.message);
    error_clear(&err);
}

void fault_expect_all(const struct fault *faults, size_t count)
{
    device *sim = ptx_device();
    sim_set_instruction_budget(sim, 1000000); /* the longest sound kernel needs 300,000 */
    /* all faults, on each of the host's instruction sets that the checks are compiled for */
    for (int level = 0; sim_set_lanes(sim, level); level++)
        for (size_t i = 0; i < count; i++)
            fault_expect(sim, &faults[i]);
    sim->ops->destroy(sim);
}
