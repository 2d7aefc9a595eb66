#!/bin/bash
# Runs the benchmarks of a build folder one after the other: scripts/bench.sh FOLDER
set -eu
folder=$1
scripts/fetch.sh
for source in bench/*.c; do
    name=$(basename "$source" .c)
    echo "== $name"
    "$folder/bench/$name"
done
