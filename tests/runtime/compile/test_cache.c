/* Tests the kernel cache on disk: a stored entry comes back whole or not at all. */
#include "../../support/files.h"
#include "cache_fixture.h"

#include <criterion/criterion.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static void assert_damaged_then_rebuilt(cache *c, const char *what)
{
    cache_entry out, e = cache_test_entry();
    cache_warnings = 0;
    cr_assert_not(cache_load(c, &cache_test_key, &out), "%s was not noticed", what);
    cr_assert_eq(cache_warnings, 1, "%s", what);
    cr_assert(strstr(cache_last_warning, cache_test_key.name) && strstr(cache_last_warning, "damaged"),
              "%s", cache_last_warning);
    cache_store(c, &cache_test_key, &e);
    cr_assert(cache_load(c, &cache_test_key, &out), "after %s the entry was not replaced", what);
    cache_assert_same(&e, &out);
    cache_entry_free(&out);
    cr_assert_eq(cache_warnings, 1, "%s", cache_last_warning);
}

Test(cache, stored_entry_comes_back)
{
    cache *c = cache_filled();
    cache_entry out, e = cache_test_entry();
    cr_assert(cache_load(c, &cache_test_key, &out));
    cache_assert_same(&e, &out);
    cache_entry_free(&out);
    cr_assert_not(cache_load(c, &cache_other_key, &out));
    cr_assert_eq(cache_warnings, 0);
    cache_close(c);
}

Test(cache, absent_cubin_stays_absent)
{
    cache *c = cache_open(files_directory(), &cache_test_log);
    cache_entry out, e = cache_test_entry();
    e.parts[CACHE_CUBIN].data = NULL;
    e.parts[CACHE_CUBIN].bytes = 0;
    cache_store(c, &cache_test_key, &e);
    cr_assert(cache_load(c, &cache_test_key, &out));
    cache_assert_same(&e, &out);
    cache_entry_free(&out);
    cache_close(c);
}

Test(cache, nothing_temporary_is_left_behind)
{
    cache *c = cache_filled();
    char kernels[4096];
    snprintf(kernels, sizeof kernels, "%s/kernels", cache_dir(c));
    cr_assert_eq(files_count(kernels), 1);
    cr_assert_eq(files_count(cache_entry_path(c, "")), 6);
    cache_close(c);
}

Test(cache, any_flipped_byte_of_any_file_is_noticed)
{
    static const char *const names[] = {"source.cu", "options.txt", "kernel.ptx", "kernel.cubin",
                                        "manifest.json"};
    cache *c = cache_filled();
    for (size_t n = 0; n < sizeof names / sizeof names[0]; n++) {
        size_t size;
        char *text = files_read(cache_entry_path(c, names[n]), &size);
        for (size_t i = 0; i < size; i += 1 + size / 16) {
            char *changed = malloc(size);
            memcpy(changed, text, size);
            changed[i] ^= 0x20;
            files_write(cache_entry_path(c, names[n]), changed, size);
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
    cache *c = cache_filled();
    for (size_t n = 0; n < sizeof names / sizeof names[0]; n++) {
        size_t size;
        free(files_read(cache_entry_path(c, names[n]), &size));
        if (size > 0) {
            cr_assert_eq(truncate(cache_entry_path(c, names[n]), (off_t)(size / 2)), 0);
            assert_damaged_then_rebuilt(c, names[n]);
        }
        cr_assert_eq(unlink(cache_entry_path(c, names[n])), 0);
        assert_damaged_then_rebuilt(c, names[n]);
    }
    cache_close(c);
}

Test(cache, empty_folder_and_file_in_place_of_an_entry_are_replaced)
{
    cache *c = cache_filled();
    int removed;
    error err = ERROR_INIT;
    cr_assert_eq(cache_clear(c, cache_test_key.name, &removed, &err), XQ_OK);
    cr_assert_eq(removed, 1);
    cr_assert_eq(mkdir(cache_entry_path(c, ""), 0777), 0);
    assert_damaged_then_rebuilt(c, "an empty folder");
    cr_assert_eq(cache_clear(c, cache_test_key.name, &removed, &err), XQ_OK);
    files_write(cache_entry_path(c, ""), "x", 1);
    assert_damaged_then_rebuilt(c, "a file");
    cache_close(c);
}

Test(cache, folders_and_fifos_in_place_of_files_are_replaced, .timeout = 20)
{
    static const char *const names[] = {"source.cu",  "options.txt",  "log.txt",
                                        "kernel.ptx", "kernel.cubin", "manifest.json"};
    cache *c = cache_filled();
    for (size_t n = 0; n < 2 * sizeof names / sizeof names[0]; n++) {
        const char *name = names[n / 2];
        cr_assert_eq(unlink(cache_entry_path(c, name)), 0);
        if (n % 2)
            cr_assert_eq(mkfifo(cache_entry_path(c, name), 0666), 0);
        else
            cache_make_folder(cache_entry_path(c, name));
        assert_damaged_then_rebuilt(c, name);
        cr_assert_eq(files_count(cache_kernels_path(c, "")), 1, "something of %s is left", name);
    }
    cache_close(c);
}

Test(cache, entries_with_folders_in_them_are_cleared_and_pruned)
{
    cache *c = cache_filled();
    error err = ERROR_INIT;
    int removed;
    cache_make_folder(cache_entry_path(c, "extra"));
    cr_assert_eq(cache_clear(c, NULL, &removed, &err), XQ_OK, "%s", err.message);
    cr_assert_eq(removed, 1);
    cache_make_folder(cache_entry_path(c, ""));
    const cache_limits none = {.by_size = true, .most_bytes = -1};
    cache_pruned pruned;
    cr_assert_eq(cache_prune(c, &none, &pruned, &err), XQ_OK, "%s", err.message);
    cr_assert_eq(pruned.removed, 1);
    cr_assert_eq(files_count(cache_kernels_path(c, "")), 0);
    cache_close(c);
}

/* A link belongs to the cache; the target of the link does not. */
Test(cache, links_in_place_of_entries_are_removed_and_not_followed)
{
    const char *foreign = files_directory();
    cache *c = cache_filled();
    int removed;
    error err = ERROR_INIT;
    files_write(files_path(foreign, "notes.txt"), "mine", 4);
    for (int clear = 0; clear < 2; clear++) {
        cr_assert_eq(cache_clear(c, NULL, &removed, &err), XQ_OK);
        cr_assert_eq(removed, 1);
        cr_assert_eq(symlink(foreign, cache_entry_path(c, "")), 0);
        if (!clear)
            assert_damaged_then_rebuilt(c, "a link");
    }
    cr_assert_eq(cache_clear(c, NULL, &removed, &err), XQ_OK);
    cr_assert_eq(files_count(cache_kernels_path(c, "")), 0);
    cr_assert_eq(files_count(foreign), 1);
    cache_close(c);
}

/* A killed compile leaves such folders. A store removes those that are more than an hour old. */
Test(cache, leftovers_of_killed_writers_go_with_the_next_store)
{
    cache *c = cache_filled();
    const struct timespec old[2] = {{time(NULL) - 2 * 3600, 0}, {time(NULL) - 2 * 3600, 0}};
    cache_make_folder(cache_kernels_path(c, "tmp.killed"));
    cache_make_folder(cache_kernels_path(c, "tmp.killed.old"));
    cache_make_folder(cache_kernels_path(c, "tmp.alive"));
    cache_make_folder(cache_kernels_path(c, "notes"));
    static const char *const aged[] = {"tmp.killed", "tmp.killed.old", "notes"};
    for (int i = 0; i < 3; i++)
        cr_assert_eq(utimensat(AT_FDCWD, cache_kernels_path(c, aged[i]), old, 0), 0);
    cache *next = cache_open(cache_dir(c), &cache_test_log);
    cache_entry e = cache_test_entry();
    cache_store(next, &cache_other_key, &e);
    cr_assert_eq(access(cache_kernels_path(c, "tmp.killed"), F_OK), -1);
    cr_assert_eq(access(cache_kernels_path(c, "tmp.killed.old"), F_OK), -1);
    cr_assert_eq(access(cache_kernels_path(c, "tmp.alive"), F_OK), 0, "its writer may be at work");
    cr_assert_eq(access(cache_kernels_path(c, "notes"), F_OK), 0, "it is not the cache's");
    cr_assert_eq(files_count(cache_kernels_path(c, "")), 4);
    cr_assert_eq(cache_warnings, 0, "%s", cache_last_warning);
    cache_close(next);
    cache_close(c);
}

Test(cache, what_is_used_is_pruned_last)
{
    cache *c = cache_filled();
    cache_entry e = cache_test_entry(), out;
    cache_pruned pruned;
    error err = ERROR_INIT;
    cache_store(c, &cache_other_key, &e);
    const struct timespec old[2] = {{time(NULL) - 50 * 3600, 0}, {time(NULL) - 50 * 3600, 0}};
    cr_assert_eq(utimensat(AT_FDCWD, cache_kernels_path(c, cache_test_key.name), old, 0), 0);
    cr_assert_eq(utimensat(AT_FDCWD, cache_kernels_path(c, cache_other_key.name), old, 0), 0);
    cr_assert(cache_load(c, &cache_test_key, &out));
    cache_entry_free(&out);
    const cache_limits two_days = {.by_age = true, .most_seconds = 48 * 3600};
    cr_assert_eq(cache_prune(c, &two_days, &pruned, &err), XQ_OK, "%s", err.message);
    cr_assert(pruned.removed == 1 && pruned.bytes_removed == pruned.bytes_left);
    cr_assert(cache_load(c, &cache_test_key, &out), "it was used just now");
    cache_entry_free(&out);
    cr_assert_not(cache_load(c, &cache_other_key, &out));
    cache_close(c);
}

Test(cache, unwritable_folder_warns_once_and_goes_on)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/file", files_directory());
    files_write(path, "x", 1);
    cache *c =
        cache_open(path, &cache_test_log); /* a file stands where the folder should: root fails too */
    cache_entry out, e = cache_test_entry();
    cache_store(c, &cache_test_key, &e);
    cache_store(c, &cache_test_key, &e);
    cr_assert_eq(cache_warnings, 1);
    cr_assert(strstr(cache_last_warning, path), "%s", cache_last_warning);
    cr_assert_not(cache_load(c, &cache_test_key, &out));
    cache_close(c);
}

Test(cache, empty_name_means_no_cache)
{
    cache *c = cache_open("", &cache_test_log);
    cache_entry out, e = cache_test_entry();
    cache_item *items;
    int count;
    error err = ERROR_INIT;
    cache_store(c, &cache_test_key, &e);
    cr_assert_not(cache_load(c, &cache_test_key, &out));
    cr_assert_eq(cache_list(c, true, &items, &count, &err), XQ_OK);
    cr_assert_eq(count, 0);
    cr_assert_eq(cache_warnings, 0);
    cache_close(c);
}

Test(cache, default_folder_follows_the_environment)
{
    const char *home = files_directory();
    setenv("HOME", home, 1);
    unsetenv("XDG_CACHE_HOME");
    unsetenv("XQ_CACHE_DIR");
    cache *c = cache_open(NULL, &cache_test_log);
    cr_assert_str_eq(cache_dir(c), files_path(home, ".cache/xq"));
    cache_close(c);
    setenv("XDG_CACHE_HOME", "/var/xdg", 1);
    c = cache_open(NULL, &cache_test_log);
    cr_assert_str_eq(cache_dir(c), "/var/xdg/xq");
    cache_close(c);
    setenv("XQ_CACHE_DIR", "/var/own", 1);
    c = cache_open(NULL, &cache_test_log);
    cr_assert_str_eq(cache_dir(c), "/var/own");
    cache_close(c);
}

Test(cache, listing_names_kernel_arch_size_and_damage)
{
    cache *c = cache_filled();
    cache_entry e = cache_test_entry();
    cache_item *items;
    int count;
    error err = ERROR_INIT;
    cache_store(c, &cache_other_key, &e);
    cr_assert_eq(truncate(cache_entry_path(c, "kernel.ptx"), 3), 0);
    cr_assert_eq(cache_list(c, true, &items, &count, &err), XQ_OK);
    cr_assert_eq(count, 2);
    cr_assert_str_eq(items[0].key, cache_test_key.name);
    cr_assert_str_eq(items[1].key, cache_other_key.name);
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
    cache *c = cache_filled();
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
        cache *c = cache_open(NULL, &cache_test_log);
        cache_entry out, e = cache_test_entry();
        cache_warnings = 0;
        cr_expect_str_eq(cache_dir(c), "");
        cr_expect_not(cache_load(c, &cache_test_key, &out));
        cr_expect_eq(cache_warnings, 0, "%s", cache_last_warning);
        cache_store(c, &cache_test_key, &e);
        cache_store(c, &cache_test_key, &e);
        cr_expect_eq(cache_warnings, 1);
        cr_expect(strstr(cache_last_warning, i == 2 ? homes[i] : "HOME is not set"), "%s",
                  cache_last_warning);
        cache_close(c);
    }
    cr_expect_eq(access("/nonexistent", F_OK), -1, "it was made");
}

/* The other process runs as a user who may read the folder but not write it. */
Test(cache, a_folder_that_cannot_be_written_serves_all_the_same)
{
    cache *c = cache_filled();
    char kernels[4096];
    snprintf(kernels, sizeof kernels, "%s", cache_kernels_path(c, ""));
    cr_assert_eq(chmod(cache_dir(c), 0755) | chmod(kernels, 0555), 0);
    pid_t child = fork();
    if (child == 0) {
        cache_entry e = cache_test_entry(), out;
        bool good =
            (getuid() != 0 || setresuid(65534, 65534, 65534) == 0) && cache_load(c, &cache_test_key, &out);
        good = good && cache_warnings == 0;
        cache_store(c, &cache_other_key, &e);
        cache_store(c, &cache_other_key, &e);
        _exit(good && cache_warnings == 1 &&
                      strstr(cache_last_warning, "cannot be written (Permission denied)")
                  ? 0
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
    cache *c = cache_filled();
    for (int process = 0; process < 6; process++) {
        if (fork() != 0)
            continue;
        const logger silent = {NULL, NULL};
        cache *mine = cache_open(cache_dir(c), &silent);
        cache_entry e = cache_test_entry(), out;
        char ptx[64];
        int bad = 0;
        snprintf(ptx, sizeof ptx, ".version %d\n", process); /* bytes that differ, as compile times do */
        e.parts[CACHE_PTX].data = ptx;
        e.parts[CACHE_PTX].bytes = strlen(ptx);
        for (int i = 0; i < 20; i++) {
            if (process % 2 == 0 && i % 4 == 3)
                (void)!truncate(cache_entry_path(mine, "source.cu"), 1);
            cache_store(mine, &cache_test_key, &e);
            if (cache_load(mine, &cache_test_key, &out)) {
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
    cache_entry e = cache_test_entry(), out;
    cache_store(c, &cache_test_key, &e);
    cr_assert(cache_load(c, &cache_test_key, &out));
    cache_entry_free(&out);
    char kernels[4096];
    snprintf(kernels, sizeof kernels, "%s/kernels", cache_dir(c));
    cr_assert_eq(files_count(kernels), 1, "writers left something behind");
    cache_close(c);
}
