#!/bin/bash
# Shows the main job, live: nginx with the module, a CA and an OCSP responder on loopback; a
# certificate is served, revoked, and replaced during the next handshake.
#
#   scripts/demo.sh
#   NGINX_BIN=/opt/nginx/sbin/nginx NGINX_SOURCE_DIR=/usr/src/nginx-1.28.3 scripts/demo.sh
#
# Installs what is missing, builds, and leaves nothing behind but target/. The exit code is 0 only
# if everything happened that it tells.

. "$(dirname "$0")/lib.sh"

main() {
    need_nginx
    need_core
    install openssl=openssl curl=curl pebble=pebble pebble-challtestsrv=pebble
    local module
    module=$(scripts/build.sh)
    say "building the demo"
    cargo build --locked --example demo 1>&2
    # What is interrupted leaves nothing either.
    TMPDIR=$(mktemp -d "${TMPDIR:-/tmp}/cert-autofetch-demo.XXXXXX")
    export TMPDIR
    at_exit rm -rf "$TMPDIR"
    CERT_AUTOFETCH_MODULE=${module##*$'\n'} target/debug/examples/demo
}

main
