/* The static libgcc asks glibc 2.35 for _dl_find_object when it unwinds a stack. Nothing in xq unwinds
 * (only the Fortran run time would, to print a backtrace), so the bundle answers "not found" itself and
 * runs with glibc 2.34. */
int _dl_find_object(void *address, void *result);

int _dl_find_object(void *address, void *result)
{
    (void)address;
    (void)result;
    return -1;
}
