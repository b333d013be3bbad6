/* Analyzes the control flow of the decoded code. This finds where diverging lanes meet (immediate
 * post-dominators) and which registers are live where. From that it follows where registers lie in a warp's
 * register file. */
#include "decode.h"
#include "exec.h"

#include <stdlib.h>
#include <string.h>

typedef struct block {
    int first, last; /* indices of instructions */
    int succ_count;
    int *succ; /* indices of blocks */
    int pred_count;
    int *pred;
    int order; /* number in postorder of the reversed graph; -1 if not reached */
    int ipdom; /* immediate post-dominator: a block, or the exit */
    uint64_t *in, *out, *use, *def;
} block;

typedef struct flow {
    decoder *dc;
    int count;
    block *blocks; /* `count` blocks, and one more for the exit */
    int *block_of; /* the block of each instruction */
} flow;

static bool is_switch(const sim_instruction *e)
{
    return e->kind == SIM_HANDLER && e->handler == sim_exec_switch;
}

static bool is_exit(const sim_instruction *e)
{
    return e->kind == SIM_HANDLER && (e->handler == sim_exec_exit || e->handler == sim_exec_trap) &&
           e->guard < 0;
}

/* ---------------------------------------------------------------- blocks */

static void find_blocks(flow *f)
{
    decoder *dc = f->dc;
    uint8_t *leader = sim_arena_alloc(dc->arena, (size_t)dc->code_count + 1);
    leader[0] = 1;
    for (int i = 0; i < dc->code_count; i++) {
        const sim_instruction *e = &dc->code[i];
        if (e->kind == SIM_BRANCH)
            leader[e->target] = leader[i + 1] = 1;
        else if (is_switch(e)) {
            for (uint64_t k = 0; k < e->immediate; k++)
                leader[dc->list[e->list + (int)k]] = 1;
            leader[i + 1] = 1;
        } else if (is_exit(e))
            leader[i + 1] = 1;
    }
    for (int i = 0; i < dc->code_count; i++)
        f->count += leader[i];
    f->blocks = sim_arena_alloc(dc->arena, ((size_t)f->count + 1) * sizeof *f->blocks);
    f->block_of = sim_arena_alloc(dc->arena, ((size_t)dc->code_count + 1) * sizeof *f->block_of);
    int b = -1;
    for (int i = 0; i < dc->code_count; i++) {
        if (leader[i])
            f->blocks[++b].first = i;
        f->blocks[b].last = i;
        f->block_of[i] = b;
    }
}

static void add_edge(flow *f, int from, int to)
{
    block *b = &f->blocks[from];
    b->succ[b->succ_count++] = to;
    f->blocks[to].pred_count++;
}

static void link_blocks(flow *f)
{
    decoder *dc = f->dc;
    for (int b = 0; b < f->count; b++) {
        const sim_instruction *e = &dc->code[f->blocks[b].last];
        f->blocks[b].succ =
            sim_arena_alloc(dc->arena, (2 + (is_switch(e) ? (size_t)e->immediate : 0)) * sizeof(int));
        if (is_exit(e))
            add_edge(f, b, f->count);
        else if (is_switch(e))
            for (uint64_t k = 0; k < e->immediate; k++)
                add_edge(f, b, f->block_of[dc->list[e->list + (int)k]]);
        else {
            if (e->kind == SIM_BRANCH)
                add_edge(f, b, f->block_of[e->target]);
            if (e->kind != SIM_BRANCH || e->guard >= 0)
                add_edge(f, b, b + 1);
        }
    }
    for (int b = 0; b <= f->count; b++) {
        f->blocks[b].pred = sim_arena_alloc(dc->arena, (size_t)f->blocks[b].pred_count * sizeof(int) + 1);
        f->blocks[b].pred_count = 0;
    }
    for (int b = 0; b < f->count; b++)
        for (int k = 0; k < f->blocks[b].succ_count; k++) {
            block *to = &f->blocks[f->blocks[b].succ[k]];
            to->pred[to->pred_count++] = b;
        }
}

/* ---------------------------------------------------------------- post-dominators */

/* Uses the algorithm of Cooper, Harvey, Kennedy, "A Simple, Fast Dominance Algorithm", on the reversed
 * graph. Blocks from which the exit cannot be reached keep the exit as their post-dominator. */
static void post_dominators(flow *f)
{
    decoder *dc = f->dc;
    int exit = f->count, n = f->count + 1, top = 0, visited = 0;
    int *stack = sim_arena_alloc(dc->arena, (size_t)n * sizeof *stack);
    int *next = sim_arena_alloc(dc->arena, (size_t)n * sizeof *next);
    int *postorder = sim_arena_alloc(dc->arena, (size_t)n * sizeof *postorder);
    for (int b = 0; b < n; b++)
        f->blocks[b].order = f->blocks[b].ipdom = -1;
    f->blocks[exit].order = -2;
    stack[top++] = exit;
    while (top) {
        int b = stack[top - 1];
        if (next[b] < f->blocks[b].pred_count) {
            int p = f->blocks[b].pred[next[b]++];
            if (f->blocks[p].order == -1) {
                f->blocks[p].order = -2;
                stack[top++] = p;
            }
        } else {
            postorder[visited] = b;
            f->blocks[b].order = visited++;
            top--;
        }
    }
    f->blocks[exit].ipdom = exit;
    for (bool changed = true; changed;) {
        changed = false;
        for (int i = visited - 2; i >= 0; i--) {
            block *b = &f->blocks[postorder[i]];
            int found = -1;
            for (int k = 0; k < b->succ_count; k++) {
                int s = b->succ[k];
                if (f->blocks[s].ipdom < 0)
                    continue;
                if (found < 0) {
                    found = s;
                    continue;
                }
                while (found != s)
                    if (f->blocks[found].order < f->blocks[s].order)
                        found = f->blocks[found].ipdom;
                    else
                        s = f->blocks[s].ipdom;
            }
            if (found >= 0 && b->ipdom != found) {
                b->ipdom = found;
                changed = true;
            }
        }
    }
    for (int b = 0; b < f->count; b++)
        if (f->blocks[b].ipdom < 0)
            f->blocks[b].ipdom = exit;
}

/* Puts a SIM_MEET in front of every block where the lanes of a divergent branch meet, and sets joins. */
static void insert_meets(flow *f)
{
    decoder *dc = f->dc;
    uint8_t *meets = sim_arena_alloc(dc->arena, (size_t)f->count + 1);
    for (int b = 0; b < f->count; b++) {
        const sim_instruction *e = &dc->code[f->blocks[b].last];
        if ((e->kind == SIM_BRANCH && e->guard >= 0) || is_switch(e))
            meets[f->blocks[b].ipdom] = 1;
    }
    int extra = 0;
    int *moved = sim_arena_alloc(dc->arena, ((size_t)dc->code_count + 1) * sizeof *moved);
    for (int i = 0; i < dc->code_count; i++) {
        int b = f->block_of[i];
        moved[i] = i + extra; /* for the first instruction of a block: the place of its SIM_MEET */
        if (f->blocks[b].first == i && meets[b])
            extra++;
    }
    int total = dc->code_count + extra;
    sim_instruction *code = sim_arena_alloc(dc->arena, (size_t)total * sizeof *code);
    sim_origin *origins = sim_arena_alloc(dc->arena, (size_t)total * sizeof *origins);
    for (int b = 0; b < f->count; b++) {
        int to = moved[f->blocks[b].first];
        if (meets[b]) {
            code[to] = (sim_instruction){.d = SIM_ZERO,
                                         .a = SIM_ZERO,
                                         .b = SIM_ZERO,
                                         .c = SIM_ZERO,
                                         .guard = SIM_NO_GUARD,
                                         .kind = SIM_MEET,
                                         .class = SIM_UNCOUNTED};
            origins[to++] = dc->origins[f->blocks[b].first];
        }
        for (int i = f->blocks[b].first; i <= f->blocks[b].last; i++, to++) {
            code[to] = dc->code[i];
            origins[to] = dc->origins[i];
            if (code[to].kind == SIM_BRANCH)
                code[to].target = moved[code[to].target];
            else if (is_switch(&code[to]))
                for (uint64_t k = 0; k < code[to].immediate; k++)
                    dc->list[code[to].list + (int)k] = moved[dc->list[code[to].list + (int)k]];
            int join = f->blocks[b].ipdom;
            code[to].join = join == f->count ? total : moved[f->blocks[join].first];
        }
    }
    dc->program->code = code;
    dc->program->origins = origins;
    dc->program->count = total;
    for (int b = 0; b < f->count; b++) {
        int first = f->blocks[b].first, last = f->blocks[b].last;
        f->blocks[b].first = moved[first];
        f->blocks[b].last = moved[last] + (first == last && meets[b]);
    }
}

/* ---------------------------------------------------------------- liveness */

/* Calls visit(context, register, is_definition) for each register of an instruction, sources first. A
 * definition under a guard keeps the lanes that it does not write, so its register is visited as a source
 * too. */
typedef void visitor(void *context, int reg, bool defines);

static void visit_one(sim_operand o, bool defines, visitor *visit, void *context)
{
    if (!(o & 1))
        visit(context, o >> 1, defines);
}

static void visit_registers(const decoder *dc, const sim_instruction *e, visitor *visit, void *context)
{
    bool partial = e->guard >= 0;
    if (e->guard >= 0)
        visit(context, e->guard >> 1, false);
    visit_one(e->a, false, visit, context);
    visit_one(e->b, false, visit, context);
    visit_one(e->c, false, visit, context);
    for (int i = e->list_defs; i < e->list_count; i++)
        visit_one(dc->list[e->list + i], false, visit, context);
    for (int i = 0; i < e->list_defs; i++) {
        if (partial)
            visit_one(dc->list[e->list + i], false, visit, context);
        visit_one(dc->list[e->list + i], true, visit, context);
    }
    if (partial)
        visit_one(e->d, false, visit, context);
    visit_one(e->d, true, visit, context);
}

struct summary {
    uint64_t *use, *def;
};

static void summarize(void *context, int reg, bool defines)
{
    struct summary *s = context;
    uint64_t bit = 1ull << (reg & 63);
    if (defines)
        s->def[reg >> 6] |= bit;
    else if (!(s->def[reg >> 6] & bit))
        s->use[reg >> 6] |= bit;
}

static void liveness(flow *f)
{
    decoder *dc = f->dc;
    size_t words = ((size_t)dc->register_count + 63) / 64;
    for (int b = 0; b <= f->count; b++) {
        block *k = &f->blocks[b];
        uint64_t *sets = sim_arena_alloc(dc->arena, words * 4 * sizeof *sets);
        k->in = sets;
        k->out = sets + words;
        k->use = sets + 2 * words;
        k->def = sets + 3 * words;
        struct summary s = {k->use, k->def};
        if (b < f->count)
            for (int i = k->first; i <= k->last; i++)
                visit_registers(dc, &dc->program->code[i], summarize, &s);
    }
    for (bool changed = true; changed;) {
        changed = false;
        for (int b = f->count - 1; b >= 0; b--) {
            block *k = &f->blocks[b];
            for (size_t w = 0; w < words; w++) {
                uint64_t out = 0;
                for (int s = 0; s < k->succ_count; s++)
                    out |= f->blocks[k->succ[s]].in[w];
                uint64_t in = k->use[w] | (out & ~k->def[w]);
                changed |= in != k->in[w];
                k->out[w] = out;
                k->in[w] = in;
            }
        }
    }
}

/* ---------------------------------------------------------------- registers */

struct interval {
    int reg, first, last; /* positions: 2 * instruction, + 1 where the register is written */
};

struct placing {
    struct interval *intervals;
    int position;
};

static void extend(struct interval *v, int position)
{
    if (v->first > position)
        v->first = position;
    if (v->last < position)
        v->last = position;
}

static void occurrence(void *context, int reg, bool defines)
{
    struct placing *p = context;
    extend(&p->intervals[reg], p->position + defines);
}

static int by_start(const void *a, const void *b)
{
    const struct interval *x = a, *y = b;
    return x->first != y->first ? (x->first > y->first) - (x->first < y->first) : x->reg - y->reg;
}

/* The slots for the registers of one size class. A slot is free again once the interval of its register has
 * ended. */
struct slots {
    int *busy_until;
    int count;
};

static int take_slot(struct slots *s, const struct interval *v)
{
    for (int i = 0; i < s->count; i++)
        if (s->busy_until[i] < v->first) {
            s->busy_until[i] = v->last;
            return i;
        }
    s->busy_until[s->count] = v->last;
    return s->count++;
}

static void place_registers(flow *f)
{
    decoder *dc = f->dc;
    sim_program *p = dc->program;
    int n = dc->register_count;
    struct interval *v = sim_arena_alloc(dc->arena, ((size_t)n + 1) * sizeof *v);
    for (int r = 0; r < n; r++)
        v[r] = (struct interval){r, p->count * 2 + 2, -1};
    struct placing placing = {v, 0};
    for (int b = 0; b < f->count; b++) {
        const block *k = &f->blocks[b];
        for (int r = 0; r < n; r++) {
            if (k->in[r >> 6] >> (r & 63) & 1)
                extend(&v[r], k->first * 2);
            if (k->out[r >> 6] >> (r & 63) & 1)
                extend(&v[r], k->last * 2 + 2);
        }
        for (int i = k->first; i <= k->last; i++) {
            placing.position = i * 2;
            visit_registers(dc, &p->code[i], occurrence, &placing);
        }
    }
    for (int i = 0; i < SIM_SPECIALS; i++) /* they are set before the first instruction */
        if (dc->special[i] >= 0)
            extend(&v[dc->special[i]], -1);
    qsort(v, (size_t)n, sizeof *v, by_start);
    struct slots slots[4] = {{0}};
    for (int w = 0; w < 4; w++)
        slots[w].busy_until = sim_arena_alloc(dc->arena, ((size_t)n + 1) * sizeof(int));
    int *slot = sim_arena_alloc(dc->arena, ((size_t)n + 1) * sizeof *slot);
    for (int i = 0; i < n; i++) {
        int width = dc->widths[v[i].reg] == WIDTH_16 ? WIDTH_32 : dc->widths[v[i].reg];
        if (v[i].last >= -1 && v[i].first <= p->count * 2 + 1)
            slot[v[i].reg] = take_slot(&slots[width], &v[i]);
    }
    size_t at_32 = (size_t)slots[WIDTH_64].count * 256,
           at_pred = at_32 + (size_t)slots[WIDTH_32].count * 128;
    int *offset = slot;
    for (int r = 0; r < n; r++) {
        size_t s = (size_t)slot[r];
        offset[r] = (int)(dc->widths[r] == WIDTH_64     ? s * 256
                          : dc->widths[r] == WIDTH_PRED ? at_pred + s * 4
                                                        : at_32 + s * 128);
    }
    p->register_bytes = (at_pred + (size_t)slots[WIDTH_PRED].count * 4 + 63) & ~(size_t)63;
    p->registers = slots[WIDTH_64].count * 2 + slots[WIDTH_32].count;
    for (int i = 0; i < SIM_SPECIALS; i++)
        p->special[i] = dc->special[i] < 0 ? -1 : offset[dc->special[i]];
    for (int i = 0; i < p->count; i++) {
        sim_instruction *e = &p->code[i];
        sim_operand *o[] = {&e->d, &e->a, &e->b, &e->c};
        for (int k = 0; k < 4; k++)
            if (!(*o[k] & 1))
                *o[k] = offset[*o[k] >> 1];
        if (e->guard >= 0)
            e->guard = offset[e->guard >> 1];
        for (int k = 0; k < e->list_count; k++) {
            sim_operand *l = &dc->list[e->list + k];
            if (!(*l & 1))
                *l = offset[*l >> 1];
        }
    }
    p->list = dc->list;
    p->list_count = dc->list_count;
}

void decode_flow(decoder *dc)
{
    flow f = {.dc = dc};
    find_blocks(&f);
    link_blocks(&f);
    post_dominators(&f);
    insert_meets(&f);
    liveness(&f);
    place_registers(&f);
}
