/* The fixed part of an .xqw file, for its writer and its reader. */
#ifndef PREPARE_XQW_FORMAT_H
#define PREPARE_XQW_FORMAT_H

#include <cjson/cJSON.h>
#include <stdbool.h>

#define XQW_MAGIC          "XQWEIGHT"
#define XQW_PREFIX_BYTES   64
#define XQW_ALIGN          256u /* of each matrix */
#define XQW_AT_VERSION     8    /* u32 */
#define XQW_AT_INDEX       16   /* u64: where the index begins; it ends the file */
#define XQW_AT_INDEX_BYTES 24   /* u64 */
#define XQW_AT_INDEX_HASH  32   /* u64: XXH3 of the index */

#endif
