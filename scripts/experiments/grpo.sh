#!/bin/bash
# Stage 1 on Movies (docs/results/grpo.md): scripts/experiments/grpo.sh FOLDER [STEPS]
#
# Warm start, reinforcement learning, then both judged on 1,000 rows of users that nothing was chosen
# on: reasoning and answering at once, and reasoning with another user's sketch.  Three hours on two
# cores for 100 steps.
FOLDER=$(realpath -m "${1:?the folder for what comes of it}")
steps=${2:-100}
. "$(dirname "$0")/common.sh"
films
warm_start
training grpo grpo -m "$base" --adapter warm/adapter --split train:last --answers 8 --batch 8 \
    --lr 2e-4 --warmup 5 --max-tokens 160 --epochs 2 --max-steps "$steps" --eval-rows 100 \
    --eval-every 20 --eval-first --texts-every 10 --checkpoint-every 10 --seed 1
for stage in warm grpo; do
    judged=(eval films.siren -m "$base" --adapter "$stage/adapter" --split valid:B --compute "$compute")
    once "$stage-reasoning" "${judged[@]}" -n 1000 --reasoning --max-tokens 200 --name "$stage CoT"
    once "$stage-answer" "${judged[@]}" -n 1000 --name "$stage AO"
    once "$stage-swapped" "${judged[@]}" -n 300 --reasoning --max-tokens 200 --swap-sketch \
        --name "$stage CoT, another's sketch"
done
once habit baselines films.siren --split valid
"$siren" runs films.siren
