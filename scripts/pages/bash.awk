# Turns the table of options.awk into completion for bash.
BEGIN { FS = "\t" }

function word(text) { gsub(/'/, "'\\''", text); return "'" text "'" }
function add(list, text) { return list (list == "" ? "" : " ") text }

$1 == "command" && $2 == "" { next }
$1 == "command" { commands = add(commands, "|" $2); names[++count] = $2 }
$1 == "option" { options[$2] = add(options[$2], $3) }
$1 == "option" && $4 != "-" {
    offer = "_xq_offer " word($5) " " $6 " " word($7 == "-" ? "" : $7)
    if (!(offer in places)) order[++offers] = offer
    places[offer] = places[offer] (places[offer] == "" ? "" : " | ") word($2 " " $3)
}
$1 == "argument" { arguments[$2] = "_xq_offer " word($4) " 0 " word($6 == "-" ? "" : $6) }

# Returns the words that can follow a command: for "" the subcommands, for "tune" its parts.
function next_words(command,    i, list, rest) {
    for (i = 1; i <= count; i++) {
        if (command == "" && names[i] !~ / /) list = add(list, names[i])
        if (command != "" && index(names[i], command " ") == 1) {
            rest = names[i]
            sub(/.* /, "", rest)
            list = add(list, rest)
        }
    }
    return list
}

END {
    print "# Completion of xq for bash. Generated from `xq --help`; do not edit."
    print ""
    print "# _xq_offer PATHS LIST VALUES: completes $cur, the last item of it where it is a LIST."
    print "_xq_offer() {"
    print "    local before='' last=$cur"
    print "    if [[ $2 == 1 && $cur == *,* ]]; then before=${cur%,*}, last=${cur##*,}; fi"
    print "    mapfile -t COMPREPLY < <(compgen -P \"$before\" -W \"$3\" -- \"$last\")"
    print "    local flag=''"
    print "    case $1 in"
    print "    file) flag=-f ;;"
    print "    directory) flag=-d ;;"
    print "    *) return ;;"
    print "    esac"
    print "    mapfile -t -O ${#COMPREPLY[@]} COMPREPLY < <(compgen $flag -- \"$cur\")"
    print "    compopt -o filenames 2>/dev/null || true"
    print "}"
    print ""
    print "# The value of an option, `COMMAND OPTION`; status 1: it takes none."
    print "_xq_value() {"
    print "    case $1 in"
    for (i = 1; i <= offers; i++)
        print "    " places[order[i]] ") " order[i] " ;;"
    print "    *) return 1 ;;"
    print "    esac"
    print "}"
    print ""
    print "# Options and arguments of a command."
    print "_xq_words() {"
    print "    case $1 in"
    print "    '') _xq_offer - 0 " word(next_words("") " help --help --version") " ;;"
    for (i = 1; i <= count; i++) {
        name = names[i]
        print "    " word(name) ")"
        print "        if [[ $cur == -* ]]; then _xq_offer - 0 " word(options[name] " --help") "; return; fi"
        if (next_words(name) != "")
            print "        _xq_subcommands " word(name)
        else if (name in arguments)
            print "        " arguments[name]
        print "        ;;"
    }
    print "    esac"
    print "}"
    print ""
    print "# The subcommands, or the parts of one."
    print "_xq_subcommands() {"
    print "    case $1 in"
    print "    '') _xq_offer - 0 " word(next_words("")) " ;;"
    for (i = 1; i <= count; i++)
        if (next_words(names[i]) != "")
            print "    " word(names[i]) ") _xq_offer - 0 " word(next_words(names[i])) " ;;"
    print "    esac"
    print "}"
    print ""
    print "_xq() {"
    print "    local cur=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]} command='' helps='' i"
    print "    COMPREPLY=()"
    print "    # bash takes `--name=value` apart at the equals sign."
    print "    if [[ $cur == = ]]; then"
    print "        cur="
    print "    elif [[ $before == = ]]; then"
    print "        before=${COMP_WORDS[COMP_CWORD - 2]}"
    print "    fi"
    print "    for ((i = 1; i < COMP_CWORD; i++)); do"
    print "        case \"$command${command:+ }${COMP_WORDS[i]}\" in"
    print "        help) helps=1 ;;"
    printf "        "
    for (i = 1; i <= count; i++)
        printf "%s%s", (i > 1 ? " | " : ""), word(names[i])
    print ") command=\"$command${command:+ }${COMP_WORDS[i]}\" ;;"
    print "        *) break ;;"
    print "        esac"
    print "    done"
    print "    if [[ $helps ]]; then _xq_subcommands \"$command\"; return; fi"
    print "    [[ $before == -* ]] && _xq_value \"$command $before\" && return"
    print "    _xq_words \"$command\""
    print "}"
    print "complete -F _xq xq"
}
