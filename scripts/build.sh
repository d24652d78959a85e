#!/bin/bash
# Builds the module for one nginx, and the command beside it.
#
#   scripts/build.sh
#   scripts/build.sh --module     (without the command)
#   NGINX_BIN=/opt/nginx/sbin/nginx NGINX_SOURCE_DIR=/usr/src/nginx-1.28.3 scripts/build.sh
#
#   NGINX_BIN          the nginx that is to load the module (default: nginx in PATH)
#   NGINX_SOURCE_DIR   its sources, configured as it was (default: Debian's nginx-dev)
#   NGINX_BUILD_DIR    where configure wrote to (default: objs in the sources)
#
# The last line of the output is the absolute path of the .so; the command is
# target/release/cert-autofetch.

. "$(dirname "$0")/lib.sh"

MODULE=ngx_http_ssl_cert_autofetch_module.so

main() {
    [ $# -eq 0 ] || [ "$*" = --module ] || die "unknown: $* (the file says what there is)"
    need_nginx
    need_module
    local version signature
    version=$(nginx_version "$NGINX_BIN")
    signature=$(nginx_signature "$NGINX_BIN")
    check_openssl
    find_tree "$version" "$signature"
    check_tree "$version" "$signature"
    [ "${1:-}" = --module ] || build_command
    build_module "$version-$(tree_hash)"
}

# One libssl in the process, the system's: with a second copy in nginx, pointers of one would go
# to the other.
check_openssl() {
    local libraries
    libraries=$(ldd "$NGINX_BIN" 2>/dev/null) || return 0
    [[ $libraries == *libssl.so* ]] ||
        die "$NGINX_BIN has its own OpenSSL built in (or none); the module needs an nginx that" \
            "uses the shared libssl of the system"
}

# find_tree VERSION SIGNATURE: sets SOURCE and BUILD.
find_tree() {
    if [ -n "${NGINX_SOURCE_DIR:-}" ]; then
        SOURCE=$NGINX_SOURCE_DIR
        BUILD=${NGINX_BUILD_DIR:-$SOURCE/objs}
    elif [ -n "${NGINX_BUILD_DIR:-}" ]; then
        BUILD=$NGINX_BUILD_DIR
        SOURCE=$(dirname "$BUILD")
    else
        configure_distribution "$1" "$2"
    fi
    [ -f "$SOURCE/src/core/nginx.h" ] || die "no sources of nginx in NGINX_SOURCE_DIR=$SOURCE"
    if [ ! -f "$BUILD/ngx_auto_config.h" ] || [ ! -f "$BUILD/Makefile" ]; then
        die "NGINX_BUILD_DIR=$BUILD is not configured: run ./configure in the sources first," \
            "with the arguments that '$NGINX_BIN -V' shows"
    fi
    SOURCE=$(readlink -f "$SOURCE")
    BUILD=$(readlink -f "$BUILD")
}

# nginx-dev carries headers, configure and the flags of the distribution's nginx.
configure_distribution() {
    local headers=/usr/share/nginx/src key
    if [ ! -f "$headers/conf_flags" ]; then
        has_candidate nginx-dev ||
            die "this distribution has no nginx-dev: name the configured sources of $NGINX_BIN" \
                "by NGINX_SOURCE_DIR"
        install dpkg=nginx-dev
    fi
    [ "$(tree_version "$headers")" = "$1" ] ||
        die "$NGINX_BIN is nginx $1, but the distribution's nginx-dev is for" \
            "$(tree_version "$headers"): name the configured sources of that nginx by" \
            "NGINX_SOURCE_DIR, or upgrade both packages"
    SOURCE=$ROOT/target/nginx-$1
    BUILD=$SOURCE/objs
    key="$2 $(find "$headers/" -type f -exec sha256sum {} + | sort | sha256sum)"
    if [ -f "$BUILD/Makefile" ] && [ "$(cat "$SOURCE/.configured" 2>/dev/null)" = "$key" ]; then
        return
    fi
    say "configuring the headers of nginx $1"
    rm -rf "$SOURCE"
    mkdir -p "$(dirname "$SOURCE")"
    cp -r "$headers" "$SOURCE"
    quietly "$ROOT/target/logs/configure-$1.log" configure_as_packaged
    printf '%s\n' "$key" >"$SOURCE/.configured"
}

# conf_flags has no stream, which the distribution makes a module of its own: without it there
# would be no bindings for it.
configure_as_packaged() {
    cd "$SOURCE" || return
    local NGX_CONF_FLAGS=()
    # shellcheck source=/dev/null
    . ./conf_flags
    ./configure "${NGX_CONF_FLAGS[@]}" \
        --with-stream=dynamic --with-stream_ssl_module \
        --with-mail=dynamic --with-mail_ssl_module \
        --with-cc-opt="-g -O2 -fPIC"
}

# check_tree VERSION SIGNATURE: says what nginx would refuse at its start.
check_tree() {
    local version signature
    version=$(tree_version "$SOURCE")
    [ "$version" = "$1" ] ||
        die "$NGINX_BIN is nginx $1, but $SOURCE is nginx $version: nginx would refuse the" \
            "module as 'version ... instead of ...'"
    signature=$(tree_signature "$SOURCE" "$BUILD")
    [ "$signature" = "$2" ] ||
        die "$NGINX_BIN and $SOURCE are configured differently, nginx would refuse the module" \
            "as 'not binary compatible'. Signature of nginx: $2, of the sources: $signature" \
            "($(differing_bits "$2" "$signature")). Configure the sources with what" \
            "'$NGINX_BIN -V' shows, and have the same libraries (libpcre2-dev for one)"
}

# differing_bits A B: the options that the differing digits stand for.
differing_bits() {
    [ "${1%,*}" = "${2%,*}" ] || {
        printf 'other sizes of basic types'
        return
    }
    local a=${1##*,} b=${2##*,} i names=
    [ ${#a} -eq ${#b} ] || {
        printf 'different sets of options'
        return
    }
    for ((i = 0; i < ${#a}; i++)); do
        [ "${a:i:1}" = "${b:i:1}" ] || names+=" $(bit_name "$i")=${a:i:1}/${b:i:1}"
    done
    printf 'nginx/sources:%s' "$names"
}

# bit_name N: the line before `#define NGX_MODULE_SIGNATURE_N "1"` is its condition.
bit_name() {
    local name
    name=$(grep -E -B 1 "define NGX_MODULE_SIGNATURE_$(($1 + 1)) +\"1\"" \
        "$SOURCE/src/core/ngx_module.h" | sed -n 's/^#if *//p')
    printf '%s' "${name:-digit $(($1 + 1))}"
}

# Names one nginx among those of the same version: headers and options.
tree_hash() {
    {
        cat "$BUILD/ngx_auto_config.h" "$BUILD/ngx_auto_headers.h"
        find "$SOURCE/src" -name '*.h' -print0 | sort -z | xargs -0 cat
    } | sha256sum | cut -c 1-8
}

# build_module ID
build_module() {
    local out=$ROOT/target/nginx-modules/$1
    say "building the module for nginx $1"
    # A target directory for each nginx: the bindings of one must not be used for another.
    CARGO_TARGET_DIR=$ROOT/target/module-$1 NGINX_SOURCE_DIR=$SOURCE NGINX_BUILD_DIR=$BUILD \
        cargo rustc --locked --release --lib --crate-type cdylib \
        --no-default-features --features export-modules 1>&2
    mkdir -p "$out"
    # A new file: a running nginx keeps the old one mapped.
    cp "$ROOT/target/module-$1/release/libcert_autofetch.so" "$out/$MODULE.new"
    mv "$out/$MODULE.new" "$out/$MODULE"
    printf '%s\n' "$out/$MODULE"
}

build_command() {
    local package
    package=$(cargo read-manifest)
    if [[ $package == *'"kind":["bin"]'* ]]; then
        say "building the command"
        cargo build --locked --release --bins 1>&2
    fi
}

main "$@"
