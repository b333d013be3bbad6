#include "cache.h"
#include "../base/files.h"
#include "../base/publish_folder.h"
#include "cache_private.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

static const char *const part_names[CACHE_PARTS] = {"source.cu", "options.txt", "log.txt", "kernel.ptx",
                                                    "kernel.cubin"};

/* --------------------------------------------------------------- lifetime */

static char *join(const char *a, const char *b)
{
    char *text = NULL;
    return asprintf(&text, "%s%s", a, b) < 0 ? NULL : text;
}

static char *default_dir(void)
{
    const char *dir = getenv("XQ_CACHE_DIR");
    if (dir)
        return strdup(dir);
    dir = getenv("XDG_CACHE_HOME");
    if (dir && dir[0] == '/') /* relative ones are to be ignored, says the XDG specification */
        return join(dir, "/xq");
    dir = getenv("HOME");
    if (dir && *dir)
        return join(dir, "/.cache/xq");
    return strdup("");
}

cache *cache_open(const char *dir, const logger *log)
{
    cache *c = calloc(1, sizeof *c);
    if (!c)
        return NULL;
    c->log = *log;
    c->dir = dir ? strdup(dir) : default_dir();
    if (c->dir && *c->dir)
        c->kernels = join(c->dir, "/kernels");
    if (!c->dir || (*c->dir && !c->kernels)) {
        cache_close(c);
        return NULL;
    }
    return c;
}

void cache_close(cache *c)
{
    if (!c)
        return;
    free(c->dir);
    free(c->kernels);
    free(c);
}

const char *cache_dir(const cache *c)
{
    return c->dir;
}

const logger *cache_log(const cache *c)
{
    return &c->log;
}

void cache_entry_free(cache_entry *entry)
{
    for (int i = 0; i < CACHE_PARTS; i++)
        free(entry->parts[i].data);
    *entry = (cache_entry){0};
}

/* ----------------------------------------------------------------- hashes */

static void hex_of(XXH128_hash_t hash, char hex[33])
{
    snprintf(hex, 33, "%016llx%016llx", (unsigned long long)hash.high64, (unsigned long long)hash.low64);
}

/* The hash of the fields' hashes and lengths: no state to allocate, no ambiguity where fields meet. */
cache_key cache_key_of(const cache_field *fields, int count)
{
    struct {
        uint64_t chain[2], field[2], bytes;
    } link = {0};
    for (int i = 0; i < count; i++) {
        XXH128_hash_t field = XXH3_128bits(fields[i].data, fields[i].bytes);
        link.field[0] = field.low64;
        link.field[1] = field.high64;
        link.bytes = fields[i].bytes;
        XXH128_hash_t chain = XXH3_128bits(&link, sizeof link);
        link.chain[0] = chain.low64;
        link.chain[1] = chain.high64;
    }
    cache_key key;
    hex_of((XXH128_hash_t){link.chain[0], link.chain[1]}, key.hex);
    return key;
}

/* --------------------------------------------------------------- manifest */

/* The manifest is a pure function of key and contents, so reading one back is rendering what it should
 * be and comparing: a change of any byte of any file, the manifest included, shows. */
static char *render_manifest(const char *key, const cache_entry *entry)
{
    char *text = NULL;
    size_t size = 0;
    FILE *f = open_memstream(&text, &size);
    if (!f)
        return NULL;
    fprintf(f, "{\n  \"xq\": \"%s\",\n  \"key\": \"%s\",\n  \"files\": {", xq_version(), key);
    const char *separator = "";
    for (int i = 0; i < CACHE_PARTS; i++) {
        if (!entry->parts[i].data)
            continue;
        char hex[33];
        hex_of(XXH3_128bits(entry->parts[i].data, entry->parts[i].bytes), hex);
        fprintf(f, "%s\n    \"%s\": {\"bytes\": %zu, \"xxh3_128\": \"%s\"}", separator, part_names[i],
                entry->parts[i].bytes, hex);
        separator = ",";
    }
    fputs("\n  }\n}\n", f);
    if (fclose(f) != 0) {
        free(text);
        return NULL;
    }
    return text;
}

/* ---------------------------------------------------------------- reading */

static bool matches_manifest(int folder, const char *key, const cache_entry *entry)
{
    char *found = NULL;
    size_t bytes;
    if (files_read_at(folder, CACHE_MANIFEST, &found, &bytes) != 0)
        return false;
    char *expected = render_manifest(key, entry);
    bool same = expected && strlen(expected) == bytes && memcmp(expected, found, bytes) == 0;
    free(expected);
    free(found);
    return same;
}

static enum cache_state read_once(const cache *c, const char *key, cache_entry *out)
{
    char path[4200];
    snprintf(path, sizeof path, "%s/%s", c->kernels, key);
    int folder = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (folder < 0)
        return errno == ENOTDIR && access(path, F_OK) == 0 ? CACHE_DAMAGED : CACHE_ABSENT;
    cache_entry entry = {0};
    for (int i = 0; i < CACHE_PARTS; i++)
        if (files_read_at(folder, part_names[i], &entry.parts[i].data, &entry.parts[i].bytes) != 0)
            entry.parts[i].data = NULL;
    bool whole = matches_manifest(folder, key, &entry);
    close(folder);
    if (whole)
        *out = entry;
    else
        cache_entry_free(&entry);
    return whole ? CACHE_WHOLE : CACHE_DAMAGED;
}

enum cache_state cache_read(const cache *c, const char *key, cache_entry *out)
{
    /* An entry that another process is replacing may vanish while it is read; the second look sees
     * what came in its place. */
    enum cache_state state = read_once(c, key, out);
    return state == CACHE_DAMAGED ? read_once(c, key, out) : state;
}

/* Where the cache cannot be written, an entry is as old as its contents. */
static void note_use(const cache *c, const char *key)
{
    char path[4200];
    snprintf(path, sizeof path, "%s/%s", c->kernels, key);
    (void)!utimensat(AT_FDCWD, path, NULL, 0);
}

bool cache_load(cache *c, const cache_key *key, cache_entry *out)
{
    if (!c->kernels)
        return false;
    enum cache_state state = cache_read(c, key->hex, out);
    if (state == CACHE_DAMAGED)
        log_message(&c->log, XQ_LOG_WARNING, "kernel cache entry %s/%s is damaged; compiling again",
                    c->kernels, key->hex);
    if (state == CACHE_WHOLE)
        note_use(c, key->hex);
    return state == CACHE_WHOLE;
}

/* ---------------------------------------------------------------- writing */

static int write_entry(folder_publication *p, const char *key, const cache_entry *entry)
{
    char *manifest = render_manifest(key, entry);
    int result = manifest ? 0 : -1;
    for (int i = 0; i < CACHE_PARTS && result == 0; i++)
        if (entry->parts[i].data)
            result = publish_folder_add(p, part_names[i], entry->parts[i].data, entry->parts[i].bytes);
    if (result == 0)
        result = publish_folder_add(p, CACHE_MANIFEST, manifest, strlen(manifest));
    free(manifest);
    return result;
}

/* Puts the finished folder in place. An entry that is there already was either published by another
 * process meanwhile (theirs is as good as ours), or is damaged and makes way. */
static int publish(const cache *c, folder_publication *p, const char *key)
{
    char place[4200], aside[4300];
    snprintf(place, sizeof place, "%s/%s", c->kernels, key);
    snprintf(aside, sizeof aside, "%s.old", p->temporary);
    for (int attempt = 0; attempt < 8; attempt++) {
        if (publish_folder_commit(p, key) == 0)
            return 0;
        if (errno != ENOTEMPTY && errno != EEXIST && errno != ENOTDIR)
            return -1;
        cache_entry theirs;
        if (cache_read(c, key, &theirs) == CACHE_WHOLE) {
            cache_entry_free(&theirs);
            return 0;
        }
        if (rename(place, aside) == 0)
            files_remove(aside); /* whatever stood there, also a file or a link */
    }
    errno = EBUSY;
    return -1;
}

static int store(cache *c, const char *key, const cache_entry *entry)
{
    folder_publication p;
    int result = publish_folder_begin(&p, c->kernels, CACHE_TEMPORARY);
    if (result == 0 && !atomic_exchange(&c->swept, true))
        cache_sweep(c);
    if (result == 0)
        result = write_entry(&p, key, entry);
    if (result == 0)
        result = publish(c, &p, key);
    publish_folder_end(&p);
    return result;
}

void cache_store(cache *c, const cache_key *key, const cache_entry *entry)
{
    if (!c->kernels || store(c, key->hex, entry) == 0)
        return;
    int failure = errno;
    if (!atomic_exchange(&c->warned, true))
        log_message(&c->log, XQ_LOG_WARNING,
                    "kernel cache %s cannot be written (%s); kernels are compiled anew each time", c->dir,
                    strerror(failure));
}
