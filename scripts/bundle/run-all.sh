#!/bin/sh
# Runs what is worth knowing about a GPU: info, the correctness matrix, tuning, comparisons. One text and one
# JSON file a run in $OUT, and a summary. Goes on after a failure; exits with 1 if there was one.
#
#   OUT      folder for the results (default: results)
#   DEVICE   auto, cuda[:N], sim[:GPU] (default: cuda)
#   TIER     of the correctness matrix: small, full (on a GPU), exhaustive
#   CASES    only so many of its cases (on the software device: 10)
#   MODELS, TOKENS, BITS   what to tune and to compare
#   BUDGET   of tuning, for each model (default: 3m; on the software device 30s)
set -u
here=$(cd "$(dirname "$0")" && pwd)
OUT=${OUT:-results}
DEVICE=${DEVICE:-cuda}
BITS=${BITS:-4,8}
case $DEVICE in
sim*)
    MODELS=${MODELS:-smollm2-135m}
    TOKENS=${TOKENS:-128}
    TIER=${TIER:-small}
    CASES=${CASES:-10}
    BUDGET=${BUDGET:-30s}
    ;;
*)
    MODELS=${MODELS:-smollm2-135m llama-3.2-1b llama-3.1-8b llama-2-7b}
    TOKENS=${TOKENS:-1024 8192 32768}
    TIER=${TIER:-full}
    BUDGET=${BUDGET:-3m}
    ;;
esac
mkdir -p "$OUT" || exit 1
export XQ_CACHE_DIR="${XQ_CACHE_DIR:-$OUT/cache}"
failures=0
: >"$OUT/summary.txt"

# run NAME ARGUMENTS...: xq with --json, output into $OUT/NAME.txt and $OUT/NAME.json.
run() {
    name=$1
    shift
    start=$(date +%s)
    "$here/bin/xq" "$@" --device "$DEVICE" --json "$OUT/$name.json" >"$OUT/$name.txt" 2>&1
    status=$?
    [ $status -eq 0 ] || failures=$((failures + 1))
    printf '%-40s %s, %d s\n' "$name" "$([ $status -eq 0 ] && echo ok || echo "FAILED with $status")" \
        $(($(date +%s) - start)) | tee -a "$OUT/summary.txt"
    [ $status -eq 0 ] || tail -n 3 "$OUT/$name.txt" | tee -a "$OUT/summary.txt"
}

run info info
run verify verify --tier "$TIER" ${CASES:+--cases "$CASES"}
for model in $MODELS; do
    run "tune-$model" tune --model "$model" --bits "${BITS%%,*}" --contexts "$(echo $TOKENS | tr ' ' ,)" \
        --budget "$BUDGET"
done
for model in $MODELS; do
    case $model in
    llama-2-*) methods=x ;;
    *) methods="latent x" ;;
    esac
    for method in $methods; do
        for tokens in $TOKENS; do
            run "compare-$model-$method-$tokens" compare --model "$model" --synthetic --method "$method" \
                --bits "$BITS" --tokens "$tokens"
        done
    done
done
case $DEVICE in
sim*) ;;
*) # what grouped latents, 8-bit weights and several queries bring
    for options in "--groups 8" "--weights e4m3" "--groups 8 --weights int8" "--queries 8"; do
        # shellcheck disable=SC2086
        run "compare-llama-3.1-8b-latent$(echo "$options" | tr -d ' ')" compare --model llama-3.1-8b --synthetic \
            --method latent --bits 4 --tokens 8192 $options
    done
    ;;
esac
echo "results in $OUT, $failures failures" | tee -a "$OUT/summary.txt"
[ $failures -eq 0 ]
