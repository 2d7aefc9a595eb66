#!/bin/bash
# Compiles each public header alone: as C17 with $CC and as C++17 with $CXX (g++), without which
# that half is skipped.  Included twice, with warnings as errors, and with nothing but include/ in
# the path: a header may need no other to be included first.
#
#   scripts/check_headers.sh
#
# The last lines are counts as cmocka prints them, for scripts/check.sh.
set -u
cd "$(dirname "$0")/.." || exit 1
cc=${CC:-cc} cxx=${CXX:-g++}
passed=0 failed=0 skipped=0

compile() { # HEADER COMPILER LANGUAGE STANDARD
    local include="#include \"siren/$1\""
    # Unquoted: a compiler may come with options ("ccache gcc").
    if printf '%s\n%s\n' "$include" "$include" |
        $2 -x "$3" -std="$4" -Wall -Wextra -Wpedantic -Werror -Iinclude -fsyntax-only -; then
        passed=$((passed + 1))
    else
        echo "[  FAILED  ] include/siren/$1 as $4"
        failed=$((failed + 1))
    fi
}

have_cxx=1
command -v ${cxx%% *} >/dev/null || have_cxx=0
for header in include/siren/*.h; do
    name=${header##*/}
    compile "$name" "$cc" c c17
    if ! grep -q '^extern "C" {$' "$header"; then
        echo "[  FAILED  ] $header has no extern \"C\""
        failed=$((failed + 1))
    elif [ $have_cxx = 1 ]; then
        compile "$name" "$cxx" c++ c++17
    else
        skipped=$((skipped + 1))
    fi
done
echo "[  PASSED  ] $passed test(s)."
[ $skipped = 0 ] || echo "[  SKIPPED ] $skipped test(s): no C++ compiler ($cxx)"
[ $failed = 0 ] || echo "[  FAILED  ] $failed test(s)"
[ $failed = 0 ]
