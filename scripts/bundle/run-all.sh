#!/bin/sh
# Runs the measurements of a GPU in the order of their value: info, the small correctness matrix, tuning, comparisons,
# and then as much of the full matrix as the time allows. Each run writes a text file and a JSON file to $OUT when it
# ends, and a line to the summary. The script goes on after a failure, and exits with 1 if there was one.
#
#   OUT      folder for the results (default: results)
#   DEVICE   auto, cuda[:N], sim[:GPU] (default: cuda)
#   BUDGET   time for everything, as in 90s, 8m, 2h (default: 25m; on the software device 4m). Tuning gets half of the
#            time that the small matrix leaves
#   CASES    the number of cases of the small matrix to run (default: all; on the software device 10)
#   MODELS, TOKENS, BITS   models, cached tokens and bits to tune and to compare; tuning takes the first of BITS
set -u
here=$(cd "$(dirname "$0")" && pwd)
OUT=${OUT:-results}
DEVICE=${DEVICE:-cuda}
BITS=${BITS:-4,8}
case $DEVICE in
sim*)
    MODELS=${MODELS:-smollm2-135m}
    TOKENS=${TOKENS:-128}
    CASES=${CASES:-10}
    BUDGET=${BUDGET:-4m}
    ;;
*)
    MODELS=${MODELS:-llama-3.1-8b smollm2-135m llama-3.2-1b llama-2-7b}
    TOKENS=${TOKENS:-1024 8192 32768}
    BUDGET=${BUDGET:-25m}
    ;;
esac

number=${BUDGET%[smh]}
case $number in
'' | *[!0-9]*)
    echo "run-all: BUDGET: '$BUDGET' is not valid; valid: a whole number and s, m or h, as in 8m" >&2
    exit 2
    ;;
esac
case $BUDGET in
*h) seconds=$((number * 3600)) ;;
*m) seconds=$((number * 60)) ;;
*) seconds=$number ;;
esac
deadline=$(($(date +%s) + seconds))
left() { echo $((deadline - $(date +%s))); }

mkdir -p "$OUT" || exit 1
export XQ_CACHE_DIR="${XQ_CACHE_DIR:-$OUT/cache}"
failures=0
: >"$OUT/summary.txt"
say() { printf '%-44s %s\n' "$1" "$2" | tee -a "$OUT/summary.txt"; }

# run NAME ARGUMENTS...: runs xq with --json for at most the time that is left. Output goes to $OUT/NAME.txt and
# $OUT/NAME.json. `table` names the table of tuned parameters, or is empty for the defaults.
table=
run() {
    name=$1
    shift
    run_program "$name" "$here/bin/xq" "$@"
}

# run_program NAME PROGRAM ARGUMENTS...: the same with any program that has --json.
run_program() {
    name=$1
    shift
    start=$(date +%s)
    if [ "$(left)" -lt 5 ]; then
        say "$name" "not begun: the time is up"
        return
    fi
    XQ_TUNED=$table timeout -k 10 "$(left)" "$@" --json "$OUT/$name.json" >"$OUT/$name.txt" 2>&1
    status=$?
    took="$(($(date +%s) - start)) s"
    case $status in
    0) say "$name" "ok, $took" ;;
    124) say "$name" "cut off after $took: the time is up" ;;
    *)
        failures=$((failures + 1))
        say "$name" "FAILED with $status, $took"
        tail -n 3 "$OUT/$name.txt" | tee -a "$OUT/summary.txt"
        ;;
    esac
}

run info info --device "$DEVICE"
run verify verify --device "$DEVICE" --tier small ${CASES:+--cases "$CASES"}

# Every model gets an equal share of the tuning time that is left. The table is exported again after each model.
count=$(echo $MODELS | wc -w)
tuning_ends=$(($(date +%s) + $(left) / 2))
for model in $MODELS; do
    share=$(((tuning_ends - $(date +%s)) / count))
    count=$((count - 1))
    [ "$share" -ge 10 ] || share=10
    run "tune-$model" tune --model "$model" --bits "${BITS%%,*}" --contexts "$(echo $TOKENS | tr ' ' ,)" \
        --budget "${share}s" --store "$OUT/tuning.db" --device "$DEVICE"
    if [ -e "$OUT/tuning.db" ]; then
        "$here/bin/xq" tune export --store "$OUT/tuning.db" --out "$OUT/tuned.json" --quiet >"$OUT/export.txt" 2>&1 ||
            { failures=$((failures + 1)) && say export "FAILED: $(tail -n 1 "$OUT/export.txt")"; }
    fi
done
[ ! -e "$OUT/tuning.db" ] || run report tune report --store "$OUT/tuning.db"

# Comparisons run with the default parameters, so that results of different runs can be compared, and with tuned ones.
for model in $MODELS; do
    case $model in
    llama-2-*) methods=x ;;
    *) methods="latent x" ;;
    esac
    for method in $methods; do
        for tokens in $TOKENS; do
            run "compare-$model-$method-$tokens" compare --model "$model" --synthetic --method "$method" \
                --bits "$BITS" --tokens "$tokens" --device "$DEVICE"
            if [ "$method" != x ] && [ -e "$OUT/tuned.json" ]; then
                table=$OUT/tuned.json
                run "compare-$model-$method-$tokens-tuned" compare --model "$model" --synthetic --method "$method" \
                    --bits "${BITS%%,*}" --tokens "$tokens" --device "$DEVICE"
                table=
            fi
        done
    done
done
case $DEVICE in
sim*) ;;
*)
    # These comparisons show the effect of grouped latents, 8-bit weights and several queries.
    for options in "--groups 8,1" "--groups 1" "--weights f16" "--queries 8"; do
        # shellcheck disable=SC2086
        run "compare-llama-3.1-8b-latent$(echo "$options" | tr -d ' ')" compare --model llama-3.1-8b --synthetic \
            --method latent --bits 4 --tokens 8192 --device "$DEVICE" $options
    done
    # Attention of other libraries on the same GPU, if Python has PyTorch.
    if python3 -c 'import torch' 2>/dev/null; then
        run_program peers python3 -B "$here/peers.py" --xq "$here/bin/xq" --device "$DEVICE" --tokens 1024,8192,32768 --batch 1,8
        run_program peers-4096x4 python3 -B "$here/peers.py" --xq "$here/bin/xq" --device "$DEVICE" --tokens 4096 --batch 4
    else
        say peers "left out: python3 has no torch"
    fi
    run verify-full verify --device "$DEVICE" --tier full
    ;;
esac
echo "results in $OUT, $failures failures" | tee -a "$OUT/summary.txt"
[ $failures -eq 0 ]
