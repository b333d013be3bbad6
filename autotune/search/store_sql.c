/* The schema of a store, and every statement that is prepared for it. */
#include "store_private.h"

/* The ranges are those of store_row.c and of C's int. NULLs would escape UNIQUE, so the members of a
 * question are never NULL. */
const store_object store_schema[STORE_OBJECTS] = {
    {"device", "CREATE TABLE device (\n"
               "    id INTEGER PRIMARY KEY,\n"
               "    name TEXT NOT NULL CHECK (name <> ''),\n"
               "    arch TEXT NOT NULL CHECK (arch <> ''),\n"
               "    capability INTEGER NOT NULL CHECK (capability BETWEEN 1 AND 9999),\n"
               "    multiprocessors INTEGER NOT NULL CHECK (multiprocessors BETWEEN 1 AND 2147483647),\n"
               "    memory INTEGER NOT NULL CHECK (memory > 0),\n"
               "    is_sim INTEGER NOT NULL CHECK (is_sim IN (0, 1)),\n"
               "    driver INTEGER NOT NULL CHECK (driver BETWEEN 0 AND 2147483647),\n"
               "    nvrtc INTEGER NOT NULL CHECK (nvrtc BETWEEN 1 AND 2147483647),\n"
               "    xq TEXT NOT NULL CHECK (xq <> ''),\n"
               "    UNIQUE (name, arch, capability, multiprocessors, memory, is_sim, driver, nvrtc, xq)\n"
               ") STRICT"},
    {"spec", "CREATE TABLE spec (\n"
             "    id INTEGER PRIMARY KEY,\n"
             "    choices TEXT NOT NULL UNIQUE CHECK (choices LIKE '{%}')\n"
             ") STRICT"},
    {"measurement",
     "CREATE TABLE measurement (\n"
     "    device INTEGER NOT NULL REFERENCES device (id),\n"
     "    spec INTEGER NOT NULL REFERENCES spec (id),\n"
     "    implementation TEXT NOT NULL CHECK (implementation IN ('fused', 'unfused', 'fp16-kv')),\n"
     "    family TEXT NOT NULL CHECK (family <> ''),\n"
     "    tokens INTEGER NOT NULL CHECK (tokens > 0),\n"
     "    batch INTEGER NOT NULL CHECK (batch BETWEEN 1 AND 2147483647),\n"
     "    queries INTEGER NOT NULL CHECK (queries BETWEEN 1 AND 2147483647),\n"
     "    source TEXT NOT NULL CHECK (source <> ''),\n"
     "    cold_l2 INTEGER NOT NULL CHECK (cold_l2 IN (0, 1)),\n"
     "    in_graph INTEGER NOT NULL CHECK (in_graph IN (0, 1)),\n"
     "    parameters TEXT NOT NULL CHECK (parameters LIKE '{%}'),\n"
     "    outcome TEXT NOT NULL CHECK (outcome IN\n"
     "        ('measured', 'wrong', 'not compiled', 'hung', 'crashed', 'refused')),\n"
     "    seconds REAL CHECK (seconds > 0 AND seconds < 1e300),\n"
     "    spread REAL CHECK (spread >= 0 AND spread < 1e300),\n"
     "    repeats INTEGER CHECK (repeats BETWEEN 1 AND 2147483647),\n"
     "    taken INTEGER NOT NULL CHECK (taken BETWEEN 1 AND 253402300799),\n"
     "    reason TEXT CHECK (reason <> ''),\n"
     "    complete INTEGER NOT NULL GENERATED ALWAYS AS (outcome IN ('measured', 'wrong')) VIRTUAL,\n"
     "    PRIMARY KEY (device, spec, implementation, family, tokens, batch, queries, source, cold_l2,\n"
     "        in_graph, parameters),\n"
     "    CHECK ((outcome = 'measured') = (seconds IS NOT NULL)),\n"
     "    CHECK ((outcome = 'measured') = (spread IS NOT NULL)),\n"
     "    CHECK ((outcome = 'measured') = (repeats IS NOT NULL)),\n"
     "    CHECK ((outcome = 'measured') = (reason IS NULL))\n"
     ") STRICT, WITHOUT ROWID"},
    {"answer",
     "CREATE VIEW answer AS SELECT\n"
     "    d.name AS device, d.arch, d.capability, d.multiprocessors, d.memory, d.is_sim, d.driver, "
     "d.nvrtc,\n"
     "    d.xq, s.choices AS spec, m.implementation, m.family, m.tokens, m.batch, m.queries, m.source,\n"
     "    m.cold_l2, m.in_graph, m.parameters, m.outcome, m.seconds, m.spread, m.repeats, m.taken, "
     "m.reason\n"
     "FROM measurement m JOIN device d ON d.id = m.device JOIN spec s ON s.id = m.spec"},
};

const store_object store_ceilings_table = {
    "ceilings", "CREATE TABLE ceilings (\n"
                "    device INTEGER PRIMARY KEY REFERENCES device (id),\n"
                "    copy_bytes_per_second REAL NOT NULL\n"
                "        CHECK (copy_bytes_per_second > 0 AND copy_bytes_per_second < 1e300),\n"
                "    f16_flops_per_second REAL NOT NULL\n"
                "        CHECK (f16_flops_per_second > 0 AND f16_flops_per_second < 1e300),\n"
                "    origin TEXT NOT NULL CHECK (origin <> ''),\n"
                "    taken INTEGER NOT NULL CHECK (taken BETWEEN 1 AND 253402300799)\n"
                ") STRICT"};

#define DEVICE "name, arch, capability, multiprocessors, memory, is_sim, driver, nvrtc, xq"

/* A parameter that is not bound is NULL, and then allows any value. */
#define FILTER                                                                                             \
    " WHERE (?1 IS NULL OR device = ?1)"                                                                   \
    " AND (?2 IS NULL OR arch = ?2)"                                                                       \
    " AND (?3 IS NULL OR capability = ?3)"                                                                 \
    " AND (?4 IS NULL OR multiprocessors = ?4)"                                                            \
    " AND (?5 IS NULL OR memory = ?5)"                                                                     \
    " AND (?6 IS NULL OR is_sim = ?6)"                                                                     \
    " AND (?7 IS NULL OR driver = ?7)"                                                                     \
    " AND (?8 IS NULL OR nvrtc = ?8)"                                                                      \
    " AND (?9 IS NULL OR xq = ?9)"                                                                         \
    " AND (?10 IS NULL OR spec = ?10)"                                                                     \
    " AND (?11 IS NULL OR implementation = ?11)"                                                           \
    " AND (?12 IS NULL OR family = ?12)"                                                                   \
    " AND (?13 IS NULL OR tokens = ?13)"                                                                   \
    " AND (?14 IS NULL OR batch = ?14)"                                                                    \
    " AND (?15 IS NULL OR queries = ?15)"                                                                  \
    " AND (?16 IS NULL OR source = ?16)"                                                                   \
    " AND (?17 IS NULL OR cold_l2 = ?17)"                                                                  \
    " AND (?18 IS NULL OR in_graph = ?18)"                                                                 \
    " AND (?19 IS NULL OR parameters = ?19)"                                                               \
    " AND (?20 IS NULL OR outcome = ?20)"

/* All members of a question except its parameters. */
#define CONTEST                                                                                            \
    "device, arch, capability, multiprocessors, memory, is_sim, driver, nvrtc, xq, spec, implementation, " \
    "family, tokens, batch, queries, source, cold_l2, in_graph"

const char *const store_sql[STORE_STATEMENTS] = {
    /* IMMEDIATE: a transaction that began by reading could not write after another process has written. */
    [STORE_BEGIN] = "BEGIN IMMEDIATE",
    [STORE_COMMIT] = "COMMIT",
    [STORE_ADD_DEVICE] =
        "INSERT INTO device (name, arch, capability, multiprocessors, memory, is_sim, driver, nvrtc, xq)"
        " VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9) ON CONFLICT DO NOTHING",
    [STORE_ADD_SPEC] = "INSERT INTO spec (choices) VALUES (?10) ON CONFLICT DO NOTHING",
    /* The last line is the rule of store_add. It orders answers, so that merging gives the same result in
     * any order. */
    [STORE_ADD] =
        "INSERT INTO measurement (device, spec, implementation, family, tokens, batch, queries,"
        " source, cold_l2, in_graph, parameters, outcome, seconds, spread, repeats, taken, reason)"
        " SELECT device.id, spec.id, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22,"
        " ?23, ?24, ?25 FROM device, spec"
        " WHERE (name, arch, capability, multiprocessors, memory, is_sim, driver, nvrtc, xq) ="
        " (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9) AND choices = ?10"
        " ON CONFLICT DO UPDATE SET outcome = excluded.outcome, seconds = excluded.seconds,"
        " spread = excluded.spread, repeats = excluded.repeats, taken = excluded.taken,"
        " reason = excluded.reason"
        " WHERE (excluded.complete, excluded.taken) >= (complete, taken)",
    [STORE_FIND] = "SELECT outcome, seconds, spread, repeats, taken, reason FROM answer"
                   " WHERE (device, arch, capability, multiprocessors, memory, is_sim, driver, nvrtc, xq) ="
                   " (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9) AND spec = ?10 AND implementation = ?11"
                   " AND family = ?12 AND tokens = ?13 AND batch = ?14 AND queries = ?15 AND source = ?16"
                   " AND cold_l2 = ?17 AND in_graph = ?18 AND parameters = ?19",
    [STORE_LIST] = "SELECT * FROM answer" FILTER " ORDER BY " CONTEST ", parameters",
    [STORE_BEST] = "SELECT * FROM (SELECT *, row_number() OVER (PARTITION BY " CONTEST
                   " ORDER BY seconds, spread, parameters) AS place FROM answer" FILTER
                   " AND outcome = 'measured') WHERE place = 1 ORDER BY " CONTEST,
    [STORE_ADD_CEILINGS] = "INSERT INTO ceilings (device, copy_bytes_per_second, f16_flops_per_second,"
                           " origin, taken) SELECT id, ?10, ?11, ?12, ?13 FROM device"
                           " WHERE (" DEVICE ") = (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)"
                           " ON CONFLICT DO UPDATE SET"
                           " copy_bytes_per_second = excluded.copy_bytes_per_second,"
                           " f16_flops_per_second = excluded.f16_flops_per_second,"
                           " origin = excluded.origin, taken = excluded.taken"
                           " WHERE excluded.taken >= taken",
    [STORE_FIND_CEILINGS] = "SELECT " DEVICE ", copy_bytes_per_second, f16_flops_per_second, origin, taken"
                            " FROM ceilings JOIN device ON device.id = ceilings.device"
                            " WHERE (" DEVICE ") = (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
    [STORE_LIST_CEILINGS] = "SELECT " DEVICE ", copy_bytes_per_second, f16_flops_per_second, origin, taken"
                            " FROM ceilings JOIN device ON device.id = ceilings.device",
};
