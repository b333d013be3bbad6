#!/bin/sh
# Tunes models on the software device of every GPU that it stands in for, and writes the table that is built into the
# library, autotune/tuned/modelled.json. `make tables` runs it. Measurements stay in STORE, so that a later run takes only
# those of kernels that have changed.
#
#   XQ        the program (build/xq)
#   STORE     the store of measurements (build/tuning.db)
#   MODELS    models to tune for, NAME,NAME,...
#   CONTEXTS  cached tokens
#   MOST      candidates of each GPU, model and size
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
