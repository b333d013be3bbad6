/* Suggests the word that a mistyped word was meant to be. */
#include "cli.h"

#include <string.h>

enum { LONGEST = 63 };

static int smaller(int a, int b)
{
    return a < b ? a : b;
}

/* The number of edits that turn a into b: insertions, deletions, replacements, and swaps of neighbours. */
static int distance(const char *a, const char *b)
{
    int rows[3][LONGEST + 1], n = (int)strlen(a), m = (int)strlen(b);
    if (n > LONGEST || m > LONGEST)
        return LONGEST;
    for (int i = 0; i <= n; i++) {
        int *row = rows[i % 3], *above = rows[(i + 2) % 3], *before = rows[(i + 1) % 3];
        row[0] = i;
        for (int j = 1; j <= m; j++) {
            if (i == 0) {
                row[j] = j;
                continue;
            }
            row[j] = smaller(smaller(above[j], row[j - 1]) + 1, above[j - 1] + (a[i - 1] != b[j - 1]));
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                row[j] = smaller(row[j], before[j - 2] + 1);
        }
    }
    return rows[n % 3][m];
}

static int common_prefix(const char *a, const char *b)
{
    int n = 0;
    while (a[n] && a[n] == b[n])
        n++;
    return n;
}

/* Whether one word begins the other: "--dump" for "--dump-cache", "--out-dir" for "--out". */
static bool is_beginning(const char *given, const char *name)
{
    int same = common_prefix(given, name);
    return (same >= 2 && !given[same]) || (same >= 3 && !name[same] && given[same] == '-');
}

const char *cli_nearest(const char *given, const void *names, size_t stride, int count)
{
    const char *nearest = NULL, *word = given + strspn(given, "-");
    if (strlen(word) > 63) /* longer than any name */
        return NULL;
    int best = ((int)strlen(word) + 1) / 3, prefix = -1; /* more edits are no typing mistake */
    for (int i = 0; i < count; i++) {
        const char *name = *(const char *const *)((const char *)names + (size_t)i * stride);
        const char *bare = name + strspn(name, "-");
        int edits = distance(word, bare), same = common_prefix(word, bare);
        if (is_beginning(word, bare))
            edits = smaller(edits, 1);
        if (edits < best || (edits == best && same > prefix)) {
            best = edits;
            prefix = same;
            nearest = name;
        }
    }
    return nearest;
}
