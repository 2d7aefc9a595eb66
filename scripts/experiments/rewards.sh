#!/bin/bash
# Rewards of stage 1 beside each other (docs/results/grpo.md): scripts/experiments/rewards.sh FOLDER
#
# Twenty steps from the warm start with each reward, at a rate at which twenty steps move something,
# then 300 rows of half B of valid, reasoned.  Last, twelve steps from the end of grpo.sh's run with
# numbers outside the scale refused.  Some 75 minutes on two cores.
FOLDER=$(realpath -m "${1:?the folder for what comes of it}")
. "$(dirname "$0")/common.sh"
films
warm_start
once stage1 model export stage0 --adapter "$root/docs/results/stage1/last" --dtype bf16 --out stage1

learn() { # NAME MODEL OPTIONS…
    local name=$1 model=$2
    shift 2
    training "$name" grpo -m "$model" --split train:last --strategy "$strategy" --answers 8 \
        --batch 8 --flat-groups skip --lora-targets q,v --max-tokens 160 --seed 1 \
        --eval-split none --texts-every 10 --checkpoint-every 10 "$@"
}
reward() { # NAME OPTIONS…
    local name=$1
    shift
    learn "$name" stage0 --lr 1e-3 --warmup 3 --max-steps 20 "$@"
    once "$name-valid" eval films.siren -m stage0 --adapter "$name/adapter" --split valid:B -n 300 \
        --strategy "$strategy" --compute "$compute" --reasoning --samples 1 --max-tokens 200 \
        --name "$name CoT"
}
reward linear
reward rps --reward rps
reward squared --reward squared
reward length --length-cost 1
learn refuse stage1 --lr 4e-4 --warmup 2 --max-steps 12 --outside refuse
"$siren" runs films.siren
