/* Decodes branches, calls and exits. */
#include "decode.h"
#include "exec.h"

#include <string.h>

static void add_fixup(decoder *dc, int at, bool in_list, int target)
{
    SIM_ARENA_GROW(dc->arena, dc->fixups, dc->fixup_count, dc->fixup_capacity);
    dc->fixups[dc->fixup_count++] = (decode_fixup){at, in_list, dc->frame, target};
}

static int label_target(decoder *dc, const ptx_operand *o)
{
    int target =
        o->kind == PTX_OPERAND_NAME ? ptx_function_label(dc->frame->function, o->name, o->scope) : -1;
    if (target < 0)
        decode_fail(dc, XQ_ERROR_DEVICE, "label %s is not defined", o->name ? o->name : "");
    return target;
}

static void decode_bra(decoder *dc)
{
    decode_take(dc, "uni");
    decode_all_taken(dc);
    decode_arity(dc, 1);
    int target = label_target(dc, &dc->in->operands[0]);
    decode_emit(dc, SIM_BRANCH, INSTRUCTION_CONTROL);
    add_fixup(dc, dc->code_count - 1, false, target);
}

/* brx.idx index, targets. The list holds the targets, which are not operands and so are not in list_count.
 * `immediate` is their number. */
static void decode_brx(decoder *dc)
{
    if (!decode_take(dc, "idx"))
        decode_unknown(dc);
    decode_take(dc, "uni");
    decode_all_taken(dc);
    decode_arity(dc, 2);
    const ptx_operand *o = dc->in->operands;
    const ptx_targets *targets = NULL;
    for (int i = 0; i < dc->frame->function->targets_count; i++)
        if (o[1].name && !strcmp(dc->frame->function->targets[i].name, o[1].name))
            targets = &dc->frame->function->targets[i];
    if (!targets || dc->in->guard >= 0)
        decode_fail(dc, XQ_ERROR_DEVICE, "unknown form of brx");
    sim_operand index = decode_source(dc, &o[0], WIDTH_32);
    sim_instruction *e = decode_emit_handler(dc, sim_exec_switch, INSTRUCTION_CONTROL);
    e->a = index;
    e->immediate = (uint64_t)targets->count;
    for (int i = 0; i < targets->count; i++) {
        SIM_ARENA_GROW(dc->arena, dc->list, dc->list_count, dc->list_capacity);
        dc->list[dc->list_count++] = 0;
        add_fixup(dc, dc->list_count - 1, true, label_target(dc, &targets->labels[i]));
    }
}

static void decode_exit(decoder *dc)
{
    decode_take(dc, "uni");
    decode_all_taken(dc);
    decode_emit_handler(dc, sim_exec_exit, INSTRUCTION_CONTROL);
}

static void decode_ret(decoder *dc)
{
    if (!dc->frame->caller) {
        decode_exit(dc);
        return;
    }
    decode_take(dc, "uni");
    decode_all_taken(dc);
    decode_emit(dc, SIM_BRANCH, INSTRUCTION_CONTROL);
    add_fixup(dc, dc->code_count - 1, false, dc->frame->function->instruction_count);
}

static void decode_trap(decoder *dc)
{
    decode_all_taken(dc);
    decode_emit_handler(dc, sim_exec_trap, INSTRUCTION_CONTROL);
}

static void decode_nanosleep(decoder *dc)
{
    decode_emit_handler(dc, sim_exec_sleep, INSTRUCTION_CONTROL);
}

static void decode_nothing(decoder *dc)
{
    decode_emit_handler(dc, sim_exec_nothing, INSTRUCTION_CONTROL);
}

const decode_opcode decode_control_opcodes[] = {
    {"bra", decode_bra},         {"brx", decode_brx},
    {"call", decode_call},       {"ret", decode_ret},
    {"exit", decode_exit},       {"trap", decode_trap},
    {"brkpt", decode_trap},      {"nanosleep", decode_nanosleep},
    {"pmevent", decode_nothing}, {NULL, NULL}};
