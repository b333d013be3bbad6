/* Makes one allocation of a program fail. LD_PRELOAD loads this library into the program, and the program
 * must then report an error, and must not crash.
 *
 * XQ_FAIL_PLACE and XQ_FAIL_USE select the allocation. Places are the calls of malloc, calloc and realloc
 * in the program's own code, without the libraries that it loads. They are numbered from 1, in the order of
 * their first use. The uses of a place are numbered from 1 too. When the allocation has failed, the file
 * XQ_FAIL_REPORT is created. */
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))

extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t count, size_t size);
extern void *__libc_realloc(void *pointer, size_t size);

static uintptr_t program_start, program_end;
static long wanted_place, wanted_use;

enum { PLACES = 4096 };
static uintptr_t places[PLACES]; /* return addresses in the order of their first use */
static long uses;                /* how often the wanted place was used */

/* Looks at the first object of the list, which is the program itself. */
static int find_program(struct dl_phdr_info *info, size_t size, void *unused)
{
    (void)size;
    (void)unused;
    for (int i = 0; i < info->dlpi_phnum; i++)
        if (info->dlpi_phdr[i].p_type == PT_LOAD && (info->dlpi_phdr[i].p_flags & PF_X)) {
            program_start = info->dlpi_addr + info->dlpi_phdr[i].p_vaddr;
            program_end = program_start + info->dlpi_phdr[i].p_memsz;
        }
    return 1;
}

__attribute__((constructor)) static void start(void)
{
    const char *place = getenv("XQ_FAIL_PLACE"), *use = getenv("XQ_FAIL_USE");
    wanted_place = place ? atol(place) : 0;
    wanted_use = use ? atol(use) : 1;
    dl_iterate_phdr(find_program, NULL);
}

/* The number of a place, or 0 if the table is full. Places are never removed, so no lock is needed. */
static long number_of(uintptr_t at)
{
    for (int i = 0; i < PLACES; i++) {
        uintptr_t empty = 0;
        if (__atomic_compare_exchange_n(&places[i], &empty, at, 0, __ATOMIC_RELAXED, __ATOMIC_RELAXED) ||
            empty == at)
            return i + 1;
    }
    return 0;
}

static int fails(const void *caller)
{
    uintptr_t at = (uintptr_t)caller;
    if (wanted_place == 0 || at < program_start || at >= program_end || number_of(at) != wanted_place ||
        __atomic_add_fetch(&uses, 1, __ATOMIC_RELAXED) != wanted_use)
        return 0;
    const char *report = getenv("XQ_FAIL_REPORT");
    int fd = report ? open(report, O_WRONLY | O_CREAT, 0666) : -1;
    if (fd >= 0) {
        (void)!write(fd, "failed", 6);
        close(fd);
    }
    errno = ENOMEM;
    return 1;
}

EXPORT void *malloc(size_t size)
{
    return fails(__builtin_return_address(0)) ? NULL : __libc_malloc(size);
}

EXPORT void *calloc(size_t n, size_t size)
{
    return fails(__builtin_return_address(0)) ? NULL : __libc_calloc(n, size);
}

EXPORT void *realloc(void *pointer, size_t size)
{
    return fails(__builtin_return_address(0)) ? NULL : __libc_realloc(pointer, size);
}
