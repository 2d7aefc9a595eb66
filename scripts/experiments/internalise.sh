#!/bin/bash
# Stage 2 on Movies (docs/results/internalise.md): scripts/experiments/internalise.sh FOLDER [ADAPTER]
#
# The teacher is FOLDER/stage0, the warm start's model, or that model with ADAPTER (of stage 1, whose
# distribution is too sure: docs/results/grpo.md).  It reasons greedily on the last train row of 2,000
# users, and adapters learn on the same rows to answer at once: every loss with LoRA on keys and
# values, then every choice of targets.  One epoch each, chosen on users of half A of valid, judged on
# 1,000 rows of half B.  Three to eight hours on two cores; in the order in which the results matter.
FOLDER=$(realpath -m "${1:?the folder for what comes of it}")
teacher=${2:+$(realpath "$2")}
. "$(dirname "$0")/common.sh"
films
warm_start
if [ -n "$teacher" ]; then
    once stage1 model export stage0 --adapter "$teacher" --dtype bf16 --out stage1
else
    ln -sfn stage0 stage1
fi
once states train teach films.siren -m stage1 --out states.bin --split train:last --rows 2000 \
    --strategy "$strategy" --max-tokens 200 --compute "$compute" --seed 1

judge() { # NAME [OPTIONS…]
    local name=$1
    shift
    once "$name-valid" eval films.siren -m stage1 --split valid:B -n 1000 --strategy "$strategy" \
        --compute "$compute" --name "$name" "$@"
}
rows="--teacher states.bin" # that adapters learn on
align() { # NAME LOSS TARGETS SEED [OPTIONS…]
    local name=${teacher:+stage1-}$1
    # shellcheck disable=SC2086  # options
    training "$name" align -m stage1 $rows --loss "$2" --lora-targets "$3" --seed "$4" \
        --batch 16 --lr 1e-3 --eval-rows 150 --eval-every 63 --epochs 1 "${@:5}"
    judge "$name" --adapter "$name/adapter"
}
judge before
judge reasoning --reasoning --samples 1 --max-tokens 200
once habit-2000 baselines films.siren --split valid --fit-on train:last --fit-rows 2000

align ce-1 ce k,v 1
align ha-1 ha k,v 1
align kd+ce-1 kd+ce k,v 1
align ha+ce-1 ha+ce k,v 1
align kd-1 kd k,v 1
align rps-1 rps k,v 1
for seed in 2 3; do
    align "ce-$seed" ce k,v "$seed"
    align "ha-$seed" ha k,v "$seed"
done
for targets in q,k,v q,v ffn all; do align "ha-$targets" ha $targets 1; done
# Beyond the paper: neighbours of the true rating get a part of the target; the upper layers count more.
align ce-smooth-1 ce k,v 1 --smoothing 0.1
align ha-linear-1 ha k,v 1 --layers linear
# … and each layer learns on its own, at half the cost.
for seed in 1 2 3; do align "ha-local-$seed" ha k,v "$seed" --layer-local; done
# Beyond the table's budget: all linear layers and a second epoch, at a rate that falls.
align ce-all-2 ce all 1 --epochs 2 --lr 5e-4 --schedule cosine --eval-rows 300
# … and the users' last three rows, once each, chosen by the ranked probability score.
rows="--split train:last3 --strategy $strategy"
align ce-last3 ce all 1 --lr 5e-4 --schedule cosine --eval-rows 600 --eval-every 80 --choose-by rps
once habit-last3 baselines films.siren --split valid --fit-on train:last3
"$siren" runs films.siren
