#!/bin/bash
# Runs every test: installs what is missing, checks format and lints, tests the core without
# nginx, then the module in the distribution's nginx and in an unpatched one.
#
#   scripts/test.sh
#
# Everything is run, also after a failure; the exit code is 0 only if nothing failed. In CI
# (variable CI) every warning of the linter is an error; elsewhere only the ones that Cargo.toml
# denies are, because each version of the linter has warnings of its own.

. "$(dirname "$0")/lib.sh"

LOGS=$ROOT/target/logs/test
SUMMARY=()
TEST_LOGS=()
FAILED=

main() {
    rm -rf "$LOGS"
    mkdir -p "$LOGS"
    step "install what is missing" install_everything
    step "install OpenBao, aioquic and the test vectors" need_python_tools || true
    if [ "$(. /etc/os-release && echo "$ID")" = debian ]; then
        step "unpack a newer Pebble" need_pebble_new || true
    else
        SUMMARY+=("skipped         tests with a newer Pebble: only Debian's mirrors have it")
    fi
    # What was found or installed counts in this shell too.
    need_rust
    need_nginx
    find_python_tools
    find_pebble_new

    step_if "cargo fmt" "format" cargo fmt --check
    step_if "cargo clippy" "lints of the core" lint --all-targets
    step_if shellcheck "lints of the scripts" shellcheck scripts/*.sh nginx-conf/*.sh .ci/run \
        nginx-conf/docker/healthy tests/demo/demo-pki tests/demo/demo-pebble
    step_if "cargo deny" "licences and sources" cargo deny check licenses bans sources
    has_http3 "$NGINX_BIN" ||
        SUMMARY+=("skipped         HTTP/3 with nginx $(nginx_version "$NGINX_BIN"): it has none")
    [ -n "${CERT_AUTOFETCH_CURL_HTTP3:-}" ] ||
        SUMMARY+=("skipped         HTTP/3 by curl with these two nginx: \"nginx of each Debian\" has one")
    tests "tests of the core" cargo test --locked --no-fail-fast

    test_the_module
    step "containers" scripts/docker-test.sh || true
    step "nginx of each Debian" of_the_distribution scripts/matrix.sh || true
    finish
}

# With both nginx side by side: the tests wait most of the time.
test_the_module() {
    local nginx=$NGINX_BIN source module
    if step "build for the distribution's nginx" scripts/build.sh; then
        module=$LAST_LINE
        source=${NGINX_SOURCE_DIR:-$ROOT/target/nginx-$(nginx_version "$nginx")}
        adapter_lints "$source" "${NGINX_BUILD_DIR:-$source/objs}"
    fi
    if step "build the unpatched nginx" scripts/nginx-unpatched.sh && read_paths &&
        step "build for the unpatched nginx" scripts/build.sh --module; then
        aside "tests with the unpatched nginx" with_nginx "$NGINX_BIN" "$NGINX_SOURCE_DIR" "$LAST_LINE"
    fi
    [ -z "${module:-}" ] ||
        tests "tests with the distribution's nginx" with_nginx "$nginx" "$source" "$module"
    await_aside
}

install_everything() {
    need_nginx
    need_module
    need_programs
    need_peers
    need_rust_linters
    install shellcheck=shellcheck dpkg=libnginx-mod-stream
}

lint() {
    # shellcheck disable=SC2086 # two words or none
    cargo clippy --locked "$@" -- ${CI:+-D warnings}
}

# adapter_lints SOURCE BUILD: of the library alone, since in a test binary nothing reaches the adapter.
adapter_lints() {
    local -x NGINX_SOURCE_DIR=$1 NGINX_BUILD_DIR=$2
    step_if "cargo clippy" "lints of the adapter" lint --lib --features export-modules
}

# What build.sh is told by the last lines of nginx-unpatched.sh.
read_paths() {
    local line
    while read -r line; do
        [[ $line == NGINX_* ]] && export "${line?}"
    done < <(tail -n 3 "$LOG")
}

# with_nginx NGINX SOURCE MODULE: the tests that say `#[ignore = "needs ...: scripts/test.sh"]`.
with_nginx() {
    # shellcheck disable=SC2046 # words
    NGINX_BIN=$1 NGINX_SOURCE_DIR=$2 CERT_AUTOFETCH_MODULE=$3 \
        cargo test --locked --no-fail-fast -- --ignored $(what_to_skip "$1")
}

# of_the_distribution COMMAND...: without what this script has found out about one nginx.
of_the_distribution() {
    env -u NGINX_BIN -u NGINX_SOURCE_DIR -u NGINX_BUILD_DIR "$@"
}

# tests NAME COMMAND...: a step whose test results are added up at the end.
tests() {
    step "$@" || true
    TEST_LOGS+=("$LOG")
}

# step_if TOOL NAME COMMAND...: a step that needs a tool which not every machine can have.
step_if() {
    # shellcheck disable=SC2086 # cargo and its subcommand
    if $1 --version >/dev/null 2>&1; then
        shift
        step "$@" || true
    else
        SUMMARY+=("skipped         $2: ${1/ /-} is not installed")
    fi
}

# step NAME COMMAND...: runs it with its output shown and kept in LOG; sets LAST_LINE. A script
# that can't run here ends with 77 and says why in its last line.
step() {
    local name=$1 start=$SECONDS result=0
    shift
    LOG=$LOGS/${name// /-}.log
    printf '\n=== %s\n' "$name"
    "$@" </dev/null 2>&1 | tee "$LOG" || result=${PIPESTATUS[0]}
    note "$name" $((SECONDS - start)) "$result"
}

# aside NAME COMMAND...: begins a step of tests that await_aside ends.
ASIDE=
aside() {
    ASIDE_NAME=$1
    ASIDE_START=$SECONDS
    shift
    # A group of its own: what it started ends with it.
    set -m
    "$@" </dev/null >"$LOGS/${ASIDE_NAME// /-}.log" 2>&1 &
    ASIDE=$!
    set +m
    at_exit end_aside
}

end_aside() {
    [ -z "$ASIDE" ] || kill -TERM -- "-$ASIDE" 2>/dev/null || true
}

await_aside() {
    local result=0
    [ -n "$ASIDE" ] || return 0
    wait "$ASIDE" || result=$?
    ASIDE=
    LOG=$LOGS/${ASIDE_NAME// /-}.log
    printf '\n=== %s\n' "$ASIDE_NAME"
    cat "$LOG"
    note "$ASIDE_NAME" $((SECONDS - ASIDE_START)) "$result" || true
    TEST_LOGS+=("$LOG")
}

# note NAME SECONDS RESULT: of a step that has ended, for the end.
note() {
    LAST_LINE=$(tail -n 1 "$LOG")
    if [ "$3" -eq 0 ]; then
        SUMMARY+=("$(printf 'ok      %4d s  %s' "$2" "$1")")
    elif [ "$3" -eq 77 ]; then
        SUMMARY+=("skipped         $1: ${LAST_LINE#*skipped: }")
    else
        SUMMARY+=("$(printf 'FAILED  %4d s  %s (exit code %d)' "$2" "$1" "$3")")
        FAILED=yes
    fi
    return "$3"
}

finish() {
    local log passed=0 failed=0 line
    printf '\n=== steps, %d s\n' "$SECONDS"
    printf '%s\n' "${SUMMARY[@]}"
    for log in "${TEST_LOGS[@]}"; do
        printf '\n=== %s\n' "$(basename "$log" .log | tr - ' ')"
        while read -r line; do
            [[ $line =~ ([0-9]+)\ passed\;\ ([0-9]+)\ failed ]] || continue
            [ "${BASH_REMATCH[1]}${BASH_REMATCH[2]}" != 00 ] || continue
            passed=$((passed + BASH_REMATCH[1]))
            failed=$((failed + BASH_REMATCH[2]))
            printf '%s\n' "$line"
        done < <(grep '^test result: ' "$log")
    done
    printf '\n%d passed, %d failed\n' "$passed" "$failed"
    [ -z "$FAILED" ] && [ "$failed" -eq 0 ] && [ "$passed" -gt 0 ] || exit 1
}

main
