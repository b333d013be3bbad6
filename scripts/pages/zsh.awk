# Turns the table of options.awk into completion for zsh.
BEGIN { FS = "\t" }

# Escapes text within '...' of an _arguments specification, where \ [ ] and : have a special meaning.
function text(t) { gsub(/[][\\:]/, "\\\\&", t); gsub(/'/, "'\\''", t); return t }
function action(paths, list, values) {
    if (values == "-") return paths == "file" ? "_files" : paths == "directory" ? "_files -/" : " "
    if (paths != "-") return "{compadd - " values "; _files}"
    return list ? "_sequence compadd - " values : "(" values ")"
}

$1 == "command" { names[++count] = $2; summary[$2] = $3 }
$1 == "option" {
    repeated = $6 == 1 || $8 ~ /may be repeated/ ? "*" : ""
    long = $3 ~ /^--/ && $4 != "-" ? "=" : ""
    value = $4 == "-" ? "" : ":" text($4) ":" action($5, $6, $7)
    specs[$2] = specs[$2] " \\\n            '" repeated $3 long "[" text($8) "]" value "'"
}
$1 == "argument" {
    specs[$2] = specs[$2] " \\\n            '" ($4 == "-" ? "1" : "*") ":" $3 ":" action($4, 0, $6) "'"
}

function describe(command,    i, rest, list) {
    for (i = 1; i <= count; i++) {
        if (names[i] == "" || (command == "" ? names[i] ~ / / : index(names[i], command " ") != 1))
            continue
        rest = names[i]
        sub(/.* /, "", rest)
        list = list " '" rest ":" text(summary[names[i]]) "'"
    }
    return list
}

END {
    print "#compdef xq"
    print "# Completion of xq for zsh. Generated from `xq --help`; do not edit."
    print ""
    print "_xq_subcommands() {"
    print "    local -a found"
    print "    case $1 in"
    for (i = 1; i <= count; i++)
        if (describe(names[i]) != "")
            print "    '" names[i] "') found=(" describe(names[i]) (names[i] == "" ? " 'help:explains a subcommand'" : "") ") ;;"
    print "    esac"
    print "    (( $#found )) && _describe 'subcommand' found"
    print "}"
    print ""
    print "_xq() {"
    print "    local command='' helps='' i=2"
    print "    for (( ; i < CURRENT; i++ )); do"
    print "        case \"$command${command:+ }$words[i]\" in"
    print "        help) helps=1 ;;"
    printf "        "
    for (i = 1; i <= count; i++)
        if (names[i] != "")
            printf "%s'%s'", separator++ ? "|" : "", names[i]
    print ") command=\"$command${command:+ }$words[i]\" ;;"
    print "        *) break ;;"
    print "        esac"
    print "    done"
    print "    if [[ -n $helps ]]; then _xq_subcommands \"$command\"; return; fi"
    print "    # _arguments counts from the command's last word on."
    print "    (( CURRENT -= i - 2 ))"
    print "    words=(xq \"${(@)words[i,-1]}\")"
    print "    [[ $PREFIX == -* || CURRENT -gt 2 ]] || _xq_subcommands \"$command\""
    print "    case $command in"
    print "    '') _arguments '--help[explain xq]' '--version[print the version]' ;;"
    for (i = 1; i <= count; i++)
        if (names[i] != "")
            print "    '" names[i] "')\n        _arguments" specs[names[i]] " \\\n            '--help[explain it]'\n        ;;"
    print "    esac"
    print "}"
    print ""
    print "_xq \"$@\""
}
