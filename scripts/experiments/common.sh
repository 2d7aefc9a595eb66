# shellcheck shell=bash
# What the experiments share; sourced.  FOLDER is where everything goes: made by whoever calls.
#
# Every step is one command of the program.  What is done is skipped and what was stopped goes on, so
# a script is called again until it comes to its end, on as many days as that takes.
set -eu
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
make -s all
scripts/fetch.sh
root=$PWD
siren=$root/build/siren
base=$root/models/smollm2-135m-instruct/SmolLM2-135M-Instruct.Q4_1.gguf
encoder=$root/models/all-minilm-l6-v2
data=${SIREN_DATA:?the folder with the movies data}
data=$(realpath "$data")
mkdir -p "$FOLDER"
cd "$FOLDER"
compute=${COMPUTE:-bf16}
workspace=${workspace:-films.siren}
# What a prompt says of the user: the paper's, and the counts of the user's ratings, without
# which nothing that was trained came near the rating habit (docs/results/internalise.md).
strategy=${STRATEGY:-recent+sketch+habit}

# once NAME COMMAND…: NAME.log has what it printed, NAME.done, with the command, says that it ended
# well.  What was done by another command (of another STRATEGY, say) is not taken for this one; an
# empty NAME.done is, of an adapter that was there.
once() {
    local name=$1 command
    shift
    command=$(printf ' %q' "$@")
    command=siren${command/ --resume / }
    if [ -e "$name.done" ]; then
        [ -s "$name.done" ] && [ "$command" != "$(cat "$name.done")" ] || return 0
        printf '%s was done in this folder by\n    %s\nand not by\n    %s\n%s\n' "$name" \
            "$(cat "$name.done")" "$command" \
            "Take another folder, or remove $name.done and what was made." >&2
        exit 2
    fi
    printf '%s  siren %s\n' "$(date +%H:%M)" "$*"
    "$siren" "$@" >>"$name.log" 2>&1 || { tail -3 "$name.log"; exit 1; }
    printf '%s\n' "$command" >"$name.done"
}

# training NAME sft|align|grpo OPTIONS…: the run's folder is NAME.  An adapter that docs/results keeps
# is taken; ANEW=1 makes it anew (the same bits only by the same numeric contract, and what was trained
# on top belongs to these bits).
training() {
    local name=$1 kind=$2 resume="" kept=$root/docs/results/adapters/$1
    shift 2
    if [ -z "${ANEW:-}" ] && [ ! -e "$name" ] && [ ! -e "$name.done" ] && [ -d "$kept" ]; then
        mkdir "$name"
        cp -r "$kept" "$name/adapter"
        touch "$name.done"
    fi
    [ ! -e "$name/checkpoint" ] || resume=--resume
    once "$name" train "$kind" "$workspace" --out "$name" --name "$name" --compute "$compute" $resume "$@"
}

# The paper's Movies: topics named by their words, so that no model's whims are in them.
films() {
    once import import films.siren "$data/movies" --protocol paper
    once embed embed films.siren --encoder "$encoder"
    once topics topics films.siren --namer tfidf
}

# Rationales teach the form, and, by --answer-weight, the rating.  Rows are the last train row
# of each user: train's ratings move with a user's position, and these are nearest to valid's.  Anew:
# 30 minutes.
warm_start() {
    training warm sft -m "$base" --response cot --split train:last --rows 1200 --strategy "$strategy" \
        --batch 16 --epochs 1 --lr 1e-3 --answer-weight 1 --lora-targets all --rank 8 \
        --eval-rows 48 --eval-every 25 --seed 1
    once stage0 model export "$base" --adapter warm/adapter --dtype bf16 --out stage0
}
