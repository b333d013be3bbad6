/* Implements the interface of runtime/device/device.h for the software device. */
#include "launch.h"
#include "model.h"
#include "sim.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

enum { MARKS = 64 };

/* Instructions after which a warp is taken to loop forever. They take seconds here. On a GPU, one warp that
 * issues all the time executes them in about a hundred milliseconds. */
#define INSTRUCTION_BUDGET (1ull << 26)

typedef struct sim_device {
    device base;
    const struct sim_ceilings *ceilings;
    const struct sim_lanes *lanes;
    uint64_t budget;
    pthread_mutex_t lock; /* serializes all operations that use what follows */
    sim_memory memory;
    device_counters counters;
    bool profiles;
    sim_profile profile; /* while it does */
    double clock;        /* modelled seconds since the device was opened */
    double marks[MARKS];
    bool marked[MARKS];
} sim_device;

struct device_function {
    struct device_module *module;
    sim_program *program;
};

struct device_module {
    sim_device *device;
    sim_arena arena;
    ptx_module *ptx;
    int function_count;
    device_function *functions;
    uint64_t *addresses; /* addresses of the module's variables */
};

static sim_device *sim_of(device *d)
{
    return (sim_device *)d;
}

static void lock(sim_device *s)
{
    pthread_mutex_lock(&s->lock);
}

static xq_status unlock(sim_device *s, xq_status status)
{
    pthread_mutex_unlock(&s->lock);
    return status;
}

/* ---------------------------------------------------------------- memory */

static xq_status sim_alloc(device *d, size_t bytes, uint64_t *pointer, error *err)
{
    sim_device *s = sim_of(d);
    sim_allocation *a = NULL;
    lock(s);
    xq_status status = sim_memory_alloc(&s->memory, bytes, NULL, &a, err);
    *pointer = a ? a->address : 0;
    return unlock(s, status);
}

static xq_status sim_free(device *d, uint64_t pointer, error *err)
{
    sim_device *s = sim_of(d);
    if (!pointer)
        return XQ_OK;
    lock(s);
    return unlock(s, sim_memory_free(&s->memory, pointer, err));
}

static xq_status sim_shared_alloc(device *d, size_t bytes, uint64_t *pointer, void **host, error *err)
{
    sim_device *s = sim_of(d);
    sim_allocation *a = NULL;
    lock(s);
    if (sim_memory_alloc(&s->memory, bytes, NULL, &a, err) == XQ_OK) {
        memset(a->data, 0, bytes);
        *pointer = a->address;
        *host = a->data;
    }
    return unlock(s, err->status);
}

static xq_status sim_shared_free(device *d, uint64_t pointer, void *host, error *err)
{
    (void)host;
    return sim_free(d, pointer, err);
}

static uint8_t *host_of(sim_device *s, uint64_t address, size_t bytes, const char *what, error *err)
{
    char why[256];
    uint8_t *host = sim_memory_host(&s->memory, address, bytes, why);
    if (!host)
        error_set(err, XQ_ERROR_DEVICE, "device", "%s: %s", what, why);
    return host;
}

static xq_status sim_write(device *d, uint64_t destination, const void *source, size_t bytes, error *err)
{
    sim_device *s = sim_of(d);
    if (!bytes)
        return XQ_OK;
    lock(s);
    uint8_t *host = host_of(s, destination, bytes, "write to the device", err);
    if (host)
        memcpy(host, source, bytes);
    return unlock(s, err->status);
}

static xq_status sim_read(device *d, void *destination, uint64_t source, size_t bytes, error *err)
{
    sim_device *s = sim_of(d);
    if (!bytes)
        return XQ_OK;
    lock(s);
    const uint8_t *host = host_of(s, source, bytes, "read from the device", err);
    if (host)
        memcpy(destination, host, bytes);
    return unlock(s, err->status);
}

static xq_status sim_fill(device *d, uint64_t destination, uint8_t value, size_t bytes, error *err)
{
    sim_device *s = sim_of(d);
    if (!bytes)
        return XQ_OK;
    lock(s);
    uint8_t *host = host_of(s, destination, bytes, "fill on the device", err);
    if (host)
        memset(host, value, bytes);
    return unlock(s, err->status);
}

/* ---------------------------------------------------------------- modules */

static uint64_t address_of(void *context, const ptx_variable *variable)
{
    const device_module *m = context;
    return m->addresses[variable->id];
}

static void place_variables(device_module *m)
{
    sim_memory *memory = &m->device->memory;
    m->addresses = sim_arena_alloc(&m->arena, ((size_t)m->ptx->variable_count + 1) * sizeof *m->addresses);
    for (int i = 0; i < m->ptx->variable_count; i++) {
        const ptx_variable *v = m->ptx->variables[i];
        if (v->space != PTX_GLOBAL && v->space != PTX_CONST)
            continue;
        if (v->is_extern)
            sim_arena_fail(&m->arena, XQ_ERROR_DEVICE, "%s: variable %s is extern, and nothing defines it",
                           m->ptx->name, v->name);
        sim_allocation *a;
        if (sim_memory_alloc(memory, v->bytes, v->name, &a, m->arena.err) != XQ_OK)
            longjmp(m->arena.escape, 1);
        m->addresses[i] = a->address;
        a->read_only = v->space == PTX_CONST;
        memset(a->data, 0, v->bytes);
        if (v->initial)
            memcpy(a->data, v->initial, v->bytes);
    }
    for (int i = 0; i < m->ptx->variable_count; i++)
        for (const ptx_relocation *r = m->ptx->variables[i]->relocations; r; r = r->next) {
            uint64_t value = m->addresses[r->target->id] + (uint64_t)r->addend;
            char why[256];
            memcpy(sim_memory_host(memory, m->addresses[i] + r->offset, 8, why), &value, 8);
        }
}

static void unload(device_module *m)
{
    error ignored = ERROR_INIT;
    for (int i = 0; m->addresses && i < m->ptx->variable_count; i++)
        if (m->addresses[i])
            sim_memory_free(&m->device->memory, m->addresses[i], &ignored);
    error_clear(&ignored);
    sim_arena_free(&m->arena);
    free(m);
}

static void load(device_module *m, const char *text, const char *name)
{
    m->ptx = ptx_parse(&m->arena, text, name);
    place_variables(m);
    m->functions = sim_arena_alloc(&m->arena, (size_t)m->ptx->function_count * sizeof *m->functions);
    for (int i = 0; i < m->ptx->function_count; i++) {
        const ptx_function *f = m->ptx->functions[i];
        if (!f->is_entry || !f->is_defined)
            continue;
        m->functions[m->function_count++] =
            (device_function){m, sim_decode(m->ptx, f, m->device->lanes, address_of, m)};
    }
}

static xq_status sim_module_load(device *d, const void *image, size_t bytes, const char *name,
                                 device_module **out, error *err)
{
    sim_device *s = sim_of(d);
    *out = NULL;
    device_module *m = calloc(1, sizeof *m);
    char *text = malloc(bytes + 1);
    if (!m || !text) {
        free(m);
        free(text);
        return error_set(err, XQ_ERROR_MEMORY, "device", "out of memory loading %s", name);
    }
    memcpy(text, image, bytes);
    text[bytes] = 0;
    m->device = s;
    m->arena.err = err;
    lock(s);
    if (setjmp(m->arena.escape)) {
        unload(m);
        free(text);
        return unlock(s, err->status);
    }
    load(m, text, name);
    free(text);
    m->arena.err = NULL;
    *out = m;
    return unlock(s, XQ_OK);
}

static void sim_module_unload(device_module *m)
{
    if (!m)
        return;
    sim_device *s = m->device;
    lock(s);
    unload(m);
    unlock(s, XQ_OK);
}

static xq_status sim_function_get(device_module *m, const char *entry, size_t shared_bytes,
                                  device_function **out, error *err)
{
    *out = NULL;
    for (int i = 0; i < m->function_count; i++) {
        const sim_program *p = m->functions[i].program;
        if (strcmp(p->name, entry))
            continue;
        size_t most = m->device->base.properties.shared_bytes_per_block;
        if (p->shared_dynamic + shared_bytes > most)
            return error_set(err, XQ_ERROR_DEVICE, "device",
                             "kernel %s needs %zu bytes of shared memory (%u static), and %s allows %zu",
                             entry, p->shared_dynamic + shared_bytes, p->shared_static,
                             m->device->base.properties.name, most);
        *out = &m->functions[i];
        return XQ_OK;
    }
    return error_set(err, XQ_ERROR_DEVICE, "device", "%s has no kernel %s", m->ptx->name, entry);
}

static xq_status sim_function_attributes(const device_function *f, device_function_attributes *out,
                                         error *err)
{
    (void)err;
    *out = (device_function_attributes){f->program->registers, (int)f->program->shared_static,
                                        (int)f->program->local_bytes, f->program->max_threads};
    return XQ_OK;
}

/* ---------------------------------------------------------------- launches */

static xq_status check_launch(const sim_device *s, const device_launch *l, error *err)
{
    const sim_program *p = l->function->program;
    uint64_t threads = (uint64_t)l->block[0] * l->block[1] * l->block[2];
    if (!threads || threads > (uint64_t)p->max_threads || threads > 1024 || l->block[2] > 64)
        return error_set(err, XQ_ERROR_DEVICE, "device",
                         "kernel %s: the block has %ux%ux%u threads; valid: 1 to %d in all", p->name,
                         l->block[0], l->block[1], l->block[2],
                         p->max_threads < 1024 ? p->max_threads : 1024);
    if (l->cluster > 1)
        return error_set(err, XQ_ERROR_UNSUPPORTED, "device",
                         "kernel %s is launched in clusters of %u blocks, and the software device has no "
                         "clusters; valid: 1",
                         p->name, l->cluster);
    if (!l->grid[0] || !l->grid[1] || !l->grid[2] || l->grid[0] > 0x7fffffff || l->grid[1] > 65535 ||
        l->grid[2] > 65535)
        return error_set(err, XQ_ERROR_DEVICE, "device",
                         "kernel %s: the grid has %ux%ux%u blocks; valid: 1 to 2147483647, 65535 and 65535",
                         p->name, l->grid[0], l->grid[1], l->grid[2]);
    if (p->shared_dynamic + (size_t)l->shared_bytes > s->base.properties.shared_bytes_per_block)
        return error_set(err, XQ_ERROR_DEVICE, "device",
                         "kernel %s needs %zu bytes of shared memory, and the device has %zu", p->name,
                         p->shared_dynamic + (size_t)l->shared_bytes,
                         s->base.properties.shared_bytes_per_block);
    if (l->params_bytes < p->param_bytes || l->params_bytes >= p->param_bytes + 8)
        return error_set(err, XQ_ERROR_DEVICE, "device",
                         "kernel %s takes %zu bytes of parameters, and %zu are given", p->name,
                         p->param_bytes, l->params_bytes);
    return XQ_OK;
}

/* Copies the program's constants, and fills in the parameters of this launch. */
static uint8_t *launch_constants(const sim_program *p, const uint8_t *params)
{
    uint8_t *constants = aligned_alloc(64, (p->constants_bytes + 127) & ~(size_t)63);
    if (!constants)
        return NULL;
    memcpy(constants, p->constants, p->constants_bytes);
    for (int i = 0; i < p->param_use_count; i++) {
        const sim_param_use *u = &p->param_uses[i];
        uint64_t value = 0;
        memcpy(&value, params + u->at, u->bytes);
        if (u->is_signed && u->bytes < 8 && value >> (u->bytes * 8 - 1) & 1)
            value |= ~0ull << u->bytes * 8;
        for (int lane = 0; lane < 32; lane++)
            memcpy(constants + u->offset + lane * (u->wide ? 8 : 4), &value, u->wide ? 8 : 4);
    }
    return constants;
}

static void add_launch(sim_device *s, device_counters *one, const device_launch *l)
{
    device_launch whole = *l;
    whole.shared_bytes += l->function->program->shared_static;
    one->launches = 1;
    struct sim_model model;
    sim_model_evaluate(s->ceilings, one, &whole, &model);
    one->modelled_seconds = model.seconds;
    one->limit_seconds[LIMIT_LAUNCHES] = model.times[LIMIT_LAUNCHES];
    one->limit_seconds[model.limit] = model.times[model.limit];
    s->clock += one->modelled_seconds;
    sim_counters_add(&s->counters, one);
}

static xq_status sim_launch_kernel(device *d, const device_launch *l, error *err)
{
    sim_device *s = sim_of(d);
    if (check_launch(s, l, err) != XQ_OK)
        return err->status;
    sim_program *p = l->function->program;
    uint8_t *constants = launch_constants(p, l->params);
    if (!constants)
        return error_set(err, XQ_ERROR_MEMORY, "device", "out of memory launching %s", p->name);
    sim_launch launch = {.memory = &s->memory,
                         .program = p,
                         .lanes = s->lanes,
                         .constants = constants,
                         .params = l->params,
                         .shared_bytes = l->shared_bytes,
                         .budget = s->budget,
                         .blocks = (uint64_t)l->grid[0] * l->grid[1] * l->grid[2],
                         .err = err,
                         .lock = PTHREAD_MUTEX_INITIALIZER};
    memcpy(launch.grid, l->grid, sizeof launch.grid);
    memcpy(launch.block, l->block, sizeof launch.block);
    device_counters one = {0};
    lock(s);
    sim_memory_clear_sectors(&s->memory);
    xq_status status = s->profiles ? sim_profile_find(&s->profile, p, &launch.profile, err) : XQ_OK;
    if (status == XQ_OK)
        status = sim_launch_run(&launch, &one);
    if (status == XQ_OK)
        add_launch(s, &one, l);
    free(constants);
    return unlock(s, status);
}

/* Launches have ended when their calls return, so there is nothing to wait for. */
static xq_status sim_synchronize(device *d, error *err)
{
    (void)d;
    (void)err;
    return XQ_OK;
}

/* Streams change nothing, since launches run one after another. Graphs would change nothing either, because
 * a modelled time is that of the kernels, however they are launched. */
static xq_status sim_stream_create(device *d, void **stream, error *err)
{
    (void)err;
    *stream = d;
    return XQ_OK;
}

static void sim_stream_destroy(device *d, void *stream)
{
    (void)d;
    (void)stream;
}

static xq_status no_graphs(error *err)
{
    return error_set(err, XQ_ERROR_UNSUPPORTED, "device", "the software device has no graphs");
}

static xq_status sim_graph_record(device *d, void *stream, device_record *record, void *user,
                                  device_graph **out, error *err)
{
    (void)d;
    (void)stream;
    (void)record;
    (void)user;
    (void)out;
    return no_graphs(err);
}

static xq_status sim_graph_launch(device_graph *graph, void *stream, error *err)
{
    (void)graph;
    (void)stream;
    return no_graphs(err);
}

static void sim_graph_destroy(device_graph *graph)
{
    (void)graph;
}

/* ---------------------------------------------------------------- time and counters */

static xq_status sim_mark(device *d, void *stream, int index, error *err)
{
    (void)stream;
    sim_device *s = sim_of(d);
    if (index < 0 || index >= MARKS)
        return error_set(err, XQ_ERROR_ARGUMENT, "device", "mark %d is not valid; valid: 0 to %d", index,
                         MARKS - 1);
    lock(s);
    s->marks[index] = s->clock;
    s->marked[index] = true;
    return unlock(s, XQ_OK);
}

static xq_status sim_elapsed(device *d, int from, int to, double *milliseconds, error *err)
{
    sim_device *s = sim_of(d);
    if (from < 0 || from >= MARKS || to < 0 || to >= MARKS || !s->marked[from] || !s->marked[to])
        return error_set(err, XQ_ERROR_ARGUMENT, "device",
                         "there is no time between marks %d and %d, because they are not both set", from,
                         to);
    lock(s);
    *milliseconds = (s->marks[to] - s->marks[from]) * 1e3;
    return unlock(s, XQ_OK);
}

static xq_status sim_counters(device *d, device_counters *out, error *err)
{
    (void)err;
    sim_device *s = sim_of(d);
    lock(s);
    *out = s->counters;
    return unlock(s, XQ_OK);
}

static xq_status sim_counters_reset(device *d, error *err)
{
    (void)err;
    sim_device *s = sim_of(d);
    lock(s);
    s->counters = (device_counters){0};
    return unlock(s, XQ_OK);
}

static xq_status sim_profile_set(device *d, bool on, error *err)
{
    (void)err;
    sim_device *s = sim_of(d);
    lock(s);
    sim_profile_clear(&s->profile);
    s->profiles = on;
    return unlock(s, XQ_OK);
}

static xq_status sim_profile_read(device *d, device_profile_visit *visit, void *user, error *err)
{
    (void)err;
    sim_device *s = sim_of(d);
    lock(s);
    sim_profile_visit(&s->profile, visit, user);
    return unlock(s, XQ_OK);
}

static void sim_destroy(device *d)
{
    if (!d)
        return;
    sim_device *s = sim_of(d);
    sim_profile_clear(&s->profile);
    sim_memory_destroy(&s->memory);
    pthread_mutex_destroy(&s->lock);
    free(s);
}

static const device_ops ops = {
    .destroy = sim_destroy,
    .alloc = sim_alloc,
    .free = sim_free,
    .write = sim_write,
    .read = sim_read,
    .fill = sim_fill,
    .shared_alloc = sim_shared_alloc,
    .shared_free = sim_shared_free,
    .module_load = sim_module_load,
    .module_unload = sim_module_unload,
    .function_get = sim_function_get,
    .function_attributes = sim_function_attributes,
    .launch = sim_launch_kernel,
    .synchronize = sim_synchronize,
    .stream_create = sim_stream_create,
    .stream_destroy = sim_stream_destroy,
    .graph_record = sim_graph_record,
    .graph_launch = sim_graph_launch,
    .graph_destroy = sim_graph_destroy,
    .mark = sim_mark,
    .elapsed = sim_elapsed,
    .counters = sim_counters,
    .counters_reset = sim_counters_reset,
    .profile = sim_profile_set,
    .profile_read = sim_profile_read,
};

xq_status device_sim_open(const char *gpu, device **out, error *err)
{
    *out = NULL;
    const struct sim_ceilings *ceilings = sim_ceilings_find(gpu);
    if (!ceilings) {
        error_set(err, XQ_ERROR_ARGUMENT, "device",
                  "device 'sim:%s' is not valid; valid GPUs of the software device: %s", gpu,
                  sim_ceilings_names());
        return error_field(err, "device");
    }
    sim_device *s = calloc(1, sizeof *s);
    if (!s)
        return error_set(err, XQ_ERROR_MEMORY, "device", "out of memory");
    s->base.ops = &ops;
    sim_ceilings_properties(ceilings, &s->base.properties);
    s->ceilings = ceilings;
    s->lanes = sim_lanes_best();
    s->budget = INSTRUCTION_BUDGET;
    s->memory.bytes_max = ceilings->memory_bytes;
    pthread_mutex_init(&s->lock, NULL);
    *out = &s->base;
    return XQ_OK;
}

void sim_set_instruction_budget(device *sim, uint64_t instructions)
{
    sim_of(sim)->budget = instructions;
}

bool sim_set_lanes(device *sim, int level)
{
    const struct sim_lanes *lanes = sim_lanes_at(level);
    if (lanes)
        sim_of(sim)->lanes = lanes;
    return lanes != NULL;
}
