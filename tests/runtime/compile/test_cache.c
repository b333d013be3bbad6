/* The on-disk kernel cache: a stored entry comes back whole or not at all. */
#include "../../../runtime/compile/cache.h"
#include "../../support/files.h"

#include <criterion/criterion.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static int warnings;
static char last_warning[1024];

static void count_warnings(void *user, xq_log_level level, const char *message)
{
    (void)user;
    if (level != XQ_LOG_WARNING)
        return;
    warnings++;
    snprintf(last_warning, sizeof last_warning, "%s", message);
}

static const logger log_to_test = {count_warnings, NULL};
static const cache_key key = {"0123456789abcdef0123456789abcdef-sm_90a-12.9"};
static const cache_key other_key = {"ffffffffffffffffffffffffffffffff-sm_90a-12.9"};

static cache_entry make_entry(void)
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

static void assert_same(const cache_entry *a, const cache_entry *b)
{
    for (int i = 0; i < CACHE_PARTS; i++) {
        cr_assert_eq(a->parts[i].data == NULL, b->parts[i].data == NULL, "part %d", i);
        cr_assert_eq(a->parts[i].bytes, b->parts[i].bytes, "part %d", i);
        if (a->parts[i].data)
            cr_assert_eq(memcmp(a->parts[i].data, b->parts[i].data, a->parts[i].bytes), 0, "part %d", i);
    }
}

/* A cache in a folder of its own that holds one entry. */
static cache *filled_cache(void)
{
    cache *c = cache_open(files_directory(), &log_to_test);
    cache_entry e = make_entry();
    cache_store(c, &key, &e);
    cr_assert_eq(warnings, 0, "%s", last_warning);
    return c;
}

static char *entry_path(const cache *c, const char *file)
{
    static char path[4096];
    snprintf(path, sizeof path, "%s/kernels/%s%s%s", cache_dir(c), key.name, *file ? "/" : "", file);
    return path;
}

static void assert_damaged_then_rebuilt(cache *c, const char *what)
{
    cache_entry out, e = make_entry();
    warnings = 0;
    cr_assert_not(cache_load(c, &key, &out), "%s was not noticed", what);
    cr_assert_eq(warnings, 1, "%s", what);
    cr_assert(strstr(last_warning, key.name) && strstr(last_warning, "damaged"), "%s", last_warning);
    cache_store(c, &key, &e);
    cr_assert(cache_load(c, &key, &out), "after %s the entry was not replaced", what);
    assert_same(&e, &out);
    cache_entry_free(&out);
    cr_assert_eq(warnings, 1, "%s", last_warning);
}

Test(cache, stored_entry_comes_back)
{
    cache *c = filled_cache();
    cache_entry out, e = make_entry();
    cr_assert(cache_load(c, &key, &out));
    assert_same(&e, &out);
    cache_entry_free(&out);
    cr_assert_not(cache_load(c, &other_key, &out));
    cr_assert_eq(warnings, 0);
    cache_close(c);
}

Test(cache, absent_cubin_stays_absent)
{
    cache *c = cache_open(files_directory(), &log_to_test);
    cache_entry out, e = make_entry();
    e.parts[CACHE_CUBIN].data = NULL;
    e.parts[CACHE_CUBIN].bytes = 0;
    cache_store(c, &key, &e);
    cr_assert(cache_load(c, &key, &out));
    assert_same(&e, &out);
    cache_entry_free(&out);
    cache_close(c);
}

Test(cache, nothing_temporary_is_left_behind)
{
    cache *c = filled_cache();
    char kernels[4096];
    snprintf(kernels, sizeof kernels, "%s/kernels", cache_dir(c));
    cr_assert_eq(files_count(kernels), 1);
    cr_assert_eq(files_count(entry_path(c, "")), 6);
    cache_close(c);
}

Test(cache, any_flipped_byte_of_any_file_is_noticed)
{
    static const char *const names[] = {"source.cu", "options.txt", "kernel.ptx", "kernel.cubin",
                                        "manifest.json"};
    cache *c = filled_cache();
    for (size_t n = 0; n < sizeof names / sizeof names[0]; n++) {
        size_t size;
        char *text = files_read(entry_path(c, names[n]), &size);
        for (size_t i = 0; i < size; i += 1 + size / 16) {
            char *changed = malloc(size);
            memcpy(changed, text, size);
            changed[i] ^= 0x20;
            files_write(entry_path(c, names[n]), changed, size);
            free(changed);
            assert_damaged_then_rebuilt(c, names[n]);
        }
        free(text);
    }
    cache_close(c);
}

Test(cache, truncated_and_missing_files_are_noticed)
{
    static const char *const names[] = {"source.cu",  "options.txt",  "log.txt",
                                        "kernel.ptx", "kernel.cubin", "manifest.json"};
    cache *c = filled_cache();
    for (size_t n = 0; n < sizeof names / sizeof names[0]; n++) {
        size_t size;
        free(files_read(entry_path(c, names[n]), &size));
        if (size > 0) {
            cr_assert_eq(truncate(entry_path(c, names[n]), (off_t)(size / 2)), 0);
            assert_damaged_then_rebuilt(c, names[n]);
        }
        cr_assert_eq(unlink(entry_path(c, names[n])), 0);
        assert_damaged_then_rebuilt(c, names[n]);
    }
    cache_close(c);
}

Test(cache, empty_folder_and_file_in_place_of_an_entry_are_replaced)
{
    cache *c = filled_cache();
    int removed;
    error err = ERROR_INIT;
    cr_assert_eq(cache_clear(c, key.name, &removed, &err), XQ_OK);
    cr_assert_eq(removed, 1);
    cr_assert_eq(mkdir(entry_path(c, ""), 0777), 0);
    assert_damaged_then_rebuilt(c, "an empty folder");
    cr_assert_eq(cache_clear(c, key.name, &removed, &err), XQ_OK);
    files_write(entry_path(c, ""), "x", 1);
    assert_damaged_then_rebuilt(c, "a file");
    cache_close(c);
}

static char *kernels_path(const cache *c, const char *name)
{
    static char path[4096];
    snprintf(path, sizeof path, "%s/kernels/%s", cache_dir(c), name);
    return path;
}

/* Makes a folder that contains a file and a folder. */
static void make_folder(const char *path)
{
    char inner[4200];
    cr_assert_eq(mkdir(path, 0777), 0);
    snprintf(inner, sizeof inner, "%s/file", path);
    files_write(inner, "x", 1);
    snprintf(inner, sizeof inner, "%s/folder", path);
    cr_assert_eq(mkdir(inner, 0777), 0);
}

Test(cache, folders_and_fifos_in_place_of_files_are_replaced, .timeout = 20)
{
    static const char *const names[] = {"source.cu",  "options.txt",  "log.txt",
                                        "kernel.ptx", "kernel.cubin", "manifest.json"};
    cache *c = filled_cache();
    for (size_t n = 0; n < 2 * sizeof names / sizeof names[0]; n++) {
        const char *name = names[n / 2];
        cr_assert_eq(unlink(entry_path(c, name)), 0);
        if (n % 2)
            cr_assert_eq(mkfifo(entry_path(c, name), 0666), 0);
        else
            make_folder(entry_path(c, name));
        assert_damaged_then_rebuilt(c, name);
        cr_assert_eq(files_count(kernels_path(c, "")), 1, "something of %s is left", name);
    }
    cache_close(c);
}

Test(cache, entries_with_folders_in_them_are_cleared_and_pruned)
{
    cache *c = filled_cache();
    error err = ERROR_INIT;
    int removed;
    make_folder(entry_path(c, "extra"));
    cr_assert_eq(cache_clear(c, NULL, &removed, &err), XQ_OK, "%s", err.message);
    cr_assert_eq(removed, 1);
    make_folder(entry_path(c, ""));
    const cache_limits none = {.by_size = true, .most_bytes = -1};
    cache_pruned pruned;
    cr_assert_eq(cache_prune(c, &none, &pruned, &err), XQ_OK, "%s", err.message);
    cr_assert_eq(pruned.removed, 1);
    cr_assert_eq(files_count(kernels_path(c, "")), 0);
    cache_close(c);
}

/* A link belongs to the cache; the target of the link does not. */
Test(cache, links_in_place_of_entries_are_removed_and_not_followed)
{
    const char *foreign = files_directory();
    cache *c = filled_cache();
    int removed;
    error err = ERROR_INIT;
    files_write(files_path(foreign, "notes.txt"), "mine", 4);
    for (int clear = 0; clear < 2; clear++) {
        cr_assert_eq(cache_clear(c, NULL, &removed, &err), XQ_OK);
        cr_assert_eq(removed, 1);
        cr_assert_eq(symlink(foreign, entry_path(c, "")), 0);
        if (!clear)
            assert_damaged_then_rebuilt(c, "a link");
    }
    cr_assert_eq(cache_clear(c, NULL, &removed, &err), XQ_OK);
    cr_assert_eq(files_count(kernels_path(c, "")), 0);
    cr_assert_eq(files_count(foreign), 1);
    cache_close(c);
}

/* A killed compile leaves such folders. A store removes those that are more than an hour old. */
Test(cache, leftovers_of_killed_writers_go_with_the_next_store)
{
    cache *c = filled_cache();
    const struct timespec old[2] = {{time(NULL) - 2 * 3600, 0}, {time(NULL) - 2 * 3600, 0}};
    make_folder(kernels_path(c, "tmp.killed"));
    make_folder(kernels_path(c, "tmp.killed.old"));
    make_folder(kernels_path(c, "tmp.alive"));
    make_folder(kernels_path(c, "notes"));
    static const char *const aged[] = {"tmp.killed", "tmp.killed.old", "notes"};
    for (int i = 0; i < 3; i++)
        cr_assert_eq(utimensat(AT_FDCWD, kernels_path(c, aged[i]), old, 0), 0);
    cache *next = cache_open(cache_dir(c), &log_to_test);
    cache_entry e = make_entry();
    cache_store(next, &other_key, &e);
    cr_assert_eq(access(kernels_path(c, "tmp.killed"), F_OK), -1);
    cr_assert_eq(access(kernels_path(c, "tmp.killed.old"), F_OK), -1);
    cr_assert_eq(access(kernels_path(c, "tmp.alive"), F_OK), 0, "its writer may be at work");
    cr_assert_eq(access(kernels_path(c, "notes"), F_OK), 0, "it is not the cache's");
    cr_assert_eq(files_count(kernels_path(c, "")), 4);
    cr_assert_eq(warnings, 0, "%s", last_warning);
    cache_close(next);
    cache_close(c);
}

Test(cache, what_is_used_is_pruned_last)
{
    cache *c = filled_cache();
    cache_entry e = make_entry(), out;
    cache_pruned pruned;
    error err = ERROR_INIT;
    cache_store(c, &other_key, &e);
    const struct timespec old[2] = {{time(NULL) - 50 * 3600, 0}, {time(NULL) - 50 * 3600, 0}};
    cr_assert_eq(utimensat(AT_FDCWD, kernels_path(c, key.name), old, 0), 0);
    cr_assert_eq(utimensat(AT_FDCWD, kernels_path(c, other_key.name), old, 0), 0);
    cr_assert(cache_load(c, &key, &out));
    cache_entry_free(&out);
    const cache_limits two_days = {.by_age = true, .most_seconds = 48 * 3600};
    cr_assert_eq(cache_prune(c, &two_days, &pruned, &err), XQ_OK, "%s", err.message);
    cr_assert(pruned.removed == 1 && pruned.bytes_removed == pruned.bytes_left);
    cr_assert(cache_load(c, &key, &out), "it was used just now");
    cache_entry_free(&out);
    cr_assert_not(cache_load(c, &other_key, &out));
    cache_close(c);
}

Test(cache, unwritable_folder_warns_once_and_goes_on)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/file", files_directory());
    files_write(path, "x", 1);
    cache *c = cache_open(path, &log_to_test); /* a file stands where the folder should: root fails too */
    cache_entry out, e = make_entry();
    cache_store(c, &key, &e);
    cache_store(c, &key, &e);
    cr_assert_eq(warnings, 1);
    cr_assert(strstr(last_warning, path), "%s", last_warning);
    cr_assert_not(cache_load(c, &key, &out));
    cache_close(c);
}

Test(cache, empty_name_means_no_cache)
{
    cache *c = cache_open("", &log_to_test);
    cache_entry out, e = make_entry();
    cache_item *items;
    int count;
    error err = ERROR_INIT;
    cache_store(c, &key, &e);
    cr_assert_not(cache_load(c, &key, &out));
    cr_assert_eq(cache_list(c, true, &items, &count, &err), XQ_OK);
    cr_assert_eq(count, 0);
    cr_assert_eq(warnings, 0);
    cache_close(c);
}

Test(cache, default_folder_follows_the_environment)
{
    const char *home = files_directory();
    setenv("HOME", home, 1);
    unsetenv("XDG_CACHE_HOME");
    unsetenv("XQ_CACHE_DIR");
    cache *c = cache_open(NULL, &log_to_test);
    cr_assert_str_eq(cache_dir(c), files_path(home, ".cache/xq"));
    cache_close(c);
    setenv("XDG_CACHE_HOME", "/var/xdg", 1);
    c = cache_open(NULL, &log_to_test);
    cr_assert_str_eq(cache_dir(c), "/var/xdg/xq");
    cache_close(c);
    setenv("XQ_CACHE_DIR", "/var/own", 1);
    c = cache_open(NULL, &log_to_test);
    cr_assert_str_eq(cache_dir(c), "/var/own");
    cache_close(c);
}

Test(cache, listing_names_kernel_arch_size_and_damage)
{
    cache *c = filled_cache();
    cache_entry e = make_entry();
    cache_item *items;
    int count;
    error err = ERROR_INIT;
    cache_store(c, &other_key, &e);
    cr_assert_eq(truncate(entry_path(c, "kernel.ptx"), 3), 0);
    cr_assert_eq(cache_list(c, true, &items, &count, &err), XQ_OK);
    cr_assert_eq(count, 2);
    cr_assert_str_eq(items[0].key, key.name);
    cr_assert_str_eq(items[1].key, other_key.name);
    cr_assert(items[0].damaged);
    cr_assert_not(items[1].damaged);
    cr_assert_str_eq(items[1].name, "attend");
    cr_assert_str_eq(items[1].arch, "sm_90a");
    cr_assert_gt(items[1].bytes, items[0].bytes);
    cr_assert_gt(items[1].created, 1000000000);
    free(items);
    cache_close(c);
}

Test(cache, clearing_leaves_foreign_files_alone)
{
    cache *c = filled_cache();
    char foreign[4096], unfinished[4096];
    int removed;
    error err = ERROR_INIT;
    snprintf(foreign, sizeof foreign, "%s/kernels/notes.txt", cache_dir(c));
    snprintf(unfinished, sizeof unfinished, "%s/kernels/tmp.AbCdEf", cache_dir(c));
    files_write(foreign, "mine", 4);
    cr_assert_eq(mkdir(unfinished, 0777), 0);
    cr_assert_eq(cache_clear(c, NULL, &removed, &err), XQ_OK);
    cr_assert_eq(removed, 1);
    cr_assert_eq(access(foreign, F_OK), 0);
    cr_assert_neq(access(unfinished, F_OK), 0);
    cr_assert_eq(cache_clear(c, NULL, &removed, &err), XQ_OK);
    cr_assert_eq(removed, 0);
    cache_close(c);
}

Test(cache, key_depends_on_every_field_and_their_borders)
{
    const cache_field fields[] = {{"abc", 3}, {"de", 2}};
    const cache_field moved[] = {{"ab", 2}, {"cde", 3}};
    const cache_field swapped[] = {{"de", 2}, {"abc", 3}};
    const cache_field more[] = {{"abc", 3}, {"de", 2}, {"", 0}};
    cache_hash a = cache_hash_of(fields, 2);
    cr_assert_eq(strlen(a.hex), 32);
    cr_assert_str_eq(a.hex, cache_hash_of(fields, 2).hex);
    cr_assert_str_neq(a.hex, cache_hash_of(moved, 2).hex);
    cr_assert_str_neq(a.hex, cache_hash_of(swapped, 2).hex);
    cr_assert_str_neq(a.hex, cache_hash_of(more, 3).hex);
}

/* ------------------------------------------------------- shared by several machines
 * A network file system cannot be mounted here. The functions below take the place of those of the C
 * library, and imitate the ways in which such a file system differs from a local one. */

static int (*rename_hook)(const char *from, const char *to);
static time_t clock_ahead;         /* seconds by which this machine's clock is ahead of the file system's */
static const char *open_elsewhere; /* a file's name: removing it leaves .nfs0001 in the folder */

int rename(const char *from, const char *to)
{
    int (*hook)(const char *, const char *) = rename_hook;
    rename_hook = NULL; /* only once */
    return hook ? hook(from, to) : (int)syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0);
}

time_t time(time_t *out)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (out)
        *out = now.tv_sec + clock_ahead;
    return now.tv_sec + clock_ahead;
}

int remove(const char *path)
{
    const char *name = strrchr(path, '/');
    char kept[4200];
    if (open_elsewhere && name && strcmp(name + 1, open_elsewhere) == 0) {
        snprintf(kept, sizeof kept, "%.*s/.nfs0001", (int)(name - path), path);
        return rename(path, kept);
    }
    if (open_elsewhere && name && strcmp(name, "/.nfs0001") == 0)
        return 0; /* the file stays, under another such name */
    return unlink(path) == 0 ? 0 : errno == EISDIR ? rmdir(path) : -1;
}

static const char
    *stale; /* name of a file whose next opening fails, as if its entry was replaced on the server */

int openat(int folder, const char *name, int flags, ...)
{
    va_list list;
    va_start(list, flags);
    mode_t mode = flags & O_CREAT ? va_arg(list, mode_t) : 0;
    va_end(list);
    if (stale && strcmp(name, stale) == 0) {
        stale = NULL;
        errno = ESTALE;
        return -1;
    }
    return (int)syscall(SYS_openat, folder, name, flags, mode);
}

/* The client sends the request twice: the first is carried out, and the second is refused. */
static int rename_reported_as_failed(const char *from, const char *to)
{
    cr_assert_eq(rename(from, to), 0);
    errno = ENOENT;
    return -1;
}

/* Meanwhile another machine has published the same entry, and servers report that with different errors. */
static const char *theirs;
static int answer;
static int rename_after_another(const char *from, const char *to)
{
    (void)from;
    cr_assert_eq(rename(theirs, to), 0);
    errno = answer;
    return -1;
}

static int rename_refused(const char *from, const char *to)
{
    (void)from, (void)to;
    errno = answer;
    return -1;
}

Test(cache, a_rename_that_was_done_and_reported_as_failed_has_stored)
{
    cache *c = cache_open(files_directory(), &log_to_test);
    cache_entry e = make_entry(), out;
    rename_hook = rename_reported_as_failed;
    cache_store(c, &key, &e);
    cr_expect_eq(warnings, 0, "%s", last_warning);
    cr_assert(cache_load(c, &key, &out));
    cache_entry_free(&out);
    cr_expect_eq(files_count(kernels_path(c, "")), 1);
    cache_close(c);
}

Test(cache, what_another_machine_published_first_is_kept)
{
    static const int answers[] = {ENOTEMPTY, EEXIST, ESTALE, ENOENT};
    for (size_t i = 0; i < sizeof answers / sizeof answers[0]; i++) {
        cache *other = filled_cache(), *c = cache_open(files_directory(), &log_to_test);
        cache_entry e = make_entry(), out;
        char ptx[] = ".version 9.0\n";
        e.parts[CACHE_PTX].data = ptx;
        theirs = strdup(entry_path(other, ""));
        answer = answers[i];
        rename_hook = rename_after_another;
        cache_store(c, &key, &e);
        cr_expect_eq(warnings, 0, "%s", last_warning);
        cr_assert(cache_load(c, &key, &out));
        cr_expect_str_eq(out.parts[CACHE_PTX].data, ".version 8.0\n", "theirs stays");
        cr_expect_eq(files_count(kernels_path(c, "")), 1);
        cache_entry_free(&out);
        cache_close(c);
        cache_close(other);
    }
}

Test(cache, an_entry_that_is_replaced_while_it_is_read_is_looked_at_again)
{
    static const char *const names[] = {"kernel.ptx", "manifest.json", "source.cu"};
    cache *c = filled_cache();
    cache_entry out;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        stale = names[i];
        cr_expect(cache_load(c, &key, &out));
        cr_expect_null(stale);
        cr_expect_eq(warnings, 0, "%s", last_warning);
        cache_entry_free(&out);
    }
    cache_close(c);
}

Test(cache, a_rename_that_fails_warns_and_leaves_nothing)
{
    cache *c = cache_open(files_directory(), &log_to_test);
    cache_entry e = make_entry(), out;
    answer = EDQUOT;
    rename_hook = rename_refused;
    cache_store(c, &key, &e);
    cr_expect_eq(warnings, 1);
    cr_expect(strstr(last_warning, strerror(EDQUOT)), "%s", last_warning);
    cr_expect_not(cache_load(c, &key, &out));
    cr_expect_eq(files_count(kernels_path(c, "")), 0);
    cache_close(c);
}

/* This machine's clock is two days ahead of the server's. No entry is old because of that. */
Test(cache, ages_are_by_the_file_systems_own_clock)
{
    cache *c = filled_cache(), *next = cache_open(cache_dir(c), &log_to_test);
    cache_entry e = make_entry();
    cache_pruned pruned;
    error err = ERROR_INIT;
    const cache_limits a_day = {.by_age = true, .most_seconds = 24 * 3600};
    clock_ahead = 48 * 3600;
    make_folder(kernels_path(c, "tmp.alive"));
    cache_store(next, &other_key, &e);
    cr_expect_eq(access(kernels_path(c, "tmp.alive"), F_OK), 0, "another machine is writing it");
    cr_assert_eq(cache_prune(next, &a_day, &pruned, &err), XQ_OK);
    cr_expect_eq(pruned.removed + pruned.leftovers, 0);
    clock_ahead = -48 * 3600;
    const struct timespec old[2] = {{time(NULL), 0}, {time(NULL), 0}};
    cr_assert_eq(utimensat(AT_FDCWD, kernels_path(c, key.name), old, 0), 0);
    cr_assert_eq(cache_prune(next, &a_day, &pruned, &err), XQ_OK);
    cr_expect_eq(pruned.removed, 1, "it was last used two days ago");
    cache_close(next);
    cache_close(c);
}

/* A file that a process has open keeps its folder from being removed. The entry is gone all the same, and a
 * later call removes the rest. */
Test(cache, what_is_open_elsewhere_leaves_a_rest_that_is_swept)
{
    cache *c = filled_cache();
    cache_entry out, e = make_entry();
    cache_pruned pruned;
    error err = ERROR_INIT;
    int removed;
    open_elsewhere = "kernel.ptx";
    cr_assert_eq(cache_clear(c, NULL, &removed, &err), XQ_OK, "%s", err.message);
    cr_expect_eq(removed, 1);
    cr_expect_not(cache_load(c, &key, &out));
    cr_expect_eq(warnings, 0, "%s", last_warning);
    cr_expect_eq(files_count(kernels_path(c, "")), 1);
    cache_store(c, &key, &e); /* the name of the entry is free */
    cr_expect_eq(truncate(entry_path(c, "source.cu"), 1), 0);
    cache_store(c, &key, &e); /* a damaged entry is moved away in the same manner */
    cr_assert(cache_load(c, &key, &out));
    cache_entry_free(&out);
    cr_expect_eq(files_count(kernels_path(c, "")), 3);
    open_elsewhere = NULL;
    char command[4300];
    snprintf(command, sizeof command, "touch -d '2 hours ago' '%s'/tmp.*", kernels_path(c, ""));
    cr_assert_eq(system(command), 0);
    const cache_limits none = {.by_age = true, .most_seconds = 24 * 3600};
    cr_assert_eq(cache_prune(c, &none, &pruned, &err), XQ_OK);
    cr_expect_eq(pruned.leftovers, 2);
    cr_expect_eq(files_count(kernels_path(c, "")), 1);
    cache_close(c);
}

/* ------------------------------------------------------------------- no folder */

/* A service may have no home folder. The first store warns once about it; loads do not warn. */
Test(cache, without_a_home_there_is_no_cache_and_one_warning)
{
    static const char *const homes[] = {NULL, "", "/nonexistent/xq-home"};
    unsetenv("XDG_CACHE_HOME");
    unsetenv("XQ_CACHE_DIR");
    for (size_t i = 0; i < sizeof homes / sizeof homes[0]; i++) {
        if (homes[i])
            setenv("HOME", homes[i], 1);
        else
            unsetenv("HOME");
        cache *c = cache_open(NULL, &log_to_test);
        cache_entry out, e = make_entry();
        warnings = 0;
        cr_expect_str_eq(cache_dir(c), "");
        cr_expect_not(cache_load(c, &key, &out));
        cr_expect_eq(warnings, 0, "%s", last_warning);
        cache_store(c, &key, &e);
        cache_store(c, &key, &e);
        cr_expect_eq(warnings, 1);
        cr_expect(strstr(last_warning, i == 2 ? homes[i] : "HOME is not set"), "%s", last_warning);
        cache_close(c);
    }
    cr_expect_eq(access("/nonexistent", F_OK), -1, "it was made");
}

/* The other process runs as a user who may read the folder but not write it. */
Test(cache, a_folder_that_cannot_be_written_serves_all_the_same)
{
    cache *c = filled_cache();
    char kernels[4096];
    snprintf(kernels, sizeof kernels, "%s", kernels_path(c, ""));
    cr_assert_eq(chmod(cache_dir(c), 0755) | chmod(kernels, 0555), 0);
    pid_t child = fork();
    if (child == 0) {
        cache_entry e = make_entry(), out;
        bool good = (getuid() != 0 || setresuid(65534, 65534, 65534) == 0) && cache_load(c, &key, &out);
        good = good && warnings == 0;
        cache_store(c, &other_key, &e);
        cache_store(c, &other_key, &e);
        _exit(good && warnings == 1 && strstr(last_warning, "cannot be written (Permission denied)") ? 0
                                                                                                     : 1);
    }
    int status = -1;
    cr_assert_eq(waitpid(child, &status, 0), child);
    cr_expect(WIFEXITED(status) && WEXITSTATUS(status) == 0, "status %x", (unsigned)status);
    cr_assert_eq(chmod(kernels, 0755), 0);
    cr_expect_eq(files_count(kernels), 1);
    cache_close(c);
}

/* --------------------------------------------------------------- at the same time */

/* Every process stores and loads, and half of them damage entries now and then. An entry that a load
 * returns must be whole. */
Test(cache, many_processes_at_once_see_whole_entries, .timeout = 60)
{
    cache *c = filled_cache();
    for (int process = 0; process < 6; process++) {
        if (fork() != 0)
            continue;
        const logger silent = {NULL, NULL};
        cache *mine = cache_open(cache_dir(c), &silent);
        cache_entry e = make_entry(), out;
        char ptx[64];
        int bad = 0;
        snprintf(ptx, sizeof ptx, ".version %d\n", process); /* bytes that differ, as compile times do */
        e.parts[CACHE_PTX].data = ptx;
        e.parts[CACHE_PTX].bytes = strlen(ptx);
        for (int i = 0; i < 20; i++) {
            if (process % 2 == 0 && i % 4 == 3)
                (void)!truncate(entry_path(mine, "source.cu"), 1);
            cache_store(mine, &key, &e);
            if (cache_load(mine, &key, &out)) {
                bad += strncmp(out.parts[CACHE_PTX].data, ".version ", 9) != 0 ||
                       out.parts[CACHE_SOURCE].bytes != e.parts[CACHE_SOURCE].bytes;
                cache_entry_free(&out);
            }
        }
        cache_close(mine);
        _exit(bad ? 1 : 0);
    }
    int status, failures = 0;
    while (wait(&status) > 0)
        failures += !WIFEXITED(status) || WEXITSTATUS(status) != 0;
    cr_assert_eq(failures, 0);
    cache_entry e = make_entry(), out;
    cache_store(c, &key, &e);
    cr_assert(cache_load(c, &key, &out));
    cache_entry_free(&out);
    char kernels[4096];
    snprintf(kernels, sizeof kernels, "%s/kernels", cache_dir(c));
    cr_assert_eq(files_count(kernels), 1, "writers left something behind");
    cache_close(c);
}
