#!/bin/bash
# Half stars (docs/results/internalise.md): scripts/experiments/half_stars.sh FOLDER
#
# MovieLens latest-small, ten ratings from 0.5 to 5 as joint probabilities of several tokens: the model
# as it comes learns to answer at once, by cross-entropy on 1,300 train rows, chosen on half A of valid
# and judged on half B.  A quarter of an hour on two cores.
FOLDER=$(realpath -m "${1:?the folder for what comes of it}")
workspace=half.siren
. "$(dirname "$0")/common.sh"
once half-import import half.siren "$data/movielens-small/ratings.csv.gz" \
    --items "$data/movielens-small/meta.jsonl.gz"
once half-embed embed half.siren --encoder "$encoder"
once half-topics topics half.siren --namer tfidf
judged=(eval half.siren -m "$base" --split valid:B --strategy "$strategy" --compute "$compute")
once half-before "${judged[@]}" --name "half stars, as it comes"
training half-ce align -m "$base" --loss ce --split train --rows 1300 --strategy "$strategy" \
    --lora-targets k,v --epochs 1 --batch 16 --lr 1e-3 --eval-rows 150 --eval-every 41 --seed 1
once half-after "${judged[@]}" --adapter half-ce/adapter --name "half stars, CE"
once half-habit baselines half.siren --split valid --fit-on train --fit-rows 1300
"$siren" runs half.siren table
