/* Stores of earlier versions. */
#include "store_private.h"

/* Makes the table of measurements anew, with the checks of this version, and the view on it. */
static xq_status replace_measurements(store *s, error *err)
{
    const char *const steps[] = {
        "DROP VIEW answer",
        "ALTER TABLE measurement RENAME TO measurement_1",
        store_schema[STORE_MEASUREMENT].sql,
        store_copy_measurements,
        "DROP TABLE measurement_1",
        store_schema[STORE_ANSWER].sql,
        "PRAGMA user_version = 2",
    };
    for (size_t i = 0; i < sizeof steps / sizeof steps[0] && err->status == XQ_OK; i++)
        store_execute(s, steps[i], err);
    return err->status;
}

/* In one transaction: other processes see the store as it was, or as it is then. */
xq_status store_upgrade(store *s, error *err)
{
    int version = STORE_VERSION;
    if (store_read_version(s, &version, err) != XQ_OK || version == STORE_VERSION ||
        store_begin(s, err) != XQ_OK)
        return err->status;
    if (store_read_version(s, &version, err) == XQ_OK && version < STORE_VERSION)
        replace_measurements(s, err);
    return store_end(s, err);
}
