#!/bin/bash
# Stage 1 on Movies (docs/results/grpo.md): scripts/experiments/grpo.sh FOLDER [STEPS]
#
# Warm start, reinforcement learning, then both judged on 1,000 rows of users that nothing was chosen
# on: reasoning and answering at once, and reasoning with another user's sketch.  What docs/results
# keeps of both trainings is taken, which for the second is 114 steps; ANEW=1 makes them anew (two
# hours on two cores for 114 steps).
FOLDER=$(realpath -m "${1:?the folder for what comes of it}")
steps=${2:-114}
. "$(dirname "$0")/common.sh"
films
warm_start
if [ -z "${ANEW:-}" ] && [ ! -e grpo ]; then
    if [ "$steps" != 114 ]; then
        echo "grpo.sh: 114 steps are kept and no checkpoint to go on from: ANEW=1 makes $steps" >&2
        exit 2
    fi
    cp -r "$root/docs/results/stage1" grpo
    touch grpo.done
fi
training grpo grpo -m stage0 --split train:last --strategy "$strategy" --answers 8 --batch 8 \
    --flat-groups skip --lr 4e-4 --warmup 5 --lora-targets q,v --max-tokens 160 --epochs 2 \
    --max-steps "$steps" --eval-rows 150 --eval-every 30 --eval-first --texts-every 10 \
    --checkpoint-every 10 --seed 1
for stage in warm grpo; do
    judged=(eval films.siren -m stage0 --split valid:B --strategy "$strategy" --compute "$compute")
    [ $stage = warm ] || judged+=(--adapter grpo/last)
    once "$stage-reasoning" "${judged[@]}" -n 1000 --reasoning --samples 1 --max-tokens 200 \
        --name "$stage CoT"
    once "$stage-answer" "${judged[@]}" -n 1000 --name "$stage AO"
    once "$stage-swapped" "${judged[@]}" -n 300 --reasoning --samples 1 --max-tokens 200 \
        --swap-sketch --name "$stage CoT, another's sketch"
done
once habit-1200 baselines films.siren --split valid --fit-on train:last --fit-rows 1200
"$siren" runs films.siren
