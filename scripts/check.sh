#!/bin/bash
# Runs the test programs of a build folder and counts their results.
#
#   scripts/check.sh FOLDER [NAME...]     (NAME: pool for tests/test_pool.c)
#
# All programs run, even when one fails.  A line of a test's source says what else
# it runs with, on tiny models:
#
#   /* check: portable */        the portable kernels
#   /* check: bf16 */            bf16 products: it holds the engine to itself, whatever
#                                its numbers
#   /* check: portable bf16 */   both, one after the other
#   /* check: native: WHY */     neither, and the reason
#
# A test that reads SIREN_ISA, or a header that does, must have such a line.
#
# Without a NAME the public headers are compiled, too (check_headers.sh).
# Real models are fetched when the network is there; without them, or with
# SIREN_SANITIZED=1, the tests that need them are skipped.  The last line is
# "N passed, N failed, N skipped"; a program that crashes counts as one failure.
# A test that is skipped only in the second pass is not counted.
set -u
folder=$1
shift
root=$(cd "$(dirname "$0")/.." && pwd)
cd "$root" || exit 1

# Empty is not set: tests would look in the root folder.
[ -n "${SIREN_DATA:-}" ] || unset SIREN_DATA

if [ -n "${SIREN_SANITIZED:-}" ]; then
    unset SIREN_MODELS SIREN_ML100K
    export ASAN_OPTIONS=${ASAN_OPTIONS:-detect_leaks=1:allocator_may_return_null=1}
    export UBSAN_OPTIONS=${UBSAN_OPTIONS:-print_stacktrace=1}
elif [ -z "${SIREN_MODELS:-}" ] || [ -z "${SIREN_ML100K:-}" ]; then
    FETCH_TIMEOUT=20 scripts/fetch.sh ||
        echo "check: no real models: the tests that need them are skipped"
    if [ -z "${SIREN_MODELS:-}" ] && [ -d models/smollm2-135m-instruct ]; then
        export SIREN_MODELS=$root/models
    fi
    if [ -z "${SIREN_ML100K:-}" ] && [ -d data/ml-100k ]; then
        export SIREN_ML100K=$root/data/ml-100k
    fi
fi
if [ -z "${SIREN_DATA:-}" ] && [ -d ../shared/data ]; then
    SIREN_DATA=$(cd ../shared/data && pwd)
    export SIREN_DATA
fi

passed=0 failed=0 skipped=0
broken=""
log=$(mktemp)
trap 'rm -f "$log"' EXIT

# The number in the lines of cmocka's summary that begin with [  $1  ].
summary() {
    sed -n "s/^\[  $1 *\] .*\b\([0-9][0-9]*\) test(s).*/\1/p" "$log" | awk '{ n += $1 } END { print n + 0 }'
}

run() { # PROGRAM LABEL COUNT_SKIPPED [VARIABLE=VALUE...]
    local program=$1 label=$2 count_skipped=$3 start=$SECONDS status bad
    shift 3
    echo "== $label"
    env "$@" timeout "${SIREN_TEST_TIMEOUT:-1800}" "$program" >"$log" 2>&1
    status=$?
    grep -v -e '^\[ RUN ' -e '^\[       OK \]' -e '^\[=====' "$log"
    passed=$((passed + $(summary PASSED)))
    bad=$(summary FAILED)
    if [ $status != 0 ] && [ "$bad" = 0 ]; then
        echo "[  FAILED  ] $label ended with status $status"
        bad=1
    fi
    failed=$((failed + bad))
    [ "$bad" = 0 ] || broken="$broken $label"
    [ "$count_skipped" = 0 ] || skipped=$((skipped + $(summary SKIPPED)))
    [ $((SECONDS - start)) -lt 5 ] || echo "   ($((SECONDS - start)) s)"
}

selected() { # the programs' names, all or those that were asked for
    local source name
    for source in tests/test_*.c; do
        name=${source#tests/test_}
        name=${name%.c}
        if [ -z "$1" ] || [[ " $1 " == *" $name "* ]]; then echo "$name"; fi
    done
}

passes() { # NAME: the words of its line, without the reason of "native"
    sed -n 's|^/\* check: \([^:]*\).* \*/$|\1|p' "tests/test_$1.c"
}

# What the compiler wrote of the test's headers tells of those that others include, too.
chooses_kernels() { # NAME
    local readers
    readers=$(grep -l SIREN_ISA tests/*.h | tr '\n' '|')
    grep -q SIREN_ISA "tests/test_$1.c" || grep -qE "(^| )(${readers%|})( |$)" "$folder/tests/test_$1.d"
}

check_passes() { # NAME...
    local name words status=0
    for name in "$@"; do
        words=$(passes "$name")
        case $words in
        portable | bf16 | "portable bf16" | native) continue ;;
        "") chooses_kernels "$name" || continue ;;
        esac
        echo "check: tests/test_$name.c: found \"${words:-no line}\", expected a line" \
            "/* check: portable */ or another that scripts/check.sh knows" >&2
        status=1
    done
    return $status
}

names=$(selected "$*")
# shellcheck disable=SC2086
check_passes $names || exit 1
for name in $names; do run "$folder/tests/test_$name" "test_$name" 1; done
for name in $names; do
    for pass in $(passes "$name"); do
        case $pass in
        portable) label="portable kernels" setting=SIREN_ISA=portable ;;
        bf16) label=bf16 setting=SIREN_COMPUTE=bf16 ;;
        native) continue ;;
        esac
        run "$folder/tests/test_$name" "test_$name ($label)" 0 \
            -u SIREN_MODELS -u SIREN_DATA -u SIREN_ML100K "$setting"
    done
done
[ $# != 0 ] || run scripts/check_headers.sh "public headers" 1
[ -z "$broken" ] || echo "failed:$broken"
echo "$passed passed, $failed failed, $skipped skipped"
[ $failed = 0 ] && [ $passed -gt 0 ]
