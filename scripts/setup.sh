#!/bin/sh
# Installs what a task needs from Debian's packages.  Nothing happens when all of
# it is there.  As root or through sudo by apt-get; otherwise the missing
# packages are listed and the script ends with code 1.
#
#   scripts/setup.sh [--check] [build|fetch|fuzz|bench]...     (default: build)
#
# --check installs nothing: its exit code says whether all is there.
set -eu

missing=""

# need PACKAGE COMMAND...: the package is missing when the command fails.
need() {
    package=$1
    shift
    "$@" >/dev/null 2>&1 || missing="$missing $package"
}

module() {
    need "$1" pkg-config --exists "$2"
}

header() {
    need "$1" sh -c "echo '#include <$2>' | ${CC:-cc} -E -"
}

need_build() {
    need gcc command -v "${CC:-cc}"
    need make command -v make
    need libc6-dev sh -c "echo '#include <stdio.h>' | ${CC:-cc} -E -"
    need pkg-config command -v pkg-config
    module libsqlite3-dev sqlite3
    module zlib1g-dev zlib
    module libzstd-dev libzstd
    module libjansson-dev jansson
    module libpcre2-dev libpcre2-8
    module libutf8proc-dev libutf8proc
    module libcurl4-openssl-dev libcurl
    module libxxhash-dev libxxhash
    header liblbfgs-dev lbfgs.h
    module libcmocka-dev cmocka
}

need_fetch() {
    need python3-pip python3 -m pip --version
    need unzip command -v unzip
    need ca-certificates test -s /etc/ssl/certs/ca-certificates.crt
}

# libFuzzer is of the same version as the compiler that the Makefile takes (FUZZ_CC).
need_fuzz() {
    clang=${FUZZ_CC:-$(command -v clang || command -v clang-14 || echo clang)}
    version=$(echo __clang_major__ | $clang -E -P -x c - 2>/dev/null) || version=14 # Debian 12's
    need clang command -v "$clang"
    need "libclang-rt-$version-dev" sh -c "echo 'int LLVMFuzzerTestOneInput(const char *d, unsigned long n) \
        { return d && n == 77; }' | $clang -fsanitize=fuzzer,address -x c - -o /dev/null"
}

need_bench() {
    module libopenblas-dev openblas
    need python3-venv python3 -c "import ensurepip"
    need sqlite3 command -v sqlite3
    need g++ command -v g++
    need cmake command -v cmake
}

check_only=0
tasks=""
for word in "$@"; do
    case $word in
    --check) check_only=1 ;;
    build | fetch | fuzz | bench) tasks="$tasks $word" ;;
    *)
        echo "setup: unknown word \"$word\": expected --check, build, fetch, fuzz or bench" >&2
        exit 2
        ;;
    esac
done
for task in ${tasks:-build}; do "need_$task"; done
[ -n "$missing" ] || exit 0
if [ $check_only = 1 ]; then
    echo "setup: missing:$missing"
    exit 1
fi

as_root=""
if [ "$(id -u)" != 0 ]; then
    if ! command -v sudo >/dev/null; then as_root=none
    elif [ -t 0 ]; then as_root="sudo"
    elif sudo -n true 2>/dev/null; then as_root="sudo -n"
    else as_root=none
    fi
fi
if ! command -v apt-get >/dev/null || [ "$as_root" = none ]; then
    cat >&2 <<EOF
setup: these packages are missing (their names in Debian 12):
   $missing
Install them as root and start again:
    apt-get install$missing
EOF
    exit 1
fi
echo "setup: installing$missing"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
quietly() {
    # shellcheck disable=SC2086
    if ! $as_root env DEBIAN_FRONTEND=noninteractive "$@" >"$log" 2>&1; then
        cat "$log" >&2
        echo "setup: \"$*\" failed" >&2
        exit 1
    fi
}
quietly apt-get update -qq
# shellcheck disable=SC2086
quietly apt-get install -y -qq --no-install-recommends $missing
echo "setup: done"
