#!/bin/bash
# Rows that are asked as test's are, with one rating between them and their history (docs/results/internalise.md):
# scripts/experiments/gap.sh FOLDER
#
# CE at the budget, trained with the gap; what the adapter trained without it says of the same prompts; the newest
# rows; the counts beside each.  An hour and a half on two cores, of what is not kept.
FOLDER=$(realpath -m "${1:?the folder for what comes of it}")
. "$(dirname "$0")/common.sh"
films
warm_start
kept=$root/docs/results/adapters
judge() { # NAME ADAPTER SPLIT [OPTIONS…]
    local name=$1 adapter=$2 split=$3
    shift 3
    once "$name" eval films.siren -m stage0 --adapter "$adapter" --split "$split" --gap 1 --strategy "$strategy" \
        --compute "$compute" --name "$name" "$@"
}
training gap-ce-1 align -m stage0 --loss ce --lora-targets k,v --split train:last --rows 2000 --gap 1 \
    --strategy "$strategy" --epochs 1 --batch 16 --lr 1e-3 --eval-rows 300 --eval-every 63 --choose-by rps --seed 1
judge gap-ce-1-A gap-ce-1/adapter valid:A
judge ce-1-A "$kept/ce-1" valid:A
once gap-valid baselines films.siren --split valid --gap 1 --fit-on train:last --fit-rows 2000 --only chosen
judge gap-ce-1-test gap-ce-1/adapter test
once gap-test baselines films.siren --split test --gap 1 --fit-on train:last --fit-rows 2000 --only chosen
training gap-newest align -m stage0 -a "$kept/ce-last3" --loss ce --split valid --gap 1 --strategy "$strategy" \
    --epochs 2 --batch 16 --lr 5e-4 --schedule cosine --eval-split none --seed 1
judge gap-newest-test gap-newest/adapter test
once gap-newest-counts baselines films.siren --split test --gap 1 --fit-on train:last3+valid --only chosen
"$siren" runs films.siren
