#!/bin/bash
# Our files, read by the reference programs (PyTorch, transformers, PEFT): scripts/check_reference.sh FOLDER
#
# FOLDER is a build's.  The first time some 6 GB of Python packages, those of
# tests/reference/requirements.txt, go to FOLDER/reference (or to the folder REFERENCE).  Fails where
#
#   an adapter that was loaded and saved by us is not in PEFT what PEFT made;
#   an adapter that `siren train` made on real ratings has other log-probabilities in PEFT, on the
#   base that `siren model export` writes, than here; or PEFT's here; or the merged model's;
#   one that was trained on an exported model with an adapter merged has, on that.
set -eu
folder=$(realpath "$1")
cd "$(dirname "$0")/.."
scripts/fetch.sh
reference=${REFERENCE:-$folder/reference}
python=$reference/bin/python
wanted=$(cat tests/reference/requirements.txt)
if [ "$(cat "$reference/ready" 2>/dev/null)" != "$wanted" ]; then
    echo "== Installing the reference programs"
    python3 -m venv "$reference"
    "$reference/bin/pip" install --quiet -r tests/reference/requirements.txt
    echo "$wanted" >"$reference/ready"
fi
# Barriers of more threads than the machine has free take minutes.
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
siren=$folder/siren
model=models/smollm2-135m-instruct/SmolLM2-135M-Instruct.Q4_1.gguf

echo "== PEFT's adapters, loaded and saved by us"
SIREN_ADAPTER_OUT=$work/saved "$folder/tests/test_adapter" >"$work/log" 2>&1 || { cat "$work/log"; exit 1; }
"$python" tests/reference/adapter_peft.py check "$work/saved" 2>"$work/log" || { cat "$work/log"; exit 1; }

echo "== An adapter trained by siren"
# Both scales, all kinds of layers, and some layers only.
"$siren" import "$work/films.siren" data/ml-100k/ml-100k.inter --k-core 0 --quiet >"$work/log"
train() { # NAME MODEL [OPTION...]
    local name=$1 model=$2
    shift 2
    echo "siren train sft … ${*:-}" | sed 's/… $/with the defaults/'
    "$siren" train sft "$work/films.siren" --model "$model" --out "$work/$name" --rows 16 --batch 4 --epochs 1 \
        --strategy recent --eval-split none --lr 5e-3 --compute f32 --seed 1 --quiet "$@" >"$work/log"
}
compare() { # ARGUMENT...
    "$python" tests/reference/export.py "$@" 2>"$work/log" || { cat "$work/log"; exit 1; }
}
train paper "$model"
compare "$siren" "$model" "$work/paper/adapter"
train all "$model" --lora-targets all --rank 3 --rslora
compare "$siren" "$model" "$work/all/adapter"
train some "$model" --lora-targets q,v,down --train-layers 12-20
compare "$siren" "$model" "$work/some/adapter"

echo "== An adapter trained on an exported model with an adapter merged"
"$siren" model export "$model" --adapter "$work/paper/adapter" --out "$work/merged" --quiet >"$work/log"
train second "$work/merged" --lora-targets all --rank 3
compare on-top "$siren" "$work/merged" "$work/second/adapter"
