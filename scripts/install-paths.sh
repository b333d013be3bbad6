# The rules that scripts/install.sh and scripts/uninstall.sh share: which paths are valid, and what a manifest may hold.
# Both scripts source this file. It sets `root` to DESTDIR without a final slash.
root=${DESTDIR:-}
root=${root%/}

die() {
    printf '%s: %s\n' "$program" "$*" >&2
    exit 1
}

# check_path NAME PATH: ends the program if an installation cannot use PATH.
check_path() {
    case $2 in
    *[[:space:]]*) die "$1: '$2' has white space, which pkg-config's files cannot hold" ;;
    /*) ;;
    *) die "$1: '$2' is not an absolute path" ;;
    esac
    case $2/ in */../*) die "$1: '$2' has '..'; name the folder without it" ;; esac
    wrong=$(printf '%s' "$2" | LC_ALL=C tr -d 'A-Za-z0-9/._+@~=^,\200-\377-' | head -c 1)
    [ -z "$wrong" ] || die "$1: '$2' has the character $wrong, which files of pkg-config or CMake cannot hold"
}

# plain PATH: prints the path with single slashes and none at the end. The root becomes empty, so that /bin is
# "$(plain /)/bin".
plain() { realpath -m -s "$1" | sed 's|^//*|/|; s|/$||'; }

# check_manifest FILE SHOWN DONE: ends the program if FILE is not a manifest of an installation under $prefix and
# $libdir. Its lines are `f FILE`, and `d FOLDER` for folders that the installation made, which may also be parents of
# $prefix and
# $libdir. The message shows the manifest as SHOWN, and DONE is the verb in "nothing was DONE".
check_manifest() {
    [ -s "$1" ] || die "$2 is empty, and does not say what was installed; nothing was $3"
    wrong=$(INSIDE=$prefix ALSO=$libdir LC_ALL=C awk '
        function below(path, folder) { return index(path, folder "/") == 1 }
        function leads_to(path, folder) { return path == folder || below(folder, path) }
        function is_ours(kind, path) {
            return below(path, ENVIRON["INSIDE"]) || below(path, ENVIRON["ALSO"]) ||
                   (kind == "d" && (leads_to(path, ENVIRON["INSIDE"]) || leads_to(path, ENVIRON["ALSO"])))
        }
        function why() {
            if ($0 !~ /^[df] \/./) return "is neither `f FILE` nor `d FOLDER`"
            path = substr($0, 3)
            if (path "/" ~ /\/\.\.\//) return "has `..`"
            if (!is_ours(substr($0, 1, 1), path)) return "leads outside of PREFIX and LIBDIR"
            return ""
        }
        why() != "" { print "line " NR ", \047" $0 "\047, " why(); exit }' "$1" | LC_ALL=C tr '\000-\011\013-\037\177' '?')
    [ -z "$wrong" ] || die "$2: $wrong; nothing was $3"
}
