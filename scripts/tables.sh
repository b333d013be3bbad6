#!/bin/sh
# Tunes models on the software device for every GPU that it models, and writes the table that is built into the library,
# autotune/tuned/modelled.json. `make tables` runs this script. Measurements stay in STORE, so that a later run only
# measures kernels that have changed.
#
#   XQ        the program (build/xq)
#   STORE     the store of measurements (build/tuning.db)
#   MODELS    models to tune for, NAME,NAME,...
#   CONTEXTS  numbers of cached tokens
#   MOST      most candidates for each GPU, model and size
set -eu
cd "$(dirname "$0")/.."
xq=${XQ:-build/xq}
store=${STORE:-build/tuning.db}
models=${MODELS:-smollm2-135m,llama-3.2-1b,llama-3.2-3b,llama-3.1-8b,qwen2.5-7b,qwen3-8b}
contexts=${CONTEXTS:-512,4096}
most=${MOST:-17}
XQ_TUNED=
export XQ_TUNED
for gpu in $("$xq" info --device sim | sed -n 's/^[a-z ]*sim:\([a-z0-9]*\) .*/\1/p'); do
    "$xq" tune --model "$models" --bits 4 --contexts "$contexts" --device "sim:$gpu" --most "$most" --budget 2h \
        --store "$store"
done
mkdir -p autotune/tuned
"$xq" tune export --store "$store" --out autotune/tuned/modelled.json
