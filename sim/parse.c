/* Parses PTX text into a ptx_module, by recursive descent over the characters. */
#include "ptx.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

enum { SCOPES_OPEN_MAX = 64, NESTING_MAX = 16 };

struct name {
    const char *text;
    int count; /* number of registers, named text0 .. text<count-1>; 0: just text */
    int first; /* first register, or -1 for a variable */
    ptx_variable *variable;
};

typedef struct parser {
    sim_arena *arena;
    ptx_module *module;
    ptx_function *function; /* NULL at module level */
    const char *p;
    int line;
    int file, source_line, caller_file, caller_line; /* see ptx_instruction */
    int name_count, name_capacity;
    struct name *names; /* names of inner scopes come last */
    int scope_depth;
    int nesting; /* depth of braces and operands within one statement */
    int scopes[SCOPES_OPEN_MAX], scope_names[SCOPES_OPEN_MAX];
} parser;

/* ---------------------------------------------------------------- characters */

static _Noreturn void fail(parser *ps, const char *what)
{
    char near[48];
    int n = 0;
    while (n < (int)sizeof near - 1 && ps->p[n] && ps->p[n] != '\n') {
        near[n] = ps->p[n];
        n++;
    }
    near[n] = 0;
    error_at(ps->arena->err, "", 0);
    sim_arena_fail(ps->arena, XQ_ERROR_DEVICE, "%s: PTX line %d: %s at \"%s\"", ps->module->name, ps->line,
                   what, near);
}

static void skip(parser *ps)
{
    for (;;) {
        char c = *ps->p;
        if (c == '\n')
            ps->line++, ps->p++;
        else if (c == ' ' || c == '\t' || c == '\r')
            ps->p++;
        else if (c == '/' && ps->p[1] == '/')
            while (*ps->p && *ps->p != '\n')
                ps->p++;
        else if (c == '/' && ps->p[1] == '*') {
            for (ps->p += 2; *ps->p && !(ps->p[0] == '*' && ps->p[1] == '/'); ps->p++)
                ps->line += *ps->p == '\n';
            if (!*ps->p)
                fail(ps, "unterminated comment");
            ps->p += 2;
        } else
            return;
    }
}

static bool accept(parser *ps, char c)
{
    skip(ps);
    if (*ps->p != c)
        return false;
    ps->p++;
    return true;
}

static void expect(parser *ps, char c)
{
    if (!accept(ps, c)) {
        char what[] = "expected '?'";
        what[10] = c;
        fail(ps, what);
    }
}

static bool is_word(char c)
{
    return isalnum((unsigned char)c) || c == '_' || c == '$' || c == '%';
}

static const char *copy(parser *ps, const char *from, size_t length)
{
    char *s = sim_arena_alloc(ps->arena, length + 1);
    memcpy(s, from, length);
    return s;
}

/* Reads an identifier; returns "" if there is none. With `dots`, it reads an opcode with its modifiers. */
static const char *word(parser *ps, bool dots)
{
    skip(ps);
    const char *from = ps->p;
    while (is_word(*ps->p) || (dots && (*ps->p == '.' || (*ps->p == ':' && ps->p[1] == ':'))) ||
           (dots && ps->p > from && *ps->p == ':' && ps->p[-1] == ':'))
        ps->p++;
    return copy(ps, from, (size_t)(ps->p - from));
}

static const char *need_word(parser *ps, const char *what)
{
    const char *w = word(ps, false);
    if (!*w)
        fail(ps, what);
    return w;
}

static bool accept_word(parser *ps, const char *text)
{
    skip(ps);
    size_t n = strlen(text);
    if (strncmp(ps->p, text, n) || is_word(ps->p[n]))
        return false;
    ps->p += n;
    return true;
}

static uint64_t integer(parser *ps)
{
    skip(ps);
    bool negative = false;
    while (*ps->p == '-' || *ps->p == '+') {
        negative ^= *ps->p == '-';
        ps->p++;
        skip(ps);
    }
    if (!isdigit((unsigned char)*ps->p))
        fail(ps, "expected an integer");
    char *end;
    uint64_t value;
    if (ps->p[0] == '0' && (ps->p[1] == 'b' || ps->p[1] == 'B'))
        value = strtoull(ps->p + 2, &end, 2);
    else
        value = strtoull(ps->p, &end, 0);
    if (*end == 'U')
        end++;
    ps->p = end;
    return negative ? -value : value;
}

static bool at_hex_float(const parser *ps)
{
    return ps->p[0] == '0' && strchr("fFdD", ps->p[1]) && ps->p[1] && isxdigit((unsigned char)ps->p[2]);
}

static uint64_t hex_float(parser *ps, bool *is_double)
{
    *is_double = (ps->p[1] | 32) == 'd';
    int digits = *is_double ? 16 : 8;
    uint64_t bits = 0;
    for (int i = 0; i < digits; i++) {
        char c = ps->p[2 + i];
        if (!isxdigit((unsigned char)c))
            fail(ps, "malformed floating-point constant");
        bits = bits << 4 | (uint64_t)(isdigit((unsigned char)c) ? c - '0' : (c | 32) - 'a' + 10);
    }
    ps->p += 2 + digits;
    return bits;
}

static void skip_to(parser *ps, char c)
{
    while (*ps->p && *ps->p != c) {
        ps->line += *ps->p == '\n';
        ps->p++;
    }
    expect(ps, c);
}

/* ---------------------------------------------------------------- names */

static struct name *name_add(parser *ps, const char *text)
{
    SIM_ARENA_GROW(ps->arena, ps->names, ps->name_count, ps->name_capacity);
    struct name *n = &ps->names[ps->name_count++];
    *n = (struct name){text, 0, -1, NULL};
    return n;
}

/* Finds a register (and sets *index) or a variable (and sets *variable). Returns false if the name is
 * unknown. */
static bool name_find(parser *ps, const char *text, int *index, ptx_variable **variable)
{
    size_t length = strlen(text), stem = length;
    while (stem && isdigit((unsigned char)text[stem - 1]))
        stem--;
    for (int i = ps->name_count - 1; i >= 0; i--) {
        struct name *n = &ps->names[i];
        if (!n->count && !strcmp(n->text, text)) {
            *index = n->first;
            *variable = n->variable;
            return true;
        }
        size_t prefix = strlen(n->text);
        if (n->count && prefix >= stem && prefix < length && !strncmp(n->text, text, prefix)) {
            long number = strtol(text + prefix, NULL, 10);
            if (number < n->count) {
                *index = n->first + (int)number;
                *variable = NULL;
                return true;
            }
        }
    }
    return false;
}

static void scope_open(parser *ps)
{
    if (ps->scope_depth == SCOPES_OPEN_MAX)
        fail(ps, "blocks nested too deeply");
    ptx_function *f = ps->function;
    SIM_ARENA_GROW(ps->arena, f->scope_parent, f->scope_count, f->scope_capacity);
    f->scope_parent[f->scope_count] = ps->scope_depth ? ps->scopes[ps->scope_depth - 1] : -1;
    ps->scopes[ps->scope_depth] = f->scope_count++;
    ps->scope_names[ps->scope_depth++] = ps->name_count;
}

static void scope_close(parser *ps)
{
    ps->name_count = ps->scope_names[--ps->scope_depth];
}

/* ---------------------------------------------------------------- declarations */

/* Reads what may stand between a state space and a name: .align N, vector sizes, types, .ptr and its
 * attributes. Returns the type. */
static enum ptx_type declaration_type(parser *ps, int *align, int *vector)
{
    enum ptx_type type = PTX_NONE;
    *align = 0;
    *vector = 1;
    while (accept(ps, '.')) {
        const char *w = need_word(ps, "expected a type or attribute");
        enum ptx_type t = ptx_type_named(w, (int)strlen(w));
        if (t)
            type = t;
        else if (!strcmp(w, "align"))
            *align = (int)integer(ps);
        else if (!strcmp(w, "v2"))
            *vector = 2;
        else if (!strcmp(w, "v4"))
            *vector = 4;
        else if (strcmp(w, "ptr") && strcmp(w, "global") && strcmp(w, "shared") && strcmp(w, "const") &&
                 strcmp(w, "local"))
            fail(ps, "unknown attribute of a declaration");
    }
    if (!type)
        fail(ps, "expected a type");
    return type;
}

static void declare_registers(parser *ps)
{
    ptx_function *f = ps->function;
    int align, vector;
    enum ptx_type type = declaration_type(ps, &align, &vector);
    if (vector != 1)
        fail(ps, "vector registers are not supported");
    do {
        struct name *n = name_add(ps, need_word(ps, "expected a register name"));
        n->first = f->register_count;
        int count = 1;
        if (accept(ps, '<')) {
            count = (int)integer(ps);
            if (count < 1 || count > 1 << 20)
                fail(ps, "register count out of range");
            n->count = count;
            expect(ps, '>');
        }
        for (int i = 0; i < count; i++) {
            SIM_ARENA_GROW(ps->arena, f->register_types, f->register_count, f->register_capacity);
            f->register_types[f->register_count++] = (uint8_t)type;
        }
    } while (accept(ps, ','));
}

static void put(uint8_t *to, uint64_t value, int bytes)
{
    for (int i = 0; i < bytes; i++)
        to[i] = (uint8_t)(value >> 8 * i);
}

static void initializer(parser *ps, ptx_variable *v, int bytes, uint64_t *at)
{
    if (accept(ps, '{')) {
        if (++ps->nesting > NESTING_MAX)
            fail(ps, "braces nested too deeply");
        if (!accept(ps, '}')) {
            do
                initializer(ps, v, bytes, at);
            while (accept(ps, ','));
            expect(ps, '}');
        }
        ps->nesting--;
        return;
    }
    if (*at + (uint64_t)bytes > v->bytes)
        fail(ps, "initializer is longer than its variable");
    skip(ps);
    bool is_double;
    if (at_hex_float(ps))
        put(v->initial + *at, hex_float(ps, &is_double), bytes);
    else if (isalpha((unsigned char)*ps->p) || *ps->p == '_' || *ps->p == '$') {
        ptx_relocation *r = sim_arena_alloc(ps->arena, sizeof *r);
        r->name = word(ps, false);
        bool generic = !strcmp(r->name, "generic");
        if (generic) {
            expect(ps, '(');
            r->name = need_word(ps, "expected a variable");
            expect(ps, ')');
        }
        if (accept(ps, '+'))
            r->addend = (int64_t)integer(ps);
        if (bytes != 8)
            fail(ps, "an address does not fit this initializer");
        r->offset = *at;
        r->next = v->relocations;
        v->relocations = r;
    } else
        put(v->initial + *at, integer(ps), bytes);
    *at += (uint64_t)bytes;
}

/* Declares one variable, whose state space was just read. It reads up to ';', or in parameter lists up to
 * ',' or ')'. */
static ptx_variable *declare_variable(parser *ps, enum ptx_space space, bool is_extern)
{
    int align, vector;
    enum ptx_type type = declaration_type(ps, &align, &vector);
    int element = ptx_type_bits(type) / 8 * vector;
    ptx_variable *v = sim_arena_alloc(ps->arena, sizeof *v);
    v->name = need_word(ps, "expected a variable name");
    v->space = space;
    v->is_extern = is_extern;
    v->align = align ? align : element;
    if (v->align < 1 || v->align > 1024 || v->align & (v->align - 1))
        fail(ps, "alignment out of range");
    uint64_t count = 1;
    while (accept(ps, '[')) {
        uint64_t n = 0;
        if (!accept(ps, ']')) {
            n = integer(ps);
            expect(ps, ']');
        }
        count *= n;
        if (n > 1u << 30 || count > 1u << 30)
            fail(ps, "array too large");
    }
    v->bytes = count * (uint64_t)element;
    if (v->bytes > 1u << 30)
        fail(ps, "variable too large");
    if (accept(ps, '=')) {
        uint64_t at = 0;
        v->initial = sim_arena_alloc(ps->arena, v->bytes + 8);
        initializer(ps, v, element / vector, &at);
    }
    struct name *n = name_add(ps, v->name);
    n->variable = v;
    if (ps->function) {
        ptx_function *f = ps->function;
        v->id = f->variable_count;
        SIM_ARENA_GROW(ps->arena, f->variables, f->variable_count, f->variable_capacity);
        f->variables[f->variable_count++] = v;
    } else {
        ptx_module *m = ps->module;
        v->id = m->variable_count;
        v->is_module = true;
        SIM_ARENA_GROW(ps->arena, m->variables, m->variable_count, m->variable_capacity);
        m->variables[m->variable_count++] = v;
    }
    return v;
}

static bool space_named(const char *w, enum ptx_space *space)
{
    static const struct {
        const char *name;
        enum ptx_space space;
    } spaces[] = {{"param", PTX_PARAM},
                  {"local", PTX_LOCAL},
                  {"shared", PTX_SHARED},
                  {"global", PTX_GLOBAL},
                  {"const", PTX_CONST}};
    for (size_t i = 0; i < sizeof spaces / sizeof *spaces; i++)
        if (!strcmp(w, spaces[i].name)) {
            *space = spaces[i].space;
            return true;
        }
    return false;
}

/* ---------------------------------------------------------------- operands */

static ptx_operand operand(parser *ps);

static void operand_list(parser *ps, ptx_operand *list, char close)
{
    int capacity = 0;
    list->kind = PTX_OPERAND_VECTOR;
    if (accept(ps, close))
        return;
    do {
        SIM_ARENA_GROW(ps->arena, list->elements, list->count, capacity);
        ptx_operand element = operand(ps);
        list->elements[list->count++] = element;
    } while (accept(ps, ','));
    expect(ps, close);
}

static void named_operand(parser *ps, ptx_operand *o)
{
    const char *name = need_word(ps, "expected an operand");
    ptx_variable *variable = NULL;
    int index = -1;
    o->name = name;
    if (!strcmp(name, "_"))
        o->kind = PTX_OPERAND_SINK;
    else if (name_find(ps, name, &index, &variable)) {
        o->kind = variable ? PTX_OPERAND_VARIABLE : PTX_OPERAND_REGISTER;
        o->index = index;
        o->variable = variable;
    } else if (name[0] == '%' || !strcmp(name, "WARP_SZ")) {
        o->kind = PTX_OPERAND_SPECIAL;
        if (*ps->p == '.') {
            const char *from = ps->p - strlen(name);
            ps->p++;
            while (is_word(*ps->p))
                ps->p++;
            o->name = copy(ps, from, (size_t)(ps->p - from));
        }
    } else {
        o->kind = PTX_OPERAND_NAME;
        o->scope = ps->scope_depth ? ps->scopes[ps->scope_depth - 1] : 0;
    }
}

static ptx_operand operand_inside(parser *ps)
{
    ptx_operand o = {.kind = PTX_OPERAND_INTEGER, .index = -1};
    skip(ps);
    char c = *ps->p;
    if (c == '{' || c == '(') {
        ps->p++;
        operand_list(ps, &o, c == '{' ? '}' : ')');
        return o;
    }
    if (c == '[') {
        ps->p++;
        o.kind = PTX_OPERAND_ADDRESS;
        o.count = 1;
        o.elements = sim_arena_alloc(ps->arena, sizeof *o.elements);
        o.elements[0] = operand(ps);
        if (o.elements[0].kind == PTX_OPERAND_VARIABLE || o.elements[0].kind == PTX_OPERAND_INTEGER) {
            o.bits = o.elements[0].bits;
            o.elements[0].bits = 0;
        }
        while (accept(ps, '+'))
            o.bits += integer(ps);
        skip(ps);
        if (*ps->p == '-')
            o.bits += integer(ps);
        if (accept(ps, ',')) { /* such as texture coordinates, which no known instruction has */
            o.kind = PTX_OPERAND_SINK;
            skip_to(ps, ']');
        } else
            expect(ps, ']');
        return o;
    }
    if (c == '!') {
        ps->p++;
        o = operand(ps);
        o.negated = true;
        return o;
    }
    bool is_double;
    if (at_hex_float(ps)) {
        o.bits = hex_float(ps, &is_double);
        o.kind = is_double ? PTX_OPERAND_FLOAT64 : PTX_OPERAND_FLOAT32;
        return o;
    }
    if (c == '-' && ps->p[1] == '0' && strchr("fFdD", ps->p[2]) && ps->p[2]) {
        ps->p++;
        o.bits = hex_float(ps, &is_double) ^ (is_double ? 1ull << 63 : 1u << 31);
        o.kind = is_double ? PTX_OPERAND_FLOAT64 : PTX_OPERAND_FLOAT32;
        return o;
    }
    if (isdigit((unsigned char)c) || c == '-' || c == '+') {
        char *end;
        strtod(ps->p, &end);
        size_t n = strspn(ps->p, "+-0123456789");
        if (ps->p[n] == '.' || ((ps->p[n] | 32) == 'e' && end > ps->p + n)) { /* decimal, e.g. 1.5 */
            double d = strtod(ps->p, &end);
            memcpy(&o.bits, &d, 8);
            o.kind = PTX_OPERAND_FLOAT64;
            ps->p = end;
        } else
            o.bits = integer(ps);
        return o;
    }
    named_operand(ps, &o);
    if (o.kind == PTX_OPERAND_VARIABLE) {
        skip(ps);
        if (*ps->p == '+') {
            ps->p++;
            o.bits = integer(ps);
        }
    }
    if (accept(ps, '|')) {
        o.second = sim_arena_alloc(ps->arena, sizeof *o.second);
        *o.second = operand(ps);
    }
    return o;
}

static ptx_operand operand(parser *ps)
{
    if (++ps->nesting > NESTING_MAX)
        fail(ps, "operands nested too deeply");
    ptx_operand o = operand_inside(ps);
    ps->nesting--;
    return o;
}

/* ---------------------------------------------------------------- statements */

static const char *statement_text(parser *ps, const char *from)
{
    size_t n = 0, k = 0;
    while (from[n] && from[n] != ';' && n < 200)
        n++;
    char *s = sim_arena_alloc(ps->arena, n + 2);
    for (size_t i = 0; i < n; i++) {
        char c = isspace((unsigned char)from[i]) ? ' ' : from[i];
        if (c != ' ' || (k && s[k - 1] != ' '))
            s[k++] = c;
    }
    return s;
}

static void instruction(parser *ps)
{
    ptx_function *f = ps->function;
    skip(ps);
    ptx_instruction in = {.guard = -1,
                          .line = ps->line,
                          .file = ps->file,
                          .source_line = ps->source_line,
                          .caller_file = ps->caller_file,
                          .caller_line = ps->caller_line};
    in.text = statement_text(ps, ps->p);
    if (accept(ps, '@')) {
        in.guard_negated = accept(ps, '!');
        ptx_variable *variable = NULL;
        const char *name = need_word(ps, "expected a predicate");
        if (!name_find(ps, name, &in.guard, &variable) || variable ||
            f->register_types[in.guard] != PTX_PRED)
            fail(ps, "a guard must be a predicate register");
    }
    in.opcode = word(ps, true);
    if (!*in.opcode)
        fail(ps, "expected an instruction");
    int capacity = 0;
    if (!accept(ps, ';')) {
        do {
            SIM_ARENA_GROW(ps->arena, in.operands, in.count, capacity);
            ptx_operand o = operand(ps);
            in.operands[in.count++] = o;
        } while (accept(ps, ','));
        expect(ps, ';');
    }
    SIM_ARENA_GROW(ps->arena, f->instructions, f->instruction_count, f->instruction_capacity);
    f->instructions[f->instruction_count++] = in;
}

static void location(parser *ps)
{
    ps->file = (int)integer(ps);
    ps->source_line = (int)integer(ps);
    integer(ps);
    /* The rest of the line may be ", function_name LABEL[+N], inlined_at FILE LINE COLUMN". */
    static const char inlined[] = "inlined_at ";
    const char *end = ps->p + strcspn(ps->p, "\n");
    const char *caller = memmem(ps->p, (size_t)(end - ps->p), inlined, sizeof inlined - 1);
    ps->caller_file = ps->caller_line = 0;
    if (caller) {
        ps->p = caller + sizeof inlined - 1;
        ps->caller_file = (int)integer(ps);
        ps->caller_line = (int)integer(ps);
        integer(ps);
    }
    ps->p = end;
}

/* Reads "name:" before a statement, or "name: .branchtargets a, b;". Returns false if there is no label. */
static bool label(parser *ps)
{
    ptx_function *f = ps->function;
    const char *q = ps->p;
    while (is_word(*q))
        q++;
    const char *end = q;
    while (*q == ' ' || *q == '\t')
        q++;
    if (end == ps->p || *q != ':' || q[1] == ':')
        return false;
    const char *name = copy(ps, ps->p, (size_t)(end - ps->p));
    ps->p = q + 1;
    skip(ps);
    if (accept_word(ps, ".branchtargets")) {
        ptx_operand list = {0};
        operand_list(ps, &list, ';');
        SIM_ARENA_GROW(ps->arena, f->targets, f->targets_count, f->targets_capacity);
        f->targets[f->targets_count++] = (ptx_targets){name, list.count, list.elements};
        return true;
    }
    if (accept_word(ps, ".callprototype") || accept_word(ps, ".calltargets")) {
        skip_to(ps, ';');
        return true;
    }
    SIM_ARENA_GROW(ps->arena, f->labels, f->label_count, f->label_capacity);
    f->labels[f->label_count++] = (ptx_label){name, ps->scopes[ps->scope_depth - 1], f->instruction_count};
    return true;
}

static void function_directive(parser *ps, const char *w)
{
    enum ptx_space space;
    if (!strcmp(w, "reg")) {
        declare_registers(ps);
        expect(ps, ';');
    } else if (space_named(w, &space)) {
        declare_variable(ps, space, false);
        expect(ps, ';');
    } else if (!strcmp(w, "loc"))
        location(ps);
    else if (!strcmp(w, "pragma"))
        skip_to(ps, ';');
    else
        fail(ps, "unknown directive");
}

static void body(parser *ps)
{
    scope_open(ps);
    for (int depth = 1; depth;) {
        skip(ps);
        if (!*ps->p)
            fail(ps, "unexpected end of text in a function");
        if (*ps->p == '{') {
            ps->p++;
            scope_open(ps);
            depth++;
        } else if (*ps->p == '}') {
            ps->p++;
            scope_close(ps);
            depth--;
        } else if (*ps->p == '.') {
            ps->p++;
            function_directive(ps, need_word(ps, "expected a directive"));
        } else if (*ps->p == ';') /* an empty statement */
            ps->p++;
        else if (!label(ps))
            instruction(ps);
    }
}

static void parameters(parser *ps, int *count, ptx_variable ***list)
{
    int capacity = 0;
    if (accept(ps, ')'))
        return;
    do {
        if (!accept_word(ps, ".param"))
            fail(ps, "only .param parameters are supported");
        SIM_ARENA_GROW(ps->arena, *list, *count, capacity);
        ptx_variable *v = declare_variable(ps, PTX_PARAM, false);
        (*list)[(*count)++] = v;
    } while (accept(ps, ','));
    expect(ps, ')');
}

static void function(parser *ps, bool is_entry)
{
    ptx_module *m = ps->module;
    int outer_names = ps->name_count;
    ptx_function *f = sim_arena_alloc(ps->arena, sizeof *f);
    ps->function = f;
    ps->file = ps->source_line = ps->caller_file = ps->caller_line = 0;
    f->is_entry = is_entry;
    f->line = ps->line;
    if (accept(ps, '('))
        parameters(ps, &f->result_count, &f->results);
    f->name = need_word(ps, "expected a function name");
    if (accept(ps, '('))
        parameters(ps, &f->param_count, &f->params);
    while (accept(ps, '.')) { /* performance directives */
        const char *w = need_word(ps, "expected a directive");
        if (!strcmp(w, "maxntid") || !strcmp(w, "reqntid")) {
            f->max_threads = 1;
            do
                f->max_threads *= (int)integer(ps);
            while (accept(ps, ','));
        } else if (!strcmp(w, "minnctapersm") || !strcmp(w, "maxnreg"))
            integer(ps);
        else if (!strcmp(w, "pragma"))
            skip_to(ps, ';');
        else if (strcmp(w, "noreturn"))
            fail(ps, "unknown directive of a function");
    }
    SIM_ARENA_GROW(ps->arena, m->functions, m->function_count, m->function_capacity);
    m->functions[m->function_count++] = f;
    if (accept(ps, '{')) {
        f->is_defined = true;
        body(ps);
    } else
        expect(ps, ';');
    ps->function = NULL;
    ps->name_count = outer_names;
}

static void file_directive(parser *ps)
{
    ptx_module *m = ps->module;
    int number = (int)integer(ps);
    expect(ps, '"');
    const char *from = ps->p;
    while (*ps->p && *ps->p != '"' && *ps->p != '\n')
        ps->p++;
    const char *name = copy(ps, from, (size_t)(ps->p - from));
    expect(ps, '"');
    if (accept(ps, ',')) {
        integer(ps);
        expect(ps, ',');
        integer(ps);
    }
    if (number < 0 || number > 1 << 16)
        fail(ps, "file number out of range");
    while (m->file_count <= number) {
        SIM_ARENA_GROW(ps->arena, m->files, m->file_count, m->file_capacity);
        m->files[m->file_count++] = NULL;
    }
    m->files[number] = name;
}

/* Skips .section .debug_str { ... }. */
static void section(parser *ps)
{
    skip_to(ps, '{');
    skip_to(ps, '}');
}

static void module_directive(parser *ps, const char *w)
{
    bool is_extern = false;
    enum ptx_space space;
    while (!strcmp(w, "visible") || !strcmp(w, "extern") || !strcmp(w, "weak") || !strcmp(w, "common")) {
        is_extern |= !strcmp(w, "extern");
        expect(ps, '.');
        w = need_word(ps, "expected a directive");
    }
    if (!strcmp(w, "version")) {
        integer(ps);
        expect(ps, '.');
        integer(ps);
    } else if (!strcmp(w, "target")) {
        do
            need_word(ps, "expected a target");
        while (accept(ps, ','));
    } else if (!strcmp(w, "address_size")) {
        if (integer(ps) != 64)
            fail(ps, "only 64-bit addresses are supported");
    } else if (!strcmp(w, "entry") || !strcmp(w, "func"))
        function(ps, !strcmp(w, "entry"));
    else if (space_named(w, &space)) {
        declare_variable(ps, space, is_extern);
        expect(ps, ';');
    } else if (!strcmp(w, "file"))
        file_directive(ps);
    else if (!strcmp(w, "section"))
        section(ps);
    else if (!strcmp(w, "loc"))
        location(ps);
    else if (!strcmp(w, "pragma") || !strcmp(w, "alias"))
        skip_to(ps, ';');
    else
        fail(ps, "unknown directive");
}

static void relocate(parser *ps)
{
    for (int i = 0; i < ps->module->variable_count; i++)
        for (ptx_relocation *r = ps->module->variables[i]->relocations; r; r = r->next) {
            int index;
            if (!name_find(ps, r->name, &index, &r->target) || !r->target)
                sim_arena_fail(ps->arena, XQ_ERROR_DEVICE,
                               "%s: the initializer of %s names %s, which is not a variable",
                               ps->module->name, ps->module->variables[i]->name, r->name);
        }
}

ptx_module *ptx_parse(sim_arena *arena, const char *text, const char *name)
{
    ptx_module *m = sim_arena_alloc(arena, sizeof *m);
    parser ps = {.arena = arena, .module = m, .p = text, .line = 1};
    m->arena = arena;
    m->name = copy(&ps, name, strlen(name));
    for (skip(&ps); *ps.p; skip(&ps)) {
        expect(&ps, '.');
        module_directive(&ps, need_word(&ps, "expected a directive"));
    }
    if (!m->function_count)
        sim_arena_fail(arena, XQ_ERROR_DEVICE, "%s: no PTX function in this module", m->name);
    relocate(&ps);
    return m;
}
