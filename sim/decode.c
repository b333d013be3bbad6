/* Turns a kernel of a parsed module into the program that is executed: resolves operands, copies calls in,
 * and builds the constants. */
#include "decode.h"
#include "exec.h"

#include "sim.h"
#include "warp.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* ---------------------------------------------------------------- failures */

static const char *source_file(const ptx_module *m, int file)
{
    return file > 0 && file < m->file_count && m->files[file] ? m->files[file] : "";
}

void decode_fail(decoder *dc, xq_status status, const char *format, ...)
{
    char text[512];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    const ptx_instruction *in = dc->in;
    error_at(dc->arena->err, source_file(dc->module, in->file), in->source_line);
    sim_arena_fail(dc->arena, status, "%s: kernel %s, PTX line %d: `%s`: %s", dc->module->name,
                   dc->entry->name, in->line, in->text, text);
}

void decode_unknown(decoder *dc)
{
    decode_fail(dc, XQ_ERROR_DEVICE, "unknown instruction %s", dc->in->opcode);
}

void decode_arity(decoder *dc, int count)
{
    if (dc->in->count != count)
        decode_fail(dc, XQ_ERROR_DEVICE, "unknown instruction: %s with %d operands instead of %d",
                    dc->in->opcode, dc->in->count, count);
}

/* ---------------------------------------------------------------- modifiers */

static void split_opcode(decoder *dc)
{
    const char *p = dc->in->opcode;
    dc->part_count = 0;
    for (;;) {
        const char *dot = strchr(p, '.');
        size_t n = dot ? (size_t)(dot - p) : strlen(p);
        if (dc->part_count == DECODE_PARTS)
            decode_unknown(dc);
        char *part = sim_arena_alloc(dc->arena, n + 1);
        memcpy(part, p, n);
        dc->parts[dc->part_count++] = part;
        if (!dot)
            return;
        p = dot + 1;
    }
}

static void remove_part(decoder *dc, int i)
{
    for (dc->part_count--; i < dc->part_count; i++)
        dc->parts[i] = dc->parts[i + 1];
}

bool decode_take(decoder *dc, const char *modifier)
{
    for (int i = 1; i < dc->part_count; i++)
        if (!strcmp(dc->parts[i], modifier)) {
            remove_part(dc, i);
            return true;
        }
    return false;
}

enum ptx_type decode_take_type(decoder *dc)
{
    for (int i = 1; i < dc->part_count; i++) {
        enum ptx_type t = ptx_type_named(dc->parts[i], (int)strlen(dc->parts[i]));
        if (t) {
            remove_part(dc, i);
            return t;
        }
    }
    decode_unknown(dc);
}

void decode_all_taken(decoder *dc)
{
    if (dc->part_count != 1)
        decode_unknown(dc);
}

/* ---------------------------------------------------------------- instructions */

sim_instruction *decode_emit(decoder *dc, enum sim_kind kind, int class)
{
    SIM_ARENA_GROW(dc->arena, dc->origins, dc->code_count, dc->origin_capacity);
    SIM_ARENA_GROW(dc->arena, dc->code, dc->code_count, dc->code_capacity);
    dc->origins[dc->code_count] = (sim_origin){.text = dc->in->text,
                                               .line = dc->in->line,
                                               .file = source_file(dc->module, dc->in->file),
                                               .source_line = dc->in->source_line,
                                               .caller_file = source_file(dc->module, dc->in->caller_file),
                                               .caller_line = dc->in->caller_line};
    sim_instruction *e = &dc->code[dc->code_count++];
    *e = (sim_instruction){.d = SIM_ZERO,
                           .a = SIM_ZERO,
                           .b = SIM_ZERO,
                           .c = SIM_ZERO,
                           .guard = SIM_NO_GUARD,
                           .list = dc->list_count,
                           .kind = (uint8_t)kind,
                           .class = (uint8_t) class};
    if (dc->in->guard >= 0) {
        e->guard = (dc->frame->register_base + dc->in->guard) * 2;
        e->guard_negated = dc->in->guard_negated;
    }
    return e;
}

sim_instruction *decode_emit_handler(decoder *dc, sim_handler *handler, int class)
{
    sim_instruction *e = decode_emit(dc, SIM_HANDLER, class);
    e->handler = handler;
    return e;
}

sim_instruction *decode_emit_lane(decoder *dc, enum sim_lane lane, enum decode_width result, int class)
{
    enum sim_kind kind = result == WIDTH_64     ? SIM_LANES_64
                         : result == WIDTH_PRED ? SIM_LANES_PRED
                                                : SIM_LANES_32;
    sim_instruction *e = decode_emit(dc, kind, class);
    e->lane = dc->lanes->fn[lane];
    return e;
}

void decode_list(decoder *dc, sim_operand o)
{
    SIM_ARENA_GROW(dc->arena, dc->list, dc->list_count, dc->list_capacity);
    dc->list[dc->list_count++] = o;
    dc->code[dc->code_count - 1].list_count++;
}

/* ---------------------------------------------------------------- operands */

enum decode_width decode_type_width(enum ptx_type type)
{
    int bits = ptx_type_bits(type);
    return bits == 1 ? WIDTH_PRED : bits <= 16 ? WIDTH_16 : bits == 32 ? WIDTH_32 : WIDTH_64;
}

static int new_register(decoder *dc, enum decode_width width)
{
    SIM_ARENA_GROW(dc->arena, dc->widths, dc->register_count, dc->register_capacity);
    dc->widths[dc->register_count] = (uint8_t)width;
    return dc->register_count++;
}

sim_operand decode_temporary(decoder *dc, enum decode_width width)
{
    return new_register(dc, width) * 2;
}

static sim_operand new_constant(decoder *dc, decode_constant c)
{
    SIM_ARENA_GROW(dc->arena, dc->constants, dc->constant_count, dc->constant_capacity);
    dc->constants[dc->constant_count] = c;
    return dc->constant_count++ * 2 + 1;
}

sim_operand decode_constant_value(decoder *dc, uint64_t value, bool wide)
{
    if (!wide)
        value &= 0xffffffff;
    for (int i = 0; i < dc->constant_count; i++) {
        const decode_constant *c = &dc->constants[i];
        if (c->param < 0 && c->wide == wide && c->value == value)
            return i * 2 + 1;
    }
    return new_constant(dc, (decode_constant){value, wide, -1});
}

static sim_operand decode_special(decoder *dc, enum sim_special special)
{
    if (dc->special[special] < 0)
        dc->special[special] = new_register(dc, WIDTH_32);
    return dc->special[special] * 2;
}

static const char *const special_names[SIM_SPECIALS] = {
    "%tid.x",          "%tid.y",       "%tid.z",       "%ntid.x",      "%ntid.y",      "%ntid.z",
    "%ctaid.x",        "%ctaid.y",     "%ctaid.z",     "%nctaid.x",    "%nctaid.y",    "%nctaid.z",
    "%laneid",         "%warpid",      "%nwarpid",     "%smid",        "%nsmid",       "%gridid",
    "%lanemask_eq",    "%lanemask_le", "%lanemask_lt", "%lanemask_ge", "%lanemask_gt", "%dynamic_smem_size",
    "%total_smem_size"};

static sim_operand named_special(decoder *dc, const char *name)
{
    if (!strcmp(name, "WARP_SZ"))
        return decode_constant_value(dc, 32, false);
    for (int i = 0; i < SIM_SPECIALS; i++)
        if (!strcmp(name, special_names[i]))
            return decode_special(dc, (enum sim_special)i);
    decode_fail(dc, XQ_ERROR_DEVICE, "unknown register %s", name);
}

static uint32_t align_up(uint32_t value, uint32_t align)
{
    return (value + align - 1) & ~(align - 1);
}

static uint32_t place(decoder *dc, uint32_t *bytes, uint64_t size, int align)
{
    uint64_t at = align_up(*bytes, (uint32_t)align);
    if (at + size > 1u << 24)
        decode_fail(dc, XQ_ERROR_DEVICE, "variables take more than 16 MiB");
    *bytes = (uint32_t)(at + size);
    return (uint32_t)at;
}

static bool is_dynamic_shared(const ptx_variable *v)
{
    return v->is_extern && !v->bytes;
}

uint64_t decode_variable(decoder *dc, const ptx_variable *v)
{
    if (v->space == PTX_GLOBAL || v->space == PTX_CONST) {
        uint64_t address = v->is_module ? dc->address_of(dc->context, v) : 0;
        if (!address)
            decode_fail(dc, XQ_ERROR_DEVICE, "variable %s has no address", v->name);
        return address;
    }
    if (!v->is_module)
        return (uint64_t)dc->frame->offsets[v->id];
    if (v->space != PTX_SHARED)
        decode_fail(dc, XQ_ERROR_DEVICE, "variable %s has no address", v->name);
    if (is_dynamic_shared(v))
        return dc->program->shared_dynamic;
    return v->shared_offset;
}

static sim_operand source_register(decoder *dc, const ptx_operand *o, enum decode_width width)
{
    int r = dc->frame->register_base + o->index;
    enum decode_width have = dc->widths[r];
    if ((have == WIDTH_PRED) != (width == WIDTH_PRED))
        decode_fail(dc, XQ_ERROR_DEVICE, "%s is %s predicate", o->name, have == WIDTH_PRED ? "a" : "no");
    if (have == WIDTH_64 && width != WIDTH_64) /* st and cvt may take a wider register: its low part */
        return decode_helper(dc, LANE_low_32, WIDTH_32, r * 2, SIM_ZERO, SIM_ZERO);
    if (have == WIDTH_32 && width == WIDTH_16)
        return decode_helper(dc, LANE_low_16, WIDTH_16, r * 2, SIM_ZERO, SIM_ZERO);
    if (width == WIDTH_64 && have != WIDTH_64)
        decode_fail(dc, XQ_ERROR_DEVICE, "%s is narrower than the instruction's type", o->name);
    return r * 2;
}

sim_operand decode_source(decoder *dc, const ptx_operand *o, enum decode_width width)
{
    uint64_t bits = o->bits;
    switch (o->kind) {
    case PTX_OPERAND_REGISTER:
        if (o->negated)
            return decode_predicate(dc, o);
        return source_register(dc, o, width);
    case PTX_OPERAND_SPECIAL:
        return named_special(dc, o->name);
    case PTX_OPERAND_VARIABLE:
        bits += decode_variable(dc, o->variable);
        break;
    case PTX_OPERAND_FLOAT32:
        if (width == WIDTH_64) {
            float f;
            memcpy(&f, &bits, 4);
            double d = (double)f;
            memcpy(&bits, &d, 8);
        }
        break;
    case PTX_OPERAND_FLOAT64:
        if (width != WIDTH_64) {
            double d;
            memcpy(&d, &bits, 8);
            float f = (float)d;
            bits = 0;
            memcpy(&bits, &f, 4);
        }
        break;
    case PTX_OPERAND_INTEGER:
        break;
    default:
        decode_fail(dc, XQ_ERROR_DEVICE, "unknown form of operand %s", o->name ? o->name : "");
    }
    if (width == WIDTH_PRED)
        return decode_constant_value(dc, bits ? ~0u : 0, false);
    return decode_constant_value(dc, width == WIDTH_16 ? bits & 0xffff : bits, width == WIDTH_64);
}

sim_operand decode_destination(decoder *dc, const ptx_operand *o, enum decode_width width)
{
    if (o->kind == PTX_OPERAND_SINK)
        return decode_temporary(dc, width);
    if (o->kind != PTX_OPERAND_REGISTER)
        decode_fail(dc, XQ_ERROR_DEVICE, "the destination is not a register");
    int r = dc->frame->register_base + o->index;
    enum decode_width have = dc->widths[r];
    if ((have == WIDTH_PRED) != (width == WIDTH_PRED) || (have == WIDTH_64) != (width == WIDTH_64))
        decode_fail(dc, XQ_ERROR_DEVICE, "%s does not have the width of the result", o->name);
    return r * 2;
}

sim_operand decode_predicate(decoder *dc, const ptx_operand *o)
{
    if (!o->negated)
        return decode_source(dc, o, WIDTH_PRED);
    ptx_operand plain = *o;
    plain.negated = false;
    return decode_helper(dc, LANE_not_pred, WIDTH_PRED, decode_source(dc, &plain, WIDTH_PRED), SIM_ZERO,
                         SIM_ZERO);
}

sim_operand decode_helper(decoder *dc, enum sim_lane lane, enum decode_width result, sim_operand a,
                          sim_operand b, sim_operand c)
{
    sim_operand t = decode_temporary(dc, result);
    sim_instruction *e = decode_emit_lane(dc, lane, result, SIM_UNCOUNTED);
    e->guard = SIM_NO_GUARD;
    decode_operands(e, t, a, b, c);
    return t;
}

enum decode_width decode_width_of(decoder *dc, const ptx_operand *o, enum decode_width otherwise)
{
    return o->kind == PTX_OPERAND_REGISTER ? dc->widths[dc->frame->register_base + o->index] : otherwise;
}

uint64_t decode_integer(decoder *dc, const ptx_operand *o)
{
    if (o->kind != PTX_OPERAND_INTEGER)
        decode_fail(dc, XQ_ERROR_DEVICE, "an operand must be a constant");
    return o->bits;
}

/* ---------------------------------------------------------------- functions */

static const decode_opcode *const opcode_tables[] = {decode_memory_opcodes, decode_logic_opcodes,
                                                     decode_warp_opcodes, decode_control_opcodes};
enum { OPCODE_TABLES = sizeof opcode_tables / sizeof *opcode_tables };

static const decode_opcode *find_opcode(const char *base)
{
    for (size_t t = 0; t < OPCODE_TABLES; t++)
        for (const decode_opcode *o = opcode_tables[t]; o->base; o++)
            if (!strcmp(o->base, base))
                return o;
    return NULL;
}

const char *sim_opcode_name(size_t index)
{
    for (size_t t = 0; t < OPCODE_TABLES; t++)
        for (const decode_opcode *o = opcode_tables[t]; o->base; o++)
            if (index-- == 0)
                return o->base;
    return decode_arithmetic_key(index);
}

static decode_frame *frame_open(decoder *dc, const ptx_function *function, decode_frame *caller)
{
    decode_frame *frame = sim_arena_alloc(dc->arena, sizeof *frame);
    frame->function = function;
    frame->caller = caller;
    frame->depth = caller ? caller->depth + 1 : 0;
    frame->register_base = dc->register_count;
    for (int i = 0; i < function->register_count; i++)
        new_register(dc, decode_type_width(function->register_types[i]));
    frame->offsets =
        sim_arena_alloc(dc->arena, (size_t)(function->variable_count + 1) * sizeof *frame->offsets);
    frame->starts =
        sim_arena_alloc(dc->arena, (size_t)(function->instruction_count + 1) * sizeof *frame->starts);
    return frame;
}

/* Places the variables that a function declares. The first `bound` of them are already placed. */
static void frame_place(decoder *dc, decode_frame *frame, int bound)
{
    uint32_t param_bytes = 0;
    for (int i = bound; i < frame->function->variable_count; i++) {
        const ptx_variable *v = frame->function->variables[i];
        if (v->space == PTX_SHARED)
            frame->offsets[i] = v->shared_offset;
        else if (v->space == PTX_PARAM && !frame->caller && i < frame->function->param_count)
            frame->offsets[i] = place(dc, &param_bytes, v->bytes, v->align);
        else
            frame->offsets[i] = place(dc, &dc->local_bytes, v->bytes, v->align < 4 ? 4 : v->align);
        if (!frame->caller && i == frame->function->param_count - 1)
            dc->program->param_bytes = param_bytes;
    }
}

static void decode_body(decoder *dc, decode_frame *frame)
{
    decode_frame *outer = dc->frame;
    const ptx_instruction *outer_in = dc->in;
    dc->frame = frame;
    const ptx_function *f = frame->function;
    for (int i = 0; i < f->instruction_count; i++) {
        frame->starts[i] = dc->code_count;
        dc->in = &f->instructions[i];
        split_opcode(dc);
        const decode_opcode *o = find_opcode(dc->parts[0]);
        if (o)
            o->decode(dc);
        else if (!decode_arithmetic(dc))
            decode_unknown(dc);
    }
    frame->starts[f->instruction_count] = dc->code_count;
    dc->in = outer_in ? outer_in : dc->in;
    dc->frame = outer;
}

/* call (results), function, (params): copies the code of the callee in. The callee's results and parameters
 * are the caller's .param variables. */
void decode_call(decoder *dc)
{
    decode_take(dc, "uni");
    decode_all_taken(dc);
    if (dc->in->guard >= 0)
        decode_fail(dc, XQ_ERROR_DEVICE, "unknown instruction: a call with a guard");
    const ptx_operand *o = dc->in->operands, *results = NULL, *params = NULL;
    int count = dc->in->count;
    if (count && o->kind == PTX_OPERAND_VECTOR)
        results = o++, count--;
    const char *name = count ? o->name : "";
    if (count > 1 && o[1].kind == PTX_OPERAND_VECTOR)
        params = &o[1];
    if (!count || o->kind != PTX_OPERAND_NAME)
        decode_fail(dc, XQ_ERROR_DEVICE, "calls through a pointer are not supported");
    const ptx_function *f = ptx_module_function(dc->module, name);
    if (!f || !f->is_defined)
        decode_fail(dc, XQ_ERROR_DEVICE, "function %s is not defined", name);
    if ((results ? results->count : 0) != f->result_count || (params ? params->count : 0) != f->param_count)
        decode_fail(dc, XQ_ERROR_DEVICE, "function %s takes other parameters", name);
    for (const decode_frame *c = dc->frame; c; c = c->caller)
        if (c->function == f)
            decode_fail(dc, XQ_ERROR_DEVICE, "recursion (function %s) is not supported", name);
    if (dc->frame->depth + 1 >= DECODE_INLINE_DEPTH || dc->code_count > 4000000)
        decode_fail(dc, XQ_ERROR_DEVICE, "calls nested too deeply");
    decode_frame *frame = frame_open(dc, f, dc->frame);
    int bound = 0;
    for (int side = 0; side < 2; side++) {
        const ptx_operand *given = side ? params : results;
        for (int i = 0; given && i < given->count; i++) {
            const ptx_operand *e = &given->elements[i];
            if (e->kind != PTX_OPERAND_VARIABLE || e->variable->is_module)
                decode_fail(dc, XQ_ERROR_DEVICE, "an argument is not a .param variable");
            frame->offsets[bound++] = dc->frame->offsets[e->variable->id];
        }
    }
    frame_place(dc, frame, bound);
    decode_body(dc, frame);
}

/* Places the shared variables of the module, of the kernel and of all device functions side by side.
 * Dynamic shared memory follows them. */
static void place_shared(decoder *dc)
{
    const ptx_module *m = dc->module;
    uint32_t bytes = 0, align = 16;
    for (int i = 0; i < m->variable_count; i++) {
        ptx_variable *v = m->variables[i];
        if (v->space != PTX_SHARED)
            continue;
        if (!is_dynamic_shared(v))
            v->shared_offset = place(dc, &bytes, v->bytes, v->align);
        else if ((uint32_t)v->align > align)
            align = (uint32_t)v->align;
    }
    for (int f = 0; f < m->function_count; f++)
        for (int i = 0; i < m->functions[f]->variable_count; i++) {
            ptx_variable *v = m->functions[f]->variables[i];
            if (v->space == PTX_SHARED && (m->functions[f] == dc->entry || !m->functions[f]->is_entry))
                v->shared_offset = place(dc, &bytes, v->bytes, v->align);
        }
    dc->program->shared_static = bytes;
    dc->program->shared_dynamic = align_up(bytes, align);
}

static void fix_targets(decoder *dc)
{
    for (int i = 0; i < dc->fixup_count; i++) {
        const decode_fixup *f = &dc->fixups[i];
        int target = f->frame->starts[f->target];
        if (f->in_list)
            dc->list[f->at] = target;
        else
            dc->code[f->at].target = target;
    }
}

static void build_constants(decoder *dc)
{
    sim_program *p = dc->program;
    size_t bytes = 0;
    int *offsets = sim_arena_alloc(dc->arena, (size_t)dc->constant_count * sizeof *offsets);
    for (int i = 0; i < dc->constant_count; i++) {
        offsets[i] = (int)bytes;
        bytes += dc->constants[i].wide ? 256 : 128;
    }
    p->constants_bytes = bytes;
    p->constants = sim_arena_alloc(dc->arena, bytes);
    for (int i = 0; i < dc->constant_count; i++) {
        const decode_constant *c = &dc->constants[i];
        for (int l = 0; l < 32; l++)
            if (c->wide)
                memcpy(p->constants + offsets[i] + l * 8, &c->value, 8);
            else
                memcpy(p->constants + offsets[i] + l * 4, &c->value, 4);
        if (c->param >= 0)
            p->param_uses[c->param].offset = offsets[i];
    }
    /* Operands that are constants become offsets. decode_flow has done the same for registers. */
    for (int i = 0; i < p->count; i++) {
        sim_operand *o[] = {&p->code[i].d, &p->code[i].a, &p->code[i].b, &p->code[i].c};
        for (int k = 0; k < 4; k++)
            if (*o[k] & 1)
                *o[k] = offsets[*o[k] >> 1] | 1;
        for (int k = 0; k < p->code[i].list_count; k++) {
            sim_operand *e = &p->list[p->code[i].list + k];
            if (*e & 1)
                *e = offsets[*e >> 1] | 1;
        }
    }
}

static bool among(sim_operand o, const sim_operand *list, int count)
{
    for (int i = 0; i < count; i++)
        if (list[i] == o)
            return true;
    return false;
}

/* Whether `e` and the next instruction are matrix products with the same A that may be done together.
 * Neither has a guard or f16 accumulators, the second does not read what the first writes, and all operands
 * are registers. */
static bool are_pair(const sim_program *p, const sim_instruction *e, sim_handler *product)
{
    const sim_instruction *next = e + 1;
    if (e->kind != SIM_HANDLER || next->kind != SIM_HANDLER || e->handler != product ||
        next->handler != product || e->guard >= 0 || next->guard >= 0 || e->x[2] ||
        memcmp(e->x, next->x, sizeof e->x) != 0)
        return false;
    const int accumulators = e->x[3], a = e->x[4];
    const sim_operand *one = p->list + e->list, *two = p->list + next->list;
    for (int i = 0; i < accumulators; i++)
        if (among(one[i], two + accumulators, next->list_count - accumulators))
            return false;
    for (int i = 0; i < e->list_count; i++)
        if ((one[i] | two[i]) & 1) /* a constant */
            return false;
    return memcmp(one + accumulators, two + accumulators, sizeof *one * (size_t)a) == 0;
}

static void pair_products(const sim_program *p, const struct sim_handlers *handlers)
{
    for (int i = 0; i + 1 < p->count; i++)
        if (are_pair(p, &p->code[i], handlers->mma_float))
            p->code[i++].handler = handlers->mma_pair;
}

sim_program *sim_decode(const ptx_module *module, const ptx_function *function,
                        const struct sim_lanes *lanes, sim_address_of *address_of, void *context)
{
    sim_arena *arena = module->arena;
    decoder *dc = sim_arena_alloc(arena, sizeof *dc);
    sim_program *p = sim_arena_alloc(arena, sizeof *p);
    static const ptx_instruction nothing = {.text = "", .opcode = "", .guard = -1};
    dc->arena = arena;
    dc->module = module;
    dc->entry = function;
    dc->lanes = lanes;
    dc->address_of = address_of;
    dc->context = context;
    dc->program = p;
    dc->in = &nothing;
    p->name = function->name;
    p->max_threads = function->max_threads ? function->max_threads : 1024;
    for (int i = 0; i < SIM_SPECIALS; i++)
        dc->special[i] = -1;
    decode_constant_value(dc, 0, true); /* this is SIM_ZERO, wide enough for both widths */
    place_shared(dc);
    decode_frame *frame = frame_open(dc, function, NULL);
    frame_place(dc, frame, 0);
    decode_body(dc, frame);
    /* A kernel that runs off its end exits. So do lanes that meet nowhere but at the end of the kernel. */
    static const ptx_instruction end = {.text = "ret", .opcode = "ret", .guard = -1};
    dc->in = &end;
    dc->frame = frame;
    for (const decode_opcode *o = decode_control_opcodes; o->base; o++)
        if (!strcmp(o->base, "exit")) {
            split_opcode(dc);
            o->decode(dc);
        }
    fix_targets(dc);
    decode_flow(dc);
    build_constants(dc);
    pair_products(p, lanes->handlers);
    p->local_bytes = align_up(dc->local_bytes, 16);
    return p;
}
