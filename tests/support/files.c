#include "files.h"

#include <criterion/criterion.h>
#include <dirent.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char made[16][256];
static int made_count;

static int remove_entry(const char *path, const struct stat *st, int kind, struct FTW *place)
{
    (void)st, (void)kind, (void)place;
    return remove(path);
}

static void remove_all(void)
{
    for (int i = 0; i < made_count; i++)
        nftw(made[i], remove_entry, 8, FTW_DEPTH | FTW_PHYS);
}

const char *files_directory(void)
{
    const char *base = getenv("TMPDIR");
    cr_assert_lt(made_count, 16);
    char *directory = made[made_count];
    snprintf(directory, sizeof made[0], "%s/xq-test-XXXXXX", base ? base : "/tmp");
    cr_assert_not_null(mkdtemp(directory));
    if (made_count++ == 0)
        atexit(remove_all);
    return directory;
}

const char *files_path(const char *directory, const char *name)
{
    static char paths[8][4096];
    static int next;
    char *path = paths[next++ % 8];
    snprintf(path, sizeof paths[0], "%s/%s", directory, name);
    return path;
}

void files_write(const char *path, const void *data, size_t size)
{
    FILE *f = fopen(path, "wb");
    cr_assert_not_null(f, "%s", path);
    cr_assert_eq(fwrite(data, 1, size, f), size);
    cr_assert_eq(fclose(f), 0);
}

char *files_read(const char *path, size_t *size)
{
    FILE *f = fopen(path, "rb");
    cr_assert_not_null(f, "%s", path);
    fseek(f, 0, SEEK_END);
    *size = (size_t)ftell(f);
    rewind(f);
    char *data = malloc(*size + 1);
    cr_assert_eq(fread(data, 1, *size, f), *size);
    data[*size] = 0;
    fclose(f);
    return data;
}

int files_count(const char *directory)
{
    DIR *d = opendir(directory);
    int count = 0;
    cr_assert_not_null(d);
    for (struct dirent *e; (e = readdir(d));)
        count += strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0;
    closedir(d);
    return count;
}

void files_assert_same(const char *path, const char *other)
{
    size_t size, other_size;
    char *data = files_read(path, &size), *other_data = files_read(other, &other_size);
    cr_assert_eq(size, other_size);
    cr_assert_eq(memcmp(data, other_data, size), 0, "%s and %s differ", path, other);
    free(data);
    free(other_data);
}
