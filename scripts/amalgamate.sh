#!/bin/sh
# Writes libxqrt as one C file, and its header, for `xq emit`. They need nothing but the C library.
#
#   usage: scripts/amalgamate.sh FILE.c... > xqrt.c
#          scripts/amalgamate.sh --header > xqrt.h
#
# Each header of the repository is inserted where it is first included, and headers of the system go to the top.
# Functions that only these files share become static: their declarations and definitions get XQ_PRIVATE in front.
# Objects that another part of xq would define (`extern` in a header) become NULL. -DXQ_SOFTWARE_DEVICE=NAME links the
# software device in. Files must not define static functions of the same name; the compiler reports such functions.
set -eu
cd "$(dirname "$0")/.."

# The header is the public header without the parts that build plans, followed by the declarations for bundles.
if [ "$1" = --header ]; then
    awk '
    FNR == 1 { file++ }
    /^#if/ { depth++ }
    /^#ifndef XQ_RUNTIME_ONLY/ { hidden = depth }
    file == 1 && !hidden { lines[++n] = $0 }
    file == 2 && $0 !~ /^#(include|ifndef|define) ?["A-Z]/ && ($0 != "" || more !~ /\n\n$/) { more = more $0 "\n" }
    /^#endif/ { if (hidden == depth) hidden = 0; depth-- }
    END {
        for (i = 1; i < n; i++) print lines[i]
        sub(/#endif\n*$/, "", more)
        printf "%s", more
        print lines[n]
    }' include/xq/xq.h runtime/bundle/bundle.h
    exit
fi

awk '
function fail(text) { print "amalgamate: " text > "/dev/stderr"; failed = 1; exit 1 }
function folder(path) { return match(path, /.*\//) ? substr(path, 1, RLENGTH) : "" }
function plain(path) { while (sub(/[^\/]+\/\.\.\//, "", path)); return path }
function exists(path,  line, found) { found = (getline line < path) >= 0; close(path); return found }

# Returns the path of the file that `#include "NAME"` in the file `from` refers to.
function find(name, from) {
    if (exists(plain(folder(from) name))) return plain(folder(from) name)
    if (exists("include/" name)) return "include/" name
    if (exists("templates/lib/" name)) return "templates/lib/" name
    fail(from ": no file \"" name "\"")
}

function included(line, from,  name) {
    name = line; sub(/^[^"<]*["<]/, "", name); sub(/[">].*/, "", name)
    if (line ~ /</) {
        if (!(name in seen)) system_headers = system_headers "#include <" name ">\n"
        seen[name] = 1
    } else if (name != "xq/xq.h" && name != "bundle.h") {
        add(find(name, from))
    }
}

# Returns the definition of device_software, which is the software device if a test links it in.
function software_device() {
    return "#ifdef XQ_SOFTWARE_DEVICE\n#ifdef __cplusplus\nextern \"C\"\n#endif\n    device_opener XQ_SOFTWARE_DEVICE;\n" \
           "static device_opener *device_software = XQ_SOFTWARE_DEVICE;\n" \
           "#else\nstatic device_opener *device_software = NULL;\n#endif"
}

# Returns a line of a file, made static if it declares something that only these files share.
function declared(line) {
    if (line ~ /^extern device_opener \*const device_software;/) return software_device()
    if (line ~ /^static inline /) { sub(/^static /, "XQ_PRIVATE ", line); return line }
    if (line ~ /^extern .*;/) { sub(/^extern /, "static ", line); sub(/;/, " = NULL;", line); return line }
    if (line ~ /^[a-z][A-Za-z0-9_ *]*[ *][a-z_0-9]+\(/ && line !~ /^(static|typedef|extern|return|else) / &&
        line !~ /^[a-z][A-Za-z0-9_ *]*[ *]xq_[a-z_0-9]+\(/)
        return "XQ_PRIVATE " line
    return line
}

# Appends a file to `body`. The include guard of a header is left out.
function add(path,  line, lines, n, i, got) {
    if (path in seen) return
    seen[path] = 1
    n = 0
    while ((got = (getline line < path)) > 0) lines[++n] = line
    if (got < 0) fail("cannot read " path)
    close(path)
    for (i = 1; i <= n; i++)
        if (lines[i] ~ /^#ifndef [A-Z_0-9]+_H$/ && lines[i + 1] == "#define" substr(lines[i], 8)) {
            lines[i] = lines[i + 1] = ""
            while (n > 0 && lines[n] !~ /^#endif/) n--
            n--
            break
        }
    for (i = 1; i <= n; i++)
        if (lines[i] ~ /^#include/) included(lines[i], path)
    body = body "\n/* ---- " path " */\n\n"
    for (i = 1; i <= n; i++)
        if (lines[i] !~ /^#include/ && !(lines[i] == "" && lines[i - 1] ~ /^(#include.*)?$/)) body = body declared(lines[i]) "\n"
}

BEGIN {
    for (i = 1; i < ARGC; i++) add(plain(ARGV[i]))
    if (failed) exit 1
    print "#ifndef _GNU_SOURCE\n#define _GNU_SOURCE /* vasprintf, mempcpy */\n#endif\n"
    print "#include \"xq.h\"\n"
    printf "%s", system_headers
    print "\n#define XQ_PRIVATE static __attribute__((unused))\n"
    print "/* On purpose: initializers leave members zero, and snprintf cuts long texts. */"
    print "#ifdef __cplusplus\n#pragma GCC diagnostic ignored \"-Wmissing-field-initializers\"\n#endif"
    print "#ifndef __clang__\n#pragma GCC diagnostic ignored \"-Wformat-truncation\"\n#pragma GCC diagnostic ignored \"-Wformat-overflow\" /* seen by sanitizers alone */\n#endif"
    printf "%s", body
}' "$@"
