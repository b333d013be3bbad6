# Turns include/xq/xq.h into the man page xq.h.3, with comments as text and declarations as code, in the header's order.
# A declaration comes before the comment that describes it. Needs roff.awk.
#
#   VERSION, DATE

function paragraph() { if (!fresh) print ".PP"; fresh = 0 }
function add_comment(line) { comment[++comment_lines] = line }

# Prints the paragraphs, lists and lines of code of the pending comment.
function flush_comment(    i, line, in_code, in_item, text) {
    for (i = 1; i <= comment_lines; i++) {
        line = comment[i]
        if (line ~ /^  +- /) { # an item
            if (text != "") put_text(text)
            if (in_code) print ".fi"
            in_code = 0
            in_item = 1
            print ".IP \\(bu 2"
            sub(/^ +- /, "", line)
            text = line
        } else if (line ~ /^ *$/) {
            if (text != "") put_text(text)
            if (in_code) print ".fi"
            if (i < comment_lines) print ".PP"
            text = ""
            in_code = in_item = 0
        } else if (line ~ /^  / && !in_item) { # code, or a table
            if (text != "") put_text(text)
            text = ""
            if (!in_code) print ".nf"
            in_code = 1
            put_code(line)
        } else {
            if (in_code) print ".fi"
            if (in_item && line !~ /^  /) {
                put_text(text)
                print ".PP"
                text = ""
                in_item = 0
            }
            in_code = 0
            sub(/^ +/, "", line)
            text = text (text == "" ? "" : " ") line
        }
    }
    if (text != "") put_text(text)
    if (in_code) print ".fi"
    comment_lines = 0
}

function flush_code(    i) {
    if (code_lines == 0) return
    paragraph()
    print ".nf"
    for (i = 1; i <= code_lines; i++)
        put_code(code[i])
    print ".fi"
    code_lines = 0
}

# Prints a paragraph of the header: the declarations, then the comment that precedes them in the header.
function flush() {
    flush_code()
    if (comment_lines) {
        paragraph()
        flush_comment()
    }
}

BEGIN {
    put_title("xq.h", 3, "xq manual")
    print ".SH NAME\nxq.h \\- attention over a cache of quantized activations"
    print ".SH LIBRARY"
    put_text("`cc program.c $(pkg-config --cflags --libs xq)` links libxq, and with xqrt instead of xq libxqrt.")
    print ".SH SYNOPSIS\n.B #include <xq/xq.h>\n.SH DESCRIPTION"
    fresh = 1
}

# Parts for compilers only are skipped: the guard, C++, visibility, and the two forms of an initializer.
/^#ifdef __cplusplus/ || /^#if defined\(__GNUC__\)/ {
    skip = 1
    if (code_lines == 0)
        comment_lines = 0
    next
}
skip && /^#define XQ_.*_INIT / && !(($2) in seen) {
    seen[$2] = 1
    code[++code_lines] = "#define " $2 " ..."
}
skip && /^#endif/ { skip = 0; next }
skip { next }
/^#(ifndef|endif|include|else)/ || /^#define XQ_XQ_H/ || /XQ_VERSION_M|XQ_VERSION_P/ { next }

/^\/\* -----* [a-z ]+/ { # /* ------ plans */, or the same with text after it
    flush()
    title = $0
    gsub(/^\/\* -+ | *-* *(\*\/)?$/, "", title)
    print ".SH " toupper(title)
    fresh = 1
    in_comment = !/\*\/$/
    next
}
!in_comment && !in_braces && /^\/\*/ {
    flush()
    in_comment = 1
    line = $0
    sub(/^\/\* ?/, "", line)
    if (line ~ /\*\/$/) {
        in_comment = 0
        sub(/ *\*\/$/, "", line)
    }
    add_comment(line)
    next
}
in_comment {
    line = $0
    if (line ~ /\*\/$/) {
        in_comment = 0
        sub(/ *\*\/$/, "", line)
    }
    sub(/^ \*/, "", line)
    sub(/^ /, "", line)
    if (in_comment || line !~ /^ *$/)
        add_comment(line)
    next
}
/^$/ { if (!in_braces) flush(); next }
{
    line = $0
    if (sub(/^XQ_API /, "", line))
        in_prototype = 1
    else if (in_prototype)
        sub(/^       /, "", line)
    if (line ~ /;$/)
        in_prototype = 0
    if (line ~ /\{$/) in_braces = 1
    if (line ~ /^\}/) in_braces = 0
    code[++code_lines] = line
}
END {
    flush()
    print ".SH SEE ALSO\n.BR xq (1)"
}
