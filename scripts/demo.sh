#!/bin/bash
# The main job, end to end, on MovieLens 100K: scripts/demo.sh SIREN
# (SIREN: the program).  Says what it does; leaves its workspace for trying more.
set -eu
siren=$(realpath "$1")
cd "$(dirname "$0")/.."
model=models/smollm2-135m-instruct/SmolLM2-135M-Instruct.Q4_1.gguf
encoder=models/all-minilm-l6-v2
data=data/ml-100k/ml-100k.inter
workspace=demo.siren
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
    local word shown="siren"
    for word; do
        case $word in *' '*) word="\"$word\"" ;; esac
        shown="$shown $word"
    done
    printf '   $ %s\n\n' "$shown"
    "$siren" "$@"
}

start=$SECONDS
explain "Models and data" \
    "SmolLM2-135M (a language model that runs on any machine), MiniLM (a sentence" \
    "encoder) and MovieLens 100K (100,000 ratings of 1,682 films by 943 people)."
scripts/fetch.sh
fetched=$SECONDS

explain "Import the ratings" \
    "One file, a workspace, holds everything from here on. Each person's last rating is" \
    "the test; the one before it is for choosing settings; the others are to learn from."
rm -f "$workspace" "$workspace"-*
try import "$workspace" "$data" --k-core 0

explain "Embed the films" \
    "A vector for each title and its genres: similar films have near vectors."
try embed "$workspace" --encoder "$encoder"

explain "Cluster them into topics" \
    "K-means; then the language model reads the films of each cluster and names it." \
    "Everybody's sketch follows: which topics they liked or disliked."
try topics "$workspace" --model "$model"

explain "Simple predictors, to compare with" \
    "Means, the mode, matrix factorisation, and a model of each person's rating habit."
try baselines "$workspace" --split test

explain "Predict the held-out ratings of 300 people with the language model" \
    "It reads the sketch and the recent ratings that precede the one to predict, and" \
    "answers with a distribution over the stars. It was not trained for this."
try eval "$workspace" --split test --limit 300 --model "$model" --name "SmolLM2-135M, zero-shot"

explain "All of them side by side" "On the same 300 ratings; lower is better."
try runs "$workspace" table

explain "One person" "What user $user likes and dislikes …"
try sketch "$workspace" --user $user
printf '\n   … and the ten best of 100 films that user %s has not rated: the nearest to the liked\n' $user
printf '   ones are retrieved by their vectors, then judged by the language model.\n'
try rank "$workspace" --user $user --candidates 100 --top 10 --model "$model"

cat <<EOF

${bold}Done${plain} in $((SECONDS - fetched)) s (and $((fetched - start)) s for fetching).

What to try next, with the workspace $workspace:

   export SIREN_MODEL=$model
   build/siren rate demo.siren -u $user -i 50 -r 5      rate a film: the sketch follows at once
   build/siren predict demo.siren -u $user -i 172 -i 181    the ratings of two more
   build/siren predict demo.siren -u $user --title "The Glass Harbour" --categories Drama
   build/siren generate demo.siren -u $user -i 172        what the model writes when it may reason
   build/siren eval demo.siren --limit 300 --strategy recent+habit      another prompt
   build/siren runs demo.siren compare 12 5             is the difference chance?
   build/siren --help
EOF
