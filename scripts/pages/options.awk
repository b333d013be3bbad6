# Turns the options and arguments in the output of --help into a table for completion. Reads the files of help.sh,
# xq.txt first, and writes lines of tab-separated fields:
#
#   command NAME SUMMARY                                        NAME: "", "tune", "tune report"
#   option NAME OPTION ARGUMENT PATHS LIST VALUES HELP          ARGUMENT "-": a flag
#   argument NAME ARGUMENT PATHS 0 VALUES
#
# PATHS is file, directory, or "-" if the value is not a path. LIST is 1 if one word can hold several values, with
# commas between them. VALUES are the words to choose from, with spaces between them, or "-".
#
#   MODELS    file with the presets of --model

BEGIN { OFS = "\t"; while ((getline line < MODELS) > 0) models = models (models == "" ? "" : " ") line }

function or_dash(text) { return text == "" ? "-" : text }

# Returns the values that a help text lists, after a colon or alone, as in "type of weights: f16 (default), int8". Text
# in parentheses explains a value and is dropped.
function values_of(help,    words, count, i, found, result) {
    while (gsub(/ *\([^()]*\)/, "", help)) {}
    sub(/; .*/, "", help)
    sub(/^[^:]*: /, "", help)
    count = split(help, words, ", ")
    for (i = 1; i <= count; i++) {
        if (words[i] == "…")
            continue
        if (words[i] !~ /^[A-Za-z0-9_.+-]+(\[[^]]*\])?$/)
            return ""
        sub(/\[.*/, "", words[i])
        result = result (found++ ? " " : "") words[i]
    }
    return found > 1 ? result : ""
}

function paths_of(argument) {
    return argument ~ /FILE/ ? "file" : argument ~ /DIR/ ? "directory" : "-"
}

FNR == 1 {
    command = ""
    count = split($0, words, " ")
    for (i = 3; i <= count && words[i] ~ /^[a-z][a-z-]*$/; i++)
        command = command (command == "" ? "" : " ") words[i]
    arguments = i <= count && words[i] !~ /^\[/ && words[i] != "SUBCOMMAND" ? words[i] : ""
    next
}
FNR == 3 {
    print "command", command, $0
    if (arguments != "" && arguments ~ /^[a-z|]+$/) {
        gsub(/\|/, " ", arguments)
        print "argument", command, "WORD", "-", 0, arguments
    } else if (arguments != "") {
        sub(/\|.*/, "", arguments)
        print "argument", command, arguments, arguments ~ /DIR/ ? "directory" : "file", 0, "-"
    }
}
/^  -/ && command != "" {
    option = $1
    argument = /^  -[^ ]+ [^ ]/ ? $2 : "-"
    text = $0
    sub(argument == "-" ? "^  [^ ]+ +" : "^  [^ ]+ [^ ]+ +", "", text)
    values = argument == "-" ? "" : option == "--model" ? models : values_of(text)
    print "option", command, option, argument, paths_of(argument), argument ~ /,/ ? 1 : 0, or_dash(values), text
}
