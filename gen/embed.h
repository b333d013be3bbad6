/* Files built in by scripts/embed.sh. */
#ifndef GEN_EMBED_H
#define GEN_EMBED_H

#include <stddef.h>

struct embed_file {
    const char *name; /* path from the repository root, e.g. "templates/attend.cu.lt" */
    const char *text; /* NUL-terminated */
    size_t size;      /* without the NUL */
};

/* The files of the library: Lua modules, templates and their headers, and tables of tuned parameters. The
 * list is sorted by name and ends with a null name. */
extern const struct embed_file embed_files[];

#endif
