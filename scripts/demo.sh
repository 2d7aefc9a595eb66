#!/bin/bash
# The main job, end to end, on MovieLens 100K: scripts/demo.sh SIREN
# (SIREN: the program).  Says what it does; leaves its workspace for trying more.
set -eu
siren=$1
root=$(cd "$(dirname "$0")/.." && pwd)
model=$root/models/smollm2-135m-instruct/SmolLM2-135M-Instruct.Q4_1.gguf
encoder=$root/models/all-minilm-l6-v2
data=$root/data/ml-100k/ml-100k.inter
workspace=$root/demo.siren
user=42
step=0

if [ -t 1 ] && [ -z "${NO_COLOR:-}" ]; then bold=$'\033[1m' plain=$'\033[0m'; else bold="" plain=""; fi

explain() {
    step=$((step + 1))
    printf '\n%s%d. %s%s\n' "$bold" $step "$1" "$plain"
    shift
    printf '   %s\n' "$@"
}

try() {
    local shown="siren ${*//$root\//}"
    printf '   $ %s\n' "$shown"
    "$siren" "$@"
}

start=$SECONDS
explain "Models and data" \
    "SmolLM2-135M (a language model that runs on any machine), MiniLM (a sentence" \
    "encoder) and MovieLens 100K (100,000 ratings of 1,682 films by 943 people)."
"$root/scripts/fetch.sh"
fetched=$SECONDS

explain "Import the ratings" "One file, a workspace, holds everything from here on."
rm -f "$workspace" "$workspace-wal" "$workspace-shm"
try import "$workspace" "$data"

explain "Embed the films" "A vector for each title and its genres: near vectors, similar films."
try embed "$workspace" --encoder "$encoder"

explain "Cluster them into topics" "K-means; the language model reads each cluster and names it."
try topics "$workspace" --model "$model"

explain "Sketch the users" "Which topics a person liked or disliked, from the ratings so far."
try sketch "$workspace"

explain "Simple predictors, to compare with" "Means, the mode, matrix factorisation."
try baselines "$workspace" --split test

explain "Predict 300 held-out ratings with the language model" \
    "It reads the user's sketch and recent ratings, and gives a distribution over the stars."
try eval "$workspace" --split test --limit 300 --model "$model"

explain "One person" "What user $user likes, and the ten best of 100 unseen films for this user."
try sketch "$workspace" --user $user
try rank "$workspace" --user $user --candidates 100 --top 10 --model "$model" --encoder "$encoder"

cat <<EOF

${bold}Done${plain} in $((SECONDS - fetched)) s (and $((fetched - start)) s of downloads).  The workspace is ${workspace#"$root"/}.  Next:
   build/siren rate demo.siren $user 50 5      rate a film: the sketch follows at once
   build/siren predict demo.siren --user $user --item 172 --model ${model#"$root"/}
   build/siren runs demo.siren                 compare the runs
   build/siren --help
EOF
