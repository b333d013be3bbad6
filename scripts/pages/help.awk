# Turns the output of `--help`, one file of help.sh, into a man page. Needs roff.awk.
#
#   NAME      name of the page, e.g. xq-tune
#   VERSION, DATE
#   PAGES     names of all pages, with spaces between them

function section(title) { print ".SH " toupper(title); fresh = 1 }
function paragraph() { if (!fresh) print ".PP"; fresh = 0 }
function flush() {
    if (in_status)
        put_statuses(pending)
    else if (pending != "")
        put_text(pending)
    pending = in_status = ""
}
# Prints exit statuses from a text such as `0 success; 1 bad input; ...`.
function put_statuses(text,    statuses, count, i) {
    count = split(text, statuses, /; /)
    for (i = 1; i <= count; i++) {
        print ".TP\n" substr(statuses[i], 1, 1)
        put_text(substr(statuses[i], 3))
    }
}
function tagged(tag) { flush(); print ".TP\n" tag; fresh = 1 }
function bold(text) { return "\\fB" roff(text) "\\fR" }

# Prints a synopsis such as `xq cache list|verify [options]`. Lower-case words are typed as they are, so they are bold.
function synopsis(text,    words, count, i, line) {
    count = split(text, words, " ")
    for (i = 1; i <= count; i++)
        line = line (i > 1 ? " " : "") (words[i] ~ /^[a-z|-]+$/ ? bold(words[i]) : words[i] ~ /^[A-Z_.]+$/ ? "\\fI" roff(words[i]) "\\fR" : roff(words[i]))
    put_line(line)
}

NR == 1 {
    usage = $0
    sub(/^usage: /, "", usage)
    next
}
NR == 2 { next }
NR == 3 {
    if (NAME == "xq") { # its summary takes several lines
        summary = $0
        while ((getline line) > 0 && line != "")
            summary = summary " " line
    } else
        summary = $0
    put_title(NAME, 1, "xq manual")
    print ".SH NAME"
    put_line(roff(NAME) " \\- " roff(NAME == "xq" ? "attention over a cache of quantized activations" : summary))
    print ".SH SYNOPSIS"
    synopsis(usage)
    section("description")
    if (NAME == "xq") {
        pending = summary
        flush()
        section("commands")
        in_commands = 1
    }
    next
}
in_commands && /^  [a-z]/ {
    tag = $1
    text = $0
    sub(/^ +[^ ]+ +/, "", text)
    tagged("\\fBxq " roff(tag) "\\fR")
    pending = text "; see " NAME "-" tag "(1)"
    flush()
    next
}
in_commands && /^`/ { in_commands = 0; print ".PP" }
/^$/ { flush(); blank = 1; next }
/^(options|the spec|common):$/ { section(substr($0, 1, length($0) - 1)); blank = 0; in_options = 1; next }
/^Environment:$/ { section("environment"); blank = 0; in_environment = 1; next }
/^Exit status: / {
    section("exit status")
    pending = substr($0, 14)
    in_status = 1
    blank = fresh = 0
    next
}
in_options && /^  -/ {
    takes = /^  -[^ ]+ [^ ]/
    text = $0
    sub(takes ? "^  [^ ]+ [^ ]+ +" : "^  [^ ]+ +", "", text)
    tagged(bold($1) (takes ? " \\fI" roff($2) "\\fR" : ""))
    pending = text
    next
}
in_environment && /^  [A-Z]/ {
    text = $0
    tag = $0
    sub(/^  /, "", tag)
    if (match(tag, /   +/)) {
        text = substr(tag, RSTART + RLENGTH)
        tag = substr(tag, 1, RSTART - 1)
    } else
        text = ""
    tagged(bold(tag))
    pending = text
    next
}
# Lines of a word and its explanation, such as `list    the kernels there are`.
/^[a-z]+  +[a-z]/ && !in_options {
    tagged(bold($1))
    text = $0
    sub(/^[a-z]+ +/, "", text)
    pending = text
    blank = 0
    next
}
{
    if (blank) {
        if (in_options)
            print ".PP"
        else
            paragraph()
    }
    blank = in_options ? blank : 0
    line = $0
    sub(/^ +/, "", line)
    pending = pending (pending == "" ? "" : " ") line
    fresh = 0
}
END {
    flush()
    section("see also")
    count = split(PAGES, pages, " ")
    for (i = 1; i <= count; i++)
        if (pages[i] != NAME && (NAME == "xq" ? pages[i] !~ /-.*-/ : pages[i] == "xq" || index(pages[i], NAME "-") == 1 || index(NAME, pages[i] "-") == 1))
            list = list (list == "" ? "" : ",\n") ".BR " roff(pages[i]) " (1)"
    gsub(/,\n/, " ,\n", list)
    print list " ,"
    print ".BR xq.h (3)"
}
