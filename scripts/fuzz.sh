#!/bin/bash
# Runs libFuzzer targets one after the other: scripts/fuzz.sh FOLDER SECONDS NAME...
# A new input that widens the coverage stays in FOLDER/corpus/NAME; one that
# breaks a target is left in FOLDER/findings and ends the run with code 1.
set -u
folder=$1
seconds=$2
shift 2
mkdir -p "$folder/findings"
bad=""
for name in "$@"; do
    mkdir -p "$folder/corpus/$name"
    seeds=tests/fuzz/corpus/$name
    [ -d "$seeds" ] || seeds=""
    echo "== fuzz_$name for $seconds s"
    # shellcheck disable=SC2086
    "$folder/targets/$name" -max_total_time="$seconds" -timeout=20 -rss_limit_mb=2500 \
        -artifact_prefix="$folder/findings/$name-" -print_final_stats=1 -verbosity=0 \
        "$folder/corpus/$name" $seeds >"$folder/$name.log" 2>&1 || bad="$bad $name"
    grep -E '^stat::number_of_executed_units|SUMMARY|ERROR' "$folder/$name.log"
done
if [ -n "$bad" ]; then
    echo "findings in:$bad (logs and inputs are in $folder)"
    exit 1
fi
echo "no findings"
