#!/bin/sh
# Installs the packages that a build and its tests need and this machine lacks. It is quick if nothing is
# missing. Every need is probed (a header that compiles and links, a command that is found), so libraries
# that were not installed as packages count, too. Packages are installed on Debian and Ubuntu only; on other
# systems the script names the missing ones.
#
#   usage: scripts/deps.sh [lint|bundle|html|sass|install|deb|aarch64]     also installs the needs of that target
#
#   CC        compiler to probe with (default gcc)
#   VENV      Python environment that receives NVRTC if no CUDA toolkit is found, Sphinx for html, and nvdisasm for
#             sass (default .venv)
#   XQ_HIDE_TOOLKIT=1   behave as if no toolkit were installed (to test that path)
set -eu
cd "$(dirname "$0")/.."
CC=${CC:-gcc}
VENV=${VENV:-.venv}

say() { printf '  %-7s %s\n' DEPS "$*"; }
die() {
    printf 'deps: %s\n' "$*" >&2
    exit 3
}

# ---------------------------------------------------------------- probes
have() { command -v "$1" >/dev/null 2>&1; }
# links HEADERS LIBS: succeeds if a program with these headers and libraries builds.
links() {
    for header in $1; do printf '#include <%s>\n' "$header"; done |
        { cat; echo 'int main(void) { return 0; }'; } |
        "$CC" -I/usr/include/lua5.4 -x c - -o /dev/null -Wl,--no-as-needed $2 2>/dev/null
}
have_venv() { python3 -c 'import ensurepip, venv' >/dev/null 2>&1; }

# Prints lines `package|probe`. The probe succeeds if this machine does not lack the package.
needs() {
    cat <<'TABLE'
build-essential|have "$CC" && have make && have ar && links stdio.h -lm
pkg-config|have pkg-config
liblua5.4-dev|links "stddef.h lua.h lauxlib.h lualib.h" -llua5.4
libcjson-dev|links "stddef.h cjson/cJSON.h" -lcjson
libxxhash-dev|links "stddef.h xxhash.h" -lxxhash
liblapacke-dev|links "lapacke.h" -llapacke
libopenblas-dev|links stdio.h -lopenblas
libsqlite3-dev|links sqlite3.h -lsqlite3
libcriterion-dev|links "criterion/criterion.h" -lcriterion
python3-venv|have_venv
gnuplot-nox|have gnuplot
parallel|have parallel
cmake|have cmake
clang|have clang && have clang++
TABLE
    if [ "${1:-}" = lint ]; then
        cat <<'TABLE'
clang-format|have clang-format
clang-tidy|have clang-tidy
cppcheck|have cppcheck
TABLE
    fi
    case ${1:-} in
    install) # the programs with which tests examine an installation
        cat <<'TABLE'
man-db|have man
mandoc|have mandoc
zsh|have zsh
fish|have fish
TABLE
        ;;
    deb)
        cat <<'TABLE'
dpkg-dev|have dpkg-shlibdeps
lintian|have lintian
TABLE
        ;;
    aarch64)
        cat <<'TABLE'
gcc-aarch64-linux-gnu|have aarch64-linux-gnu-gcc
qemu-user-static|have qemu-aarch64-static
TABLE
        ;;
    esac
    if [ "${1:-}" = bundle ]; then
        echo 'gfortran|links stdio.h "-static-libgcc -Wl,-Bstatic -lgfortran -lquadmath -Wl,-Bdynamic -lm"'
    fi
}
missing() {
    needs "$@" | while IFS='|' read -r package probe; do
        eval "$probe" </dev/null || printf '%s ' "$package"
    done
}
# Probes all libraries with one compilation, so that the usual case, in which nothing is missing, takes a third of a
# second.
everything() {
    links "stddef.h stdio.h lua.h lauxlib.h cjson/cJSON.h xxhash.h lapacke.h sqlite3.h criterion/criterion.h" \
        "-llua5.4 -lcjson -lxxhash -llapacke -lopenblas -lsqlite3 -lcriterion -lm" &&
        have make && have pkg-config && have gnuplot && have parallel && have cmake && have clang++ &&
        have_venv && [ $# -eq 0 ]
}

install_packages() {
    have apt-get || die "missing: $*(named as on Debian); install them with this system's package manager"
    sudo=
    if [ "$(id -u)" != 0 ]; then
        have sudo || die "missing: $*; run as root: apt-get install $*"
        sudo=sudo
    fi
    say "apt-get install $*"
    log=$(mktemp)
    if ! { $sudo apt-get update && $sudo env DEBIAN_FRONTEND=noninteractive \
        apt-get install -y --no-install-recommends "$@"; } >"$log" 2>&1; then
        tail -n 15 "$log" >&2
        rm -f "$log"
        die "apt-get could not install: $*"
    fi
    rm -f "$log"
}

if ! everything "$@"; then
    packages=$(missing "$@")
    if [ -n "$packages" ]; then
        # shellcheck disable=SC2086  # a list of words
        install_packages $packages
        still=$(missing "$@")
        [ -z "$still" ] || die "still missing after the installation: $still"
    fi
fi

# ---------------------------------------------------------------- PyPI
# from_pypi REQUIREMENTS ADVICE: installs the requirements into the environment. It uses the network only if some are
# missing.
pip_install() { "$VENV/bin/python" -m pip install --quiet --disable-pip-version-check --requirement "$@" 2>&1; }
from_pypi() {
    [ -x "$VENV/bin/python" ] || python3 -m venv "$VENV" || die "python3 -m venv $VENV failed"
    pip_install "$1" --no-index >/dev/null && return
    say "taking $1 from PyPI into $VENV"
    log=$(pip_install "$1") || die "$(echo "$log" | tail -n 1)
deps: pip could not install $1; $2"
}

if [ "${1:-}" = html ]; then
    from_pypi scripts/manual/requirements.txt "the manual is built with Sphinx"
fi

if [ "${1:-}" = sass ]; then
    from_pypi tools/requirements-sass.txt "nvdisasm of a CUDA toolkit does as well: set NVDISASM to its path"
fi

# ---------------------------------------------------------------- NVRTC
# The software device and every plan need NVRTC. The runtime searches the same places (docs/building.md).
found=$(sh scripts/find-nvrtc.sh) || found=
if [ -z "$found" ]; then
    say "no CUDA toolkit found"
    from_pypi tools/requirements-nvrtc.txt "install a CUDA toolkit 12.4 or newer, or set CUDA_HOME to one"
    found=$(sh scripts/find-nvrtc.sh) || die "NVRTC was installed into $VENV, yet is not found there"
fi
