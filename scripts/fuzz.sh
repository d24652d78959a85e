#!/bin/bash
# Runs the fuzz targets, one after the other, and prints a line for each: installs what is missing.
#
#   scripts/fuzz.sh [SECONDS] [TARGET...]    each for SECONDS (600), all of them (see fuzz/)
#   scripts/fuzz.sh --keep [TARGET...]       adds to fuzz/corpus a few that reached new code
#
# It starts from fuzz/corpus and what earlier runs left in target/fuzz/corpus; findings are in
# target/fuzz/artifacts. The exit code is 1 if there is one. Any Rust that builds the product
# will do: RUSTC_BOOTSTRAP allows a stable one what cargo-fuzz needs.

. "$(dirname "$0")/lib.sh"

FUZZ=$ROOT/target/fuzz
export CARGO_TARGET_DIR=$FUZZ RUSTC_BOOTSTRAP=1
# A leak is a finding, an input that takes longer or needs more too.
LIMITS=(-timeout=10 -rss_limit_mb=1024)
# Inputs a target that --keep adds: the repository is not the place for thousands.
KEPT=12

main() {
    local mode=run seconds=600 target found=0
    if [ "${1:-}" = --keep ]; then
        mode=keep
        shift
    elif [[ ${1:-} =~ ^[0-9]+$ ]]; then
        seconds=$1
        shift
    fi
    install_everything
    read_targets "$@"
    quietly "$FUZZ/logs/build.log" cargo fuzz build --sanitizer "$SANITIZER"

    # The keystore that one of them reads and writes.
    TMPDIR=$(mktemp -d -p "$(scratch)")
    export TMPDIR
    at_exit rm -rf "$TMPDIR"
    for target in "${TARGETS[@]}"; do
        mkdir -p "$FUZZ/corpus/$target" "$FUZZ/artifacts/$target"
        if [ $mode = keep ]; then
            keep "$target"
        else
            fuzz "$target" "$seconds" || found=1
        fi
    done
    return $found
}

install_everything() {
    need_core
    install g++=g++
    cargo fuzz --version >/dev/null 2>&1 || {
        say "installing: cargo-fuzz"
        quietly "$FUZZ/logs/install.log" cargo install --locked cargo-fuzz
    }
    # Distributions leave the sanitizers out.
    SANITIZER=none
    [ ! -e "$(rustc --print target-libdir)/librustc-stable_rt.asan.a" ] || SANITIZER=address
}

# read_targets NAME...: those, or all.
read_targets() {
    local known
    mapfile -t known < <(cargo fuzz list)
    TARGETS=("${known[@]}")
    [ $# -eq 0 ] || TARGETS=("$@")
    for target in "${TARGETS[@]}"; do
        [[ " ${known[*]} " == *" $target "* ]] ||
            die "no target \"$target\"; there are: ${known[*]}"
    done
}

# Where fsync() costs nothing.
scratch() {
    if [ -w /dev/shm ]; then echo /dev/shm; else echo "${TMPDIR:-/tmp}"; fi
}

# fuzz TARGET SECONDS
fuzz() {
    local start=$SECONDS log=$FUZZ/logs/$1.log artifacts=$FUZZ/artifacts/$1 mark=$TMPDIR/mark
    local result=0 verdict="no finding"
    : >"$mark"
    libfuzzer "$1" "${LIMITS[@]}" -max_total_time="$2" -print_final_stats=1 \
        -artifact_prefix="$artifacts/" "$FUZZ/corpus/$1" "fuzz/corpus/$1" >"$log" 2>&1 || result=$?
    if [ $result -ne 0 ]; then
        verdict="FINDING $(find "$artifacts" -type f -newer "$mark" | tail -n 1), see $log"
    fi
    printf '%-14s %10s runs %5d s %6s edges  %s\n' "$1" \
        "$(last 'stat::number_of_executed_units: *' "$log")" $((SECONDS - start)) \
        "$(last 'cov: ' "$log")" "$verdict"
    return $result
}

# keep TARGET: the few that reach most beyond the corpus.
keep() {
    local best=$TMPDIR/$1 mark=$TMPDIR/mark
    mkdir "$best"
    cp "fuzz/corpus/$1"/* "$best"
    : >"$mark"
    quietly "$FUZZ/logs/$1-keep.log" libfuzzer "$1" -merge=1 -set_cover_merge=1 -use_counters=0 \
        "$best" "$FUZZ/corpus/$1"
    # libFuzzer writes first what adds most.
    find "$best" -type f -newer "$mark" -printf '%T@ %p\n' | sort -n | head -n "$KEPT" |
        cut -d ' ' -f 2- | xargs -r cp -t "fuzz/corpus/$1"
    printf '%-14s %4d files\n' "$1" "$(find "fuzz/corpus/$1" -type f | wc -l)"
}

# libfuzzer TARGET ARG...: without the terminal, which nothing may ask for a password.
libfuzzer() {
    local target=$1
    shift
    "$FUZZ/$(rustc -vV | sed -n 's/^host: //p')/release/$target" "$@" </dev/null
}

# last TEXT LOG: the number that stands behind it, the last time.
last() {
    sed -n "s/.*$1\([0-9]*\).*/\1/p" "$2" | tail -n 1
}

main "$@"
