# What both kinds of man pages share: text as roff takes it.

# Characters that roff would read as its own.
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

# The same, and `code` in bold.
function roff(text,    parts, count, i, result) {
    text = escaped(text)
    count = split(text, parts, "`")
    if (count % 2 == 0) { # an odd number of them quotes nothing
        gsub(/`/, "\\(ga", text)
        return text
    }
    for (i = 1; i <= count; i++)
        result = result parts[i] (i == count ? "" : i % 2 ? "\\fB" : "\\fR")
    return result
}

function put_line(line) { print (line ~ /^[.']/ ? "\\&" : "") line }

# A paragraph, filled, in lines of at most 78 characters.
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

# A line of code, as it stands; \c joins the parts of one that is too long for a line of the page's source.
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
