# Functions that both kinds of man pages share. They write text for roff.

# Escapes characters that have a meaning in roff.
function escaped(text) {
    gsub(/⁻¹/, "^-1", text)
    gsub(/\\/, "\\e", text)
    gsub(/-/, "\\-", text)
    gsub(/'/, "\\(aq", text)
    gsub(/\^/, "\\(ha", text)
    gsub(/~/, "\\(ti", text)
    gsub(/…/, "...", text)
    return text
}

# Escapes text, and makes `code` bold.
function roff(text,    parts, count, i, result) {
    text = escaped(text)
    count = split(text, parts, "`")
    if (count % 2 == 0) { # an odd number of backquotes quotes nothing
        gsub(/`/, "\\(ga", text)
        return text
    }
    for (i = 1; i <= count; i++)
        result = result parts[i] (i == count ? "" : i % 2 ? "\\fB" : "\\fR")
    return result
}

function put_line(line) { print (line ~ /^[.']/ ? "\\&" : "") line }

# Prints a paragraph, filled into lines of at most 78 characters.
function put_text(text,    words, count, i, line) {
    count = split(roff(text), words, " ")
    line = words[1]
    for (i = 2; i <= count; i++)
        if (length(line) + length(words[i]) < 78)
            line = line " " words[i]
        else {
            put_line(line)
            line = words[i]
        }
    if (line != "")
        put_line(line)
}

# Prints a line of code as it is. If it is too long for a line of the page's source, \c joins its parts.
function put_code(text,    line, part) {
    line = escaped(text)
    gsub(/`/, "\\(ga", line)
    while (length(line) > 76) {
        part = substr(line, 1, 70)
        sub(/[^ ]*$/, "", part)
        if (part ~ /^ *$/)
            break
        put_line(part "\\c")
        line = substr(line, length(part) + 1)
    }
    put_line(line)
}

function put_title(name, section, title) {
    printf ".\\\" Generated; do not edit.\n.TH %s %s %s \"xq %s\" \"%s\"\n.nh\n.ad l\n", toupper(roff(name)), section, DATE, VERSION, title
}
