#include "cache.h"
#include "../base/files.h"
#include "../base/publish_folder.h"
#include "cache_private.h"

#include <dirent.h>
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

static bool is_folder(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

/* Services may have a home that does not exist; it is not created. */
static char *default_dir(char **why_none)
{
    const char *dir = getenv("XQ_CACHE_DIR");
    if (dir)
        return strdup(dir);
    dir = getenv("XDG_CACHE_HOME");
    if (dir && dir[0] == '/') /* the XDG specification says to ignore relative paths */
        return join(dir, "/xq");
    dir = getenv("HOME");
    if (dir && *dir && is_folder(dir))
        return join(dir, "/.cache/xq");
    *why_none = dir && *dir ? join("HOME is not a folder that exists: ", dir) : strdup("HOME is not set");
    return strdup("");
}

cache *cache_open(const char *dir, const logger *log)
{
    cache *c = calloc(1, sizeof *c);
    if (!c)
        return NULL;
    c->log = *log;
    c->dir = dir ? strdup(dir) : default_dir(&c->why_none);
    if (c->dir && *c->dir)
        c->kernels = join(c->dir, "/kernels");
    if (!c->dir || (*c->dir && !c->kernels)) {
        cache_close(c);
        return NULL;
    }
    return c;
}

static xq_status check_store(const cache *c, error *err)
{
    struct stat st;
    const char *why = stat(c->dir, &st) != 0       ? strerror(errno)
                      : !S_ISDIR(st.st_mode)       ? "it is no folder"
                      : stat(c->kernels, &st) != 0 ? "it has no folder `kernels`"
                      : !S_ISDIR(st.st_mode)       ? "its `kernels` is no folder"
                                                   : NULL;
    if (!why)
        return XQ_OK;
    error_set(err, XQ_ERROR_IO, "cache", "%s is no kernel store: %s", c->dir, why);
    return error_at(err, c->dir, 0);
}

cache *cache_open_store(const char *dir, const logger *log, error *err)
{
    cache *c = cache_open(dir, log);
    if (!c) {
        error_set(err, XQ_ERROR_MEMORY, "cache", "out of memory");
        return NULL;
    }
    c->is_store = true;
    if (check_store(c, err) == XQ_OK)
        return c;
    cache_close(c);
    return NULL;
}

void cache_close(cache *c)
{
    if (!c)
        return;
    free(c->dir);
    free(c->kernels);
    free(c->why_none);
    free(c);
}

const char *cache_dir(const cache *c)
{
    return c->dir;
}

const char *cache_why_none(const cache *c)
{
    return c->why_none;
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

/* Hashes the fields' hashes and lengths. This needs no state to allocate, and has no ambiguity where
 * fields meet. */
cache_hash cache_hash_of(const cache_field *fields, int count)
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
    cache_hash hash;
    hex_of((XXH128_hash_t){link.chain[0], link.chain[1]}, hash.hex);
    return hash;
}

/* ------------------------------------------------------------------- keys */

enum { HASH_DIGITS = sizeof((cache_hash *)0)->hex - 1 };

cache_key cache_key_of(const cache_hash *hash, const char *arch, int nvrtc)
{
    cache_key key;
    snprintf(key.name, sizeof key.name, "%s-%.31s-%d.%d", hash->hex, arch, nvrtc / 1000, nvrtc % 1000 / 10);
    return key;
}

/* Reads the parts of a key that follow the hash. */
static bool read_key(const char *name, cache_arch *arch, int *nvrtc)
{
    int major, minor, end = 0;
    if (strlen(name) < HASH_DIGITS ||
        sscanf(name + HASH_DIGITS, "-%31[a-z0-9_]-%3d.%2d%n", arch->text, &major, &minor, &end) != 3 ||
        name[HASH_DIGITS + end] || major < 1 || minor < 0)
        return false;
    *nvrtc = 1000 * major + 10 * minor;
    return true;
}

bool cache_is_key(const char *name)
{
    cache_arch arch;
    int nvrtc;
    return strspn(name, "0123456789abcdef") == HASH_DIGITS &&
           (!name[HASH_DIGITS] || read_key(name, &arch, &nvrtc));
}

cache_arch cache_key_arch(const char *key)
{
    cache_arch arch = {""};
    int nvrtc;
    return read_key(key, &arch, &nvrtc) ? arch : (cache_arch){""};
}

/* --------------------------------------------------------------- manifest */

/* The manifest is a pure function of key and contents. So a manifest is checked by rendering what it
 * should be and comparing: a change of any byte of any file, including the manifest, shows. */
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
    /* An entry that another process is replacing may vanish while it is read. The second read sees the
     * entry that came in its place. */
    enum cache_state state = read_once(c, key, out);
    return state == CACHE_DAMAGED ? read_once(c, key, out) : state;
}

bool cache_get(const cache *c, const char *key, cache_entry *out)
{
    return c->kernels && cache_read(c, key, out) == CACHE_WHOLE;
}

/* Sets the time of an entry. In a cache that cannot be written, an entry keeps the time of its contents. */
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
    enum cache_state state = cache_read(c, key->name, out);
    if (state == CACHE_DAMAGED && c->is_store)
        log_message(&c->log, XQ_LOG_WARNING, "kernel store entry %s/%s is damaged; the search goes on",
                    c->kernels, key->name);
    else if (state == CACHE_DAMAGED)
        log_message(&c->log, XQ_LOG_WARNING,
                    "kernel cache entry %s/%s is damaged; the kernel is compiled again", c->kernels,
                    key->name);
    if (state == CACHE_WHOLE && !c->is_store)
        note_use(c, key->name);
    return state == CACHE_WHOLE;
}

/* --------------------------------------------------------------- searching */

/* An entry that would serve. */
struct found {
    cache_key key;
    int64_t rank;
};
struct found_list {
    struct found items[64];
    int count;
};

/* Adds an entry to the list, best first. If the list is full, the worst entry is dropped. */
static void add_found(struct found_list *list, const struct found *f)
{
    const int most = (int)(sizeof list->items / sizeof list->items[0]);
    if (list->count == most && list->items[most - 1].rank >= f->rank)
        return;
    int at = list->count < most ? list->count++ : most - 1;
    for (; at > 0 && list->items[at - 1].rank < f->rank; at--)
        list->items[at] = list->items[at - 1];
    list->items[at] = *f;
}

static void find_all(const cache *c, const cache_hash *hash, cache_rank *rank, const void *user,
                     struct found_list *list)
{
    DIR *folder = opendir(c->kernels);
    for (struct dirent *e = folder ? readdir(folder) : NULL; e; e = readdir(folder)) {
        cache_arch arch;
        int nvrtc;
        struct found f;
        if (strncmp(e->d_name, hash->hex, HASH_DIGITS) != 0 || !read_key(e->d_name, &arch, &nvrtc) ||
            (f.rank = rank(user, arch.text, nvrtc)) <= 0)
            continue;
        f.key = cache_key_of(hash, arch.text, nvrtc);
        add_found(list, &f);
    }
    if (folder)
        closedir(folder);
}

bool cache_load_best(cache *c, const cache_hash *hash, cache_rank *rank, const void *user, cache_key *key,
                     cache_entry *out)
{
    struct found_list list = {.count = 0};
    if (c->kernels)
        find_all(c, hash, rank, user, &list);
    for (int i = 0; i < list.count; i++)
        if (cache_load(c, &list.items[i].key, out)) {
            *key = list.items[i].key;
            return true;
        }
    return false;
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

static bool is_whole(const cache *c, const char *key)
{
    cache_entry theirs;
    if (cache_read(c, key, &theirs) != CACHE_WHOLE)
        return false;
    cache_entry_free(&theirs);
    return true;
}

/* Puts the finished folder in place. If there is an entry already, either another process has published it
 * meanwhile (and it is as good as ours), or it is damaged and is moved away. Over a network file system a
 * successful rename can be reported as failed, when the request was sent twice, so the result is success
 * if a whole entry stands there. */
static int publish(const cache *c, folder_publication *p, const char *key)
{
    char place[4200], aside[4300];
    snprintf(place, sizeof place, "%s/%s", c->kernels, key);
    snprintf(aside, sizeof aside, "%s.old", p->temporary);
    for (int attempt = 0; attempt < 8; attempt++) {
        if (publish_folder_commit(p, key) == 0)
            return 0;
        int failure = errno;
        if (is_whole(c, key))
            return 0;
        if (failure != ENOTEMPTY && failure != EEXIST && failure != ENOTDIR) {
            errno = failure;
            return -1;
        }
        if (rename(place, aside) == 0)
            files_remove(aside); /* removes whatever stood there, even a file or a link */
    }
    errno = EBUSY;
    return -1;
}

/* Sweeps once for each cache that writes. The folder that this writer has just made gives the file
 * system's own time. */
static void sweep_once(cache *c, const folder_publication *p)
{
    struct stat st;
    if (!atomic_exchange(&c->swept, true) && fstat(p->folder, &st) == 0)
        cache_sweep(c, st.st_mtime);
}

static int store(cache *c, const char *key, const cache_entry *entry)
{
    folder_publication p;
    int result = publish_folder_begin(&p, c->kernels, CACHE_TEMPORARY);
    if (result == 0)
        sweep_once(c, &p);
    if (result == 0)
        result = write_entry(&p, key, entry);
    if (result == 0)
        result = publish(c, &p, key);
    publish_folder_end(&p);
    return result;
}

void cache_store(cache *c, const cache_key *key, const cache_entry *entry)
{
    if (c->kernels ? store(c, key->name, entry) == 0 : !c->why_none)
        return;
    int failure = errno;
    if (atomic_exchange(&c->warned, true))
        return;
    if (c->why_none)
        log_message(&c->log, XQ_LOG_WARNING,
                    "there is no kernel cache (%s, and XQ_CACHE_DIR and XDG_CACHE_HOME are not set); "
                    "kernels are compiled each time",
                    c->why_none);
    else
        log_message(&c->log, XQ_LOG_WARNING,
                    "kernel cache %s cannot be written (%s); kernels are compiled each time", c->dir,
                    strerror(failure));
}

xq_status cache_put(cache *c, const char *key, const cache_entry *entry, bool *was_there, error *err)
{
    *was_there = is_whole(c, key);
    if (*was_there || store(c, key, entry) == 0)
        return XQ_OK;
    error_set(err, XQ_ERROR_IO, "cache", "cannot write %s/%s: %s", c->kernels, key, strerror(errno));
    return error_at(err, c->dir, 0);
}
