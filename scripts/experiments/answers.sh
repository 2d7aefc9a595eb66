#!/bin/bash
# Stage 1 with a loss on the answers (docs/results/grpo.md): scripts/experiments/answers.sh FOLDER
#
# From the warm start, with the ranked probability score of the distribution behind a text as its
# reward and, as what that reward's gradient has besides, as a loss: 114 steps at the rate of
# grpo.sh's run, 80 at a higher one.  To tell apart what each of the two does: that reward alone, and
# that loss beside the paper's reward, 114 steps each: an hour each on two cores.  And that reward alone
# with advantages that are not divided by their group's deviation.  All judged on 1,000 rows of half B:
# twenty minutes.  The adapters are kept in docs/results; ANEW=1 makes all.
FOLDER=$(realpath -m "${1:?the folder for what comes of it}")
. "$(dirname "$0")/common.sh"
films
warm_start

learn() { # NAME OPTIONS…
    local name=$1
    shift
    training "$name" grpo -m stage0 --split train:last --strategy "$strategy" --answers 8 --batch 8 \
        --flat-groups skip --warmup 5 --lora-targets q,v --max-tokens 160 --epochs 2 \
        --texts-every 10 --checkpoint-every 10 --seed 1 --outside refuse --eval-split none "$@"
}
judge() { # NAME
    local judged=(eval films.siren -m stage0 --adapter "$1/adapter" --split valid:B
        --strategy "$strategy" --compute "$compute" -n 1000)
    once "$1-reasoning" "${judged[@]}" --reasoning --samples 1 --max-tokens 200 --name "$1 CoT"
    once "$1-answer" "${judged[@]}" --name "$1 AO"
}
loss=(--answer-loss rps --answer-weight 4)
learn answers --reward rps "${loss[@]}" --lr 4e-4 --max-steps 114
judge answers
learn answers-fast --reward rps "${loss[@]}" --lr 1e-3 --max-steps 80
judge answers-fast
learn reward-alone --reward rps --lr 4e-4 --max-steps 114
judge reward-alone
learn loss-linear --reward linear "${loss[@]}" --lr 4e-4 --max-steps 114
judge loss-linear
learn reward-dr-grpo --reward rps --advantage dr-grpo --lr 4e-4 --max-steps 114
judge reward-dr-grpo
"$siren" runs films.siren
