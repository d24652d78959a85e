#!/bin/bash
# Builds an nginx as its authors release it.
#
# Debian's nginx carries a patch that makes a handshake wait for a certificate callback; the
# module must not need it, so the tests run on this nginx too. The sources come from the Rust
# package registry (nginx-src), the libraries are the system's.
#
# The last three lines of the output, for build.sh:
#   NGINX_BIN=/.../sbin/nginx
#   NGINX_SOURCE_DIR=/.../source
#   NGINX_BUILD_DIR=/.../source/objs

. "$(dirname "$0")/lib.sh"

# nginx 1.28.3
CRATE_VERSION=1.28.5

WORK=$ROOT/target/nginx-unpatched

main() {
    need_module
    local options=(
        --with-compat --with-threads --with-pcre-jit
        --with-http_ssl_module --with-http_v2_module --with-http_v3_module
        --with-http_realip_module --with-http_stub_status_module
        --with-stream --with-stream_ssl_module --with-stream_ssl_preread_module
        --with-cc-opt='-g -O2 -fPIC'
    )
    local libssl key
    libssl=$(pkg-config --modversion openssl)
    key="$CRATE_VERSION $libssl $WORK ${options[*]}"
    if [ ! -x "$WORK/sbin/nginx" ] || [ "$(cat "$WORK/.built" 2>/dev/null)" != "$key" ]; then
        rm -rf "$WORK"
        mkdir -p "$WORK"
        copy_source
        check_source
        say "building nginx $(tree_version "$WORK/source")"
        quietly "$ROOT/target/logs/nginx-unpatched.log" build "${options[@]}"
        printf '%s\n' "$key" >"$WORK/.built"
    fi
    printf 'NGINX_BIN=%s\nNGINX_SOURCE_DIR=%s\nNGINX_BUILD_DIR=%s\n' \
        "$WORK/sbin/nginx" "$WORK/source" "$WORK/source/objs"
}

# Cargo fetches the package for a manifest that does nothing else.
copy_source() {
    mkdir -p "$WORK/fetch/src"
    : >"$WORK/fetch/src/lib.rs"
    cat >"$WORK/fetch/Cargo.toml" <<EOF
[package]
name = "fetch"
edition = "2021"
[dependencies]
nginx-src = "=$CRATE_VERSION"
[workspace]
EOF
    local packages manifest
    packages=$(cargo metadata --format-version 1 --manifest-path "$WORK/fetch/Cargo.toml") ||
        die "the package nginx-src $CRATE_VERSION can't be fetched"
    manifest=$(grep -oE '"manifest_path":"[^"]*/nginx-src-[^"/]*/Cargo.toml"' <<<"$packages")
    manifest=${manifest#*:\"}
    cp -r "${manifest%/Cargo.toml\"}/nginx" "$WORK/source"
    chmod -R u+w "$WORK/source"
}

# With the patch nginx handles SSL_ERROR_WANT_X509_LOOKUP; the released one does not know it.
check_source() {
    if grep -rq 'X509_LOOKUP' "$WORK/source/src"; then
        die "these sources carry the certificate callback patch"
    fi
}

build() {
    cd "$WORK/source" || return
    auto/configure --prefix="$WORK" "$@" && make -j "$(nproc)" && make install
}

main
