#!/bin/bash
# The row on test whose adapter was trained on the newest ratings (docs/results/internalise.md):
# scripts/experiments/newest.sh FOLDER
#
# What internalise.sh learnt on the users' last three train rows goes on on all of valid, two epochs by
# the same settings, and nothing is chosen.  40 minutes for each of three seeds on two cores.  Before it, what the candidate's
# ratings by others add to the prompt: an hour, too.
FOLDER=$(realpath -m "${1:?the folder for what comes of it}")
. "$(dirname "$0")/common.sh"
films
warm_start
ln -sfn stage0 stage1
kept=$root/docs/results/adapters
learn() { # NAME OPTIONS…
    local name=$1
    shift
    training "$name" align -m stage1 -a "$kept/ce-last3" --loss ce --batch 16 --schedule cosine "$@"
}
judge() { # NAME ADAPTER OPTIONS…
    local name=$1 adapter=$2
    shift 2
    once "$name" eval films.siren -m stage1 --adapter "$adapter" --compute "$compute" --name "$name" "$@"
}
learn ce-others --seed 1 --split train:last4 --strategy "$strategy+others" --epochs 1 --lr 4e-4 \
    --eval-rows 600 --eval-every 197 --choose-by rps --eval-first
judge ce-others-valid ce-others/last --split valid:B -n 1000 --strategy "$strategy+others"
learn ce-newest --seed 1 --split valid --strategy "$strategy" --epochs 2 --lr 5e-4 --eval-split none
judge ce-newest-test ce-newest/adapter --split test --strategy "$strategy"
# What the seed moves: the order of the rows and dropout, in the last of the trainings.
for seed in 2 3; do
    learn ce-newest-$seed --split valid --strategy "$strategy" --epochs 2 --lr 5e-4 --eval-split none --seed $seed
    judge ce-newest-$seed-test ce-newest-$seed/adapter --split test --strategy "$strategy"
done
once newest-test baselines films.siren --split test --fit-on train:last3+valid
"$siren" runs films.siren
