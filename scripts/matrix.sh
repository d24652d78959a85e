#!/bin/bash
# Builds the module for the nginx of each Debian and for an unpatched one, runs the main job with
# each, and prints the table that the README has.
#
#   scripts/matrix.sh
#   scripts/matrix.sh bookworm unpatched
#
# The nginx of another Debian than this one runs in a root made by debootstrap, on this machine's
# loopback; the module is built in there too, by that Debian's Rust. Roots stay in target/roots for
# the next run.
# The exit code is 0 only if every cell is "pass" or says why there is nothing to run, and 77
# (skipped) where there can be no roots.

. "$(dirname "$0")/lib.sh"
. "$ROOT/scripts/roots.sh"

ROOTS=$ROOT/target/roots
LOGS=$ROOT/target/logs/matrix
FAILED=

# Column, test binary, test (all of the binary if none).
CELLS=(
    'main job|main_job|'
    '100 held|handshake_limits|a_hundred_wait_for_one_answer'
    'reload while held|workers|a_reload_in_the_middle_holds_nobody_twice'
    'resumption after revocation|sessions|the_session_of_a_revoked_certificate_is_not_resumed'
    'HTTP/3|http3|'
)

main() {
    local version
    [ $# -gt 0 ] || set -- bookworm trixie sid unpatched
    for version in "$@"; do
        [[ $version =~ ^[a-z]+$ ]] || die "unknown: $version (the file says what there is)"
    done
    [ "$(id -u)" -eq 0 ] || skip "only root can make and enter roots"
    unshare --mount true 2>/dev/null || skip "nothing may be mounted here, so there can be no roots"
    # Mounts of a namespace of our own end with it, however we end.
    [ -n "${CERT_AUTOFETCH_MATRIX:-}" ] ||
        CERT_AUTOFETCH_MATRIX=1 exec unshare --mount --propagation private "$0" "$@"
    # Each is built for and run with its own.
    unset NGINX_BIN NGINX_SOURCE_DIR NGINX_BUILD_DIR
    need_core
    need_programs
    need_peers
    need_python_tools
    need_turn "$ROOTS"
    mkdir -p "$LOGS"
    print_head
    for version in "$@"; do
        if [ "$version" = unpatched ]; then
            unpatched
        else
            suite "$version"
        fi
    done
    [ -z "$FAILED" ] || die "failed: $FAILED"
}

# ----------------------------------------------------------------------------- versions

unpatched() {
    local lines line module
    lines=$(scripts/nginx-unpatched.sh)
    while read -r line; do
        [[ $line == NGINX_* ]] && local -x "${line?}"
    done <<<"$lines"
    module=$(scripts/build.sh --module)
    print_row "sources of its authors" "$NGINX_BIN" "${module##*$'\n'}" no
}

# suite NAME
suite() {
    local root=$ROOTS/$1 nginx curl module patched
    if is_of_this_machine "$1"; then
        root=/
        need_nginx
        need_module
    else
        need_root "$1" "$root"
        enter "$root"
    fi
    say "building in $1"
    module=$(within "$root" scripts/build.sh --module)
    nginx=$(program_of "$root" nginx)
    curl=$(program_of "$root" curl)
    # Debian 13's is the first with HTTP/3.
    local -x CERT_AUTOFETCH_CURL_HTTP3=$curl
    "$curl" --version | grep -q HTTP3 || unset CERT_AUTOFETCH_CURL_HTTP3
    patched=$(is_patched "$root")
    print_row "Debian $1" "$nginx" "${module##*$'\n'}" "$patched"
}

# is_of_this_machine SUITE: and its nginx can be used as it is.
is_of_this_machine() {
    [ "$(. /etc/os-release && echo "$ID ${VERSION_CODENAME:-}")" = "debian $1" ] &&
        (install dpkg=nginx dpkg=nginx-dev dpkg=libnginx-mod-http-lua)
}

# need_root SUITE FOLDER: with nginx, curl, and what scripts/build.sh needs.
need_root() {
    if [ ! -e "$2.ready" ]; then
        make_base "$1"
        rm -rf --one-file-system "$2"
        cp -a "$BASES/$1" "$2"
        enter "$2"
        printf '#!/bin/sh\nexit 101\n' >"$2/usr/sbin/policy-rc.d"
        chmod 755 "$2/usr/sbin/policy-rc.d"
        say "installing nginx of $1"
        quietly "$LOGS/$1-install.log" install_in "$2"
        : >"$2.ready"
    fi
}

install_in() {
    within "$1" apt-get update && within "$1" apt-get install -y --no-install-recommends \
        ca-certificates curl nginx nginx-dev libnginx-mod-http-lua
}

# program_of ROOT NAME: a program of this machine that is it.
program_of() {
    local script=$1.$2
    if [ "$1" = / ]; then
        command -v "$2"
    else
        printf '#!/bin/sh\nexec chroot %q %q "$@"\n' "$1" "$2" >"$script"
        chmod 755 "$script"
        printf '%s\n' "$script"
    fi
}

# is_patched ROOT: whether the distribution's nginx waits for a certificate callback that is not done
# yet. With the patch lua's may sleep, without it the connection is closed.
is_patched() {
    local dir answer
    dir=$(mktemp -d /tmp/cert-autofetch-matrix.XXXXXX)
    at_exit rm -rf "$dir"
    chmod 755 "$dir"
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=x \
        -addext subjectAltName=DNS:x.test -keyout "$dir/key" -out "$dir/pem" 2>/dev/null
    cat >"$dir/nginx.conf" <<END
pid $dir/pid;
error_log $dir/error.log;
load_module modules/ndk_http_module.so;
load_module modules/ngx_http_lua_module.so;
events {
}
http {
    access_log off;
    lua_package_path "/usr/share/lua/5.1/?.lua;;";
    server {
        listen unix:$dir/socket ssl;
        ssl_certificate $dir/pem;
        ssl_certificate_key $dir/key;
        ssl_certificate_by_lua_block { ngx.sleep(0.1) }
        return 200 yes;
    }
}
END
    at_exit stop_in "$1" "$dir/nginx.conf"
    within "$1" nginx -c "$dir/nginx.conf" 9>&- || die "nginx of $1 does not start with lua"
    answer=$(curl -s --cacert "$dir/pem" --unix-socket "$dir/socket" https://x.test/ || true)
    printf '%s\n' "${answer:-no}"
}

# stop_in ROOT CONFIGURATION
stop_in() {
    within "$1" nginx -c "$2" -s stop >/dev/null 2>&1 || true
}

# enter FOLDER: what a root shares with this machine, at the same paths.
enter() {
    local path
    for path in /proc /dev /tmp "$ROOT"; do
        mkdir -p "$1$path"
        mountpoint -q "$1$path" || mount --bind "$path" "$1$path"
    done
    cp /etc/resolv.conf /etc/hosts "$1/etc/"
}

# within ROOT COMMAND...: in the repository, with an environment of its own. / is this machine.
within() {
    local root=$1
    shift
    if [ "$root" = / ]; then
        "$@" </dev/null
        return
    fi
    # shellcheck disable=SC2016 # the variables of the inner shell
    env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root DEBIAN_FRONTEND=noninteractive \
        CARGO_HOME="$ROOTS/cargo" ${http_proxy:+http_proxy="$http_proxy"} \
        ${https_proxy:+https_proxy="$https_proxy"} ${no_proxy:+no_proxy="$no_proxy"} \
        chroot "$root" sh -c 'cd "$0" && exec "$@"' "$ROOT" "$@" </dev/null
}

# ----------------------------------------------------------------------------- the table

print_head() {
    local cell head='| nginx | from | OpenSSL | patched |' line='| --- | --- | --- | --- |'
    for cell in "${CELLS[@]}"; do
        head+=" ${cell%%|*} |"
        line+=' --- |'
    done
    printf '%s\n%s\n' "$head" "$line"
}

# print_row FROM NGINX MODULE PATCHED
print_row() {
    local version row cell column binary test
    version=$(nginx_version "$2")
    row="| $version | $1 | $(openssl_of "$2") | $4 |"
    for cell in "${CELLS[@]}"; do
        IFS='|' read -r column binary test <<<"$cell"
        if [ "$column" = HTTP/3 ] && ! has_http3 "$2"; then
            row+=' this nginx has none |'
            continue
        fi
        say "nginx $version: $column"
        if run_cell "$2" "$3" "$version" "$binary" "$test"; then
            row+=' pass |'
        else
            row+=' **fails** |'
            FAILED+="${FAILED:+, }nginx $version: $column"
        fi
    done
    printf '%s\n' "$row"
}

# run_cell NGINX MODULE VERSION BINARY TEST
run_cell() {
    local log=$LOGS/$3-$4.log
    # shellcheck disable=SC2046,SC2086 # one word or none, two or none
    NGINX_BIN=$1 CERT_AUTOFETCH_MODULE=$2 cargo test --locked --no-fail-fast --test "$4" -- \
        --ignored $5 $(what_to_skip "$1") >"$log" 2>&1 && grep -qE '^test result: ok. [1-9]' "$log" && return
    tail -n 40 "$log" >&2
    return 1
}

openssl_of() {
    local all
    all=$("$1" -V 2>&1)
    [[ $all =~ running\ with\ OpenSSL\ ([0-9.]+) ]] || [[ $all =~ built\ with\ OpenSSL\ ([0-9.]+) ]] ||
        die "no OpenSSL in $1 -V"
    printf '%s' "${BASH_REMATCH[1]}"
}

main "$@"
