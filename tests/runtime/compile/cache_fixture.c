#include "cache_fixture.h"
#include "../../support/files.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

int cache_warnings;
char cache_last_warning[1024];

static void count_warnings(void *user, xq_log_level level, const char *message)
{
    (void)user;
    if (level != XQ_LOG_WARNING)
        return;
    cache_warnings++;
    snprintf(cache_last_warning, sizeof cache_last_warning, "%s", message);
}

const logger cache_test_log = {count_warnings, NULL};
const cache_key cache_test_key = {"0123456789abcdef0123456789abcdef-sm_90a-12.9"};
const cache_key cache_other_key = {"ffffffffffffffffffffffffffffffff-sm_90a-12.9"};

cache_entry cache_test_entry(void)
{
    static char source[] = "__global__ void k() {}\n", options[] = "name attend\narch sm_90a\n-lineinfo\n",
                log[] = "", ptx[] = ".version 8.0\n", cubin[] = "\177ELF\0\1\2\3";
    cache_entry e = {0};
    e.parts[CACHE_SOURCE].data = source;
    e.parts[CACHE_SOURCE].bytes = strlen(source);
    e.parts[CACHE_OPTIONS].data = options;
    e.parts[CACHE_OPTIONS].bytes = strlen(options);
    e.parts[CACHE_LOG].data = log;
    e.parts[CACHE_PTX].data = ptx;
    e.parts[CACHE_PTX].bytes = strlen(ptx);
    e.parts[CACHE_CUBIN].data = cubin;
    e.parts[CACHE_CUBIN].bytes = sizeof cubin - 1;
    return e;
}

void cache_assert_same(const cache_entry *a, const cache_entry *b)
{
    for (int i = 0; i < CACHE_PARTS; i++) {
        cr_assert_eq(a->parts[i].data == NULL, b->parts[i].data == NULL, "part %d", i);
        cr_assert_eq(a->parts[i].bytes, b->parts[i].bytes, "part %d", i);
        if (a->parts[i].data)
            cr_assert_eq(memcmp(a->parts[i].data, b->parts[i].data, a->parts[i].bytes), 0, "part %d", i);
    }
}

cache *cache_filled(void)
{
    cache *c = cache_open(files_directory(), &cache_test_log);
    cache_entry e = cache_test_entry();
    cache_store(c, &cache_test_key, &e);
    cr_assert_eq(cache_warnings, 0, "%s", cache_last_warning);
    return c;
}

char *cache_entry_path(const cache *c, const char *file)
{
    static char path[4096];
    snprintf(path, sizeof path, "%s/kernels/%s%s%s", cache_dir(c), cache_test_key.name, *file ? "/" : "",
             file);
    return path;
}

char *cache_kernels_path(const cache *c, const char *name)
{
    static char path[4096];
    snprintf(path, sizeof path, "%s/kernels/%s", cache_dir(c), name);
    return path;
}

void cache_make_folder(const char *path)
{
    char inner[4200];
    cr_assert_eq(mkdir(path, 0777), 0);
    snprintf(inner, sizeof inner, "%s/file", path);
    files_write(inner, "x", 1);
    snprintf(inner, sizeof inner, "%s/folder", path);
    cr_assert_eq(mkdir(inner, 0777), 0);
}
