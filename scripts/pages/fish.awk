# Turns the table of options.awk into completion for fish.
BEGIN { FS = "\t" }

function word(text) { gsub(/\\/, "\\\\", text); gsub(/'/, "\\'", text); return "'" text "'" }
function at(command) { return "complete -c xq -n " word("__xq_at " command) }
function what(paths, list, values,    all) {
    all = values == "-" ? "" : list ? "(__xq_items " values ")" : values
    if (paths == "directory") all = all " (__fish_complete_directories)"
    return (paths == "file" ? "-r -F" : "-x") (all == "" ? "" : " -a " word(all))
}

BEGIN {
    print "# Completion of xq for fish. Generated from `xq --help`; do not edit."
    print ""
    print "# Whether the command line is of this subcommand, as in `__xq_at tune report`; without one: of none."
    print "function __xq_at"
    print "    set -l words (commandline -opc) # those before the cursor; the first is xq"
    print "    set -e words[1]"
    print "    set -l found"
    print "    for word in $words"
    print "        contains -- (string join -- ' ' $found $word) $__xq_commands; or break"
    print "        set -a found $word"
    print "    end"
    print "    test \"$found\" = \"$argv\""
    print "end"
    print ""
    print "# Items of a list with commas, behind those that are there."
    print "function __xq_items"
    print "    set -l there (string replace -r '^--[^=]*=' '' -- (commandline -ct))"
    print "    set -l before (string match -r '^.*,' -- $there)"
    print "    printf '%s\\n' $before$argv"
    print "end"
    print ""
    print "complete -c xq -f"
    print at("") " -l help -d 'explain xq'"
    print at("") " -l version -d 'print the version'"
    print at("") " -a help -d 'explains a subcommand'"
    commands = "'help'"
}
$1 == "command" && $2 != "" {
    commands = commands " " word($2)
    count = split($2, parts, " ")
    print at(count > 1 ? parts[1] : "") " -a " word(parts[count]) " -d " word($3)
    if (count == 1) {
        commands = commands " " word("help " $2)
        print at("help") " -a " word($2) " -d " word($3)
    } else
        print at("help " parts[1]) " -a " word(parts[2]) " -d " word($3)
    print at($2) " -l help -d 'explain it'"
}
$1 == "option" {
    name = $3 ~ /^--/ ? " -l " substr($3, 3) : " -s " substr($3, 2)
    print at($2) name ($4 == "-" ? "" : " " what($5, $6, $7)) " -d " word($8)
}
$1 == "argument" {
    if ($4 == "file")
        print at($2) " -F"
    else
        print at($2) " -a " word($4 == "directory" ? "(__fish_complete_directories)" : $6)
}
END { print "set -g __xq_commands " commands }
