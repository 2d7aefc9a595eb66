#!/bin/bash
# Speed and memory of a build folder: scripts/bench.sh FOLDER
#
#   PEERS=0        without transformers, llama.cpp, OpenVINO and others (a download of some
#                  4 GB the first time, into FOLDER/bench-venv)
#   ROUNDS=3 LIMIT=32   alternating rounds, and prompts a round
#   MODES=amx-bf16,avx2-f32   only these of ours
#   OUTPUT=FILE    the peers' table, too; TRAIN_OUTPUT=FILE, GRPO_OUTPUT=FILE those of training
#   PLOTS=DIR      where the charts go
#   ISA=avx2       all programs keep to AVX2, as on a processor that has no more (but onnxruntime and
#                  OpenVINO, whose products of f32, MLAS's, have no switch for it)
#
# Prompts: the paper's Movies split where SIREN_DATA has it, MovieLens 100K otherwise.
set -eu
folder=$1
isa=${ISA:-auto}
case $isa in
auto) ;;
avx2) # PyTorch's own kernels, oneDNN (OpenVINO's too) and MKL under it, OpenBLAS
    export ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 MKL_ENABLE_INSTRUCTIONS=AVX2
    export OPENBLAS_CORETYPE=Haswell ;;
*)
    echo "ISA=$isa: neither auto nor avx2" >&2
    exit 2 ;;
esac
modes="avx2-f32 avx512-f32 avx512-bf16 amx-bf16"
MODES=${MODES:-}
for mode in ${MODES//,/ }; do
    [[ " $modes " = *" $mode "* ]] && continue
    echo "MODES: found $mode, expected some of ${modes// /,}" >&2
    exit 2
done
scripts/fetch.sh
model=models/smollm2-135m-instruct/SmolLM2-135M-Instruct.Q4_1.gguf
encoder=models/all-minilm-l6-v2
work=$folder/bench-work
mkdir -p "$work"

echo "== GEMM of one core"
if [ "$isa" = auto ]; then "$folder/bench/bench_gemm"; else "$folder/bench/bench_gemm" "$isa"; fi

if [ -d "${SIREN_DATA:-/nonexistent}/movies" ]; then
    source_data=$SIREN_DATA/movies
    protocol="--protocol paper"
else
    source_data=data/ml-100k
    protocol=""
fi
# What was made of other data, or for another model's tokenizer, is made anew.
source_stamp="$(realpath "$source_data") $protocol $model"
if [ ! -s "$work/prompts.jsonl" ] || [ ! -s "$work/titles.jsonl" ] ||
    [ "$(cat "$work/source" 2>/dev/null)" != "$source_stamp" ]; then
    rm -f "$work/bench.siren" "$work/source"
    # shellcheck disable=SC2086
    "$folder/siren" import "$work/bench.siren" "$source_data" $protocol --quiet
    "$folder/siren" export prompts "$work/bench.siren" --model "$model" --split test \
        --strategy recent --limit 100 --seed 1 --output "$work/prompts.jsonl" --quiet
    sqlite3 "$work/bench.siren" \
        "select json_object('text', title) from items order by id limit 10000" >"$work/titles.jsonl"
    echo "$source_stamp" >"$work/source"
fi

echo "== Engine on prompts of $source_data"
for mode in $modes; do
    [ "$isa" = auto ] || [ "${mode%-*}" = "$isa" ] || continue
    [ -z "$MODES" ] || [[ ,$MODES, = *,$mode,* ]] || continue
    set -- --isa "${mode%-*}" --compute "${mode#*-}"
    # In mode bf16 AVX-512 alone gains nothing: it needs the instructions for it.
    [ "$mode" != avx512-bf16 ] || grep -q avx512_bf16 /proc/cpuinfo || continue
    "$folder/bench/bench_engine" peak "$@" 2>/dev/null || continue
    "$folder/bench/bench_engine" load --model "$model" "$@"
    for task in score shared rank decode rollouts cot; do
        "$folder/bench/bench_engine" "$task" --model "$model" --prompts "$work/prompts.jsonl" \
            --limit "$([ "$task" = score ] && echo 64 || echo 100)" "$@"
    done
    "$folder/bench/bench_engine" embed --encoder "$encoder" --prompts "$work/titles.jsonl" "$@"
    "$folder/bench/bench_layers" --model "$model" "$@"
    "$folder/bench/bench_layers" --model "$encoder" "$@"
done

echo "== Speed against size (charts in ${PLOTS:-$work})"
mkdir -p "${PLOTS:-$work}"
"$folder/bench/bench_sweep" --model "$model" --prompts "$work/prompts.jsonl" \
    --output "${PLOTS:-$work}" --isa "$isa"

echo "== A step of GRPO with LoRA: memory"
"$folder/bench/bench_grpo" --full 0 --steps 1 --model "$model" --prompts "$work/prompts.jsonl" \
    --isa "$isa"

[ "${PEERS:-1}" = 1 ] || exit 0
packages="torch==2.15.0 transformers==5.23.0 gguf==0.19.0 sentence-transformers==6.2.0 accelerate
    peft==0.21.2 trl==1.16.0 datasets openvino==2026.4.1 onnxruntime==1.32.0 onnx diskcache jinja2"
if [ "$(cat "$folder/bench-venv/ready" 2>/dev/null)" != "$packages" ]; then
    echo "== Installing the peers"
    python3 -m venv "$folder/bench-venv"
    # shellcheck disable=SC2086
    "$folder/bench-venv/bin/pip" install --quiet $packages
    echo "$packages" >"$folder/bench-venv/ready"
fi
# llama.cpp's own choice of instructions at build time may not fit this machine: name them.
flags="-DGGML_NATIVE=OFF -DGGML_AVX2=ON -DGGML_FMA=ON -DGGML_F16C=ON"
if [ "$isa" = auto ]; then
    grep -q avx512f /proc/cpuinfo && flags="$flags -DGGML_AVX512=ON"
    grep -q avx512_vnni /proc/cpuinfo && flags="$flags -DGGML_AVX512_VNNI=ON"
    grep -q avx512_bf16 /proc/cpuinfo && flags="$flags -DGGML_AVX512_BF16=ON"
fi
llama=$folder/bench-llama-$isa
if [ "$(cat "$llama/flags" 2>/dev/null)" != "$flags" ]; then
    echo "== Building llama.cpp ($isa)"
    rm -rf "$llama"
    CMAKE_ARGS="$flags" "$folder/bench-venv/bin/pip" install --quiet --no-deps --no-cache-dir \
        --target "$llama" llama-cpp-python==0.3.36
    echo "$flags" >"$llama/flags"
fi
export PYTHONPATH=$llama
echo "== Peers on the same prompts"
"$folder/bench-venv/bin/python" bench/peers.py --programs "$folder/bench" \
    --prompts "$work/prompts.jsonl" --titles "$work/titles.jsonl" --model "$model" \
    --encoder "$encoder" --rounds "${ROUNDS:-3}" --limit "${LIMIT:-32}" \
    --isa "$isa" --modes "$MODES" ${OUTPUT:+--output "$OUTPUT"}
echo "== Training beside PEFT"
"$folder/bench-venv/bin/python" bench/peers_train.py --programs "$folder/bench" \
    --prompts "$work/prompts.jsonl" --model "$model" --rounds "${ROUNDS:-3}" \
    --limit "${LIMIT:-32}" --isa "$isa" --modes "$MODES" ${TRAIN_OUTPUT:+--output "$TRAIN_OUTPUT"}
echo "== GRPO beside TRL"
"$folder/bench-venv/bin/python" bench/peers_trl.py --programs "$folder/bench" \
    --prompts "$work/prompts.jsonl" --model "$model" --rounds "${ROUNDS:-3}" \
    --isa "$isa" --modes "$MODES" ${GRPO_OUTPUT:+--output "$GRPO_OUTPUT"}
