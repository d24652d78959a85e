#!/bin/bash
# Prints the performance table: what the module costs where it has nothing to do.
#
#   scripts/bench.sh            both sides, then the timings of tests/bench/held.rs
#   scripts/bench.sh static     nginx without the module only
#
#   NGINX_BIN                   as for build.sh
#   BENCH_KEYS                  default: "ecdsa:256 rsa:2048"
#   BENCH_RUNS                  default: 2, the smaller counts
#
# Instructions, not seconds: they are the same whatever else the machine does. Counted is the
# worker alone; a run of 400 handshakes less one of 100, divided by 300, leaves out start and end.
# Both sides have the same certificate: the one in the keystore is the static file of the other.

. "$(dirname "$0")/lib.sh"

NAME=bench.example
FEW=100
MANY=400
KEYS=${BENCH_KEYS:-ecdsa:256 rsa:2048}
RUNS=${BENCH_RUNS:-2}

main() {
    case $* in
        '' | static) ;;
        *) die "usage: scripts/bench.sh [static]" ;;
    esac
    need_nginx
    need_core
    need_programs
    cargo build --locked --release --example handshakes 1>&2
    CLIENT=$ROOT/target/release/examples/handshakes
    MODULE=
    if [ "${1:-}" != static ]; then
        MODULE=$(scripts/build.sh)
        MODULE=${MODULE##*$'\n'}
    fi
    DIR=$(mktemp -d "${TMPDIR:-/tmp}/cert-autofetch-bench.XXXXXX")
    at_exit rm -rf "$DIR"

    print_instructions
    if [ -n "$MODULE" ]; then
        printf '\n'
        CERT_AUTOFETCH_MODULE=$MODULE cargo run --quiet --locked --release --example bench
    fi
}

print_instructions() {
    local key static module
    printf 'Instructions of the worker per full TLS 1.3 handshake (callgrind, nginx %s, %s)\n' \
        "$(nginx_version "$NGINX_BIN")" "$(linked_openssl)"
    printf '%-12s %14s %14s %12s\n' key 'static files' module difference
    for key in $KEYS; do
        make_keystore "$key"
        static=$(per_handshake static "$key")
        if [ -n "$MODULE" ]; then
            module=$(per_handshake module "$key")
            printf '%-12s %14s %14s %12s\n' "$key" "$(grouped "$static")" "$(grouped "$module")" \
                "$(difference "$static" "$module")"
        else
            printf '%-12s %14s\n' "$key" "$(grouped "$static")"
        fi
    done
}

linked_openssl() {
    local all
    all=$("$NGINX_BIN" -V 2>&1)
    [[ $all =~ (running|built)\ with\ (OpenSSL\ [0-9.]+) ]] || die "no OpenSSL in $NGINX_BIN -V"
    printf '%s' "${BASH_REMATCH[2]}"
}

# ----------------------------------------------------------------------------- certificates

# A keystore as the module leaves it, whose one certificate is valid for a year and names no
# OCSP responder and no CRL: nothing is due and nothing can be asked.
make_keystore() {
    local entry=$DIR/keystore/certs/$NAME
    rm -rf "$DIR/keystore" "$DIR/pki"
    mkdir -p "$DIR/pki" "$entry/versions/1"
    certificate root "$1" '' basicConstraints=critical,CA:TRUE keyUsage=critical,keyCertSign
    certificate ca "$1" root basicConstraints=critical,CA:TRUE,pathlen:0 \
        keyUsage=critical,keyCertSign
    certificate leaf "$1" ca "subjectAltName=DNS:$NAME" extendedKeyUsage=serverAuth \
        keyUsage=critical,digitalSignature
    cat "$DIR/pki/leaf.pem" "$DIR/pki/ca.pem" >"$entry/versions/1/fullchain.pem"
    cp "$DIR/pki/leaf.key" "$entry/versions/1/privkey.pem"
    printf '{"ca":null}\n' >"$entry/versions/1/meta.json"
    ln -s versions/1 "$entry/current"
    chmod -R u=rwX,go= "$DIR/keystore"
}

# certificate FILE KEY ISSUER EXTENSION...: self-signed without an issuer.
certificate() {
    local file=$DIR/pki/$1 key=$2 issuer=$DIR/pki/$3 by=()
    [ -n "$3" ] && by=(-CA "$issuer.pem" -CAkey "$issuer.key") || by=(-signkey "$file.key")
    shift 3
    printf '%s\n' subjectKeyIdentifier=hash authorityKeyIdentifier=keyid "$@" >"$file.ext"
    case $key in
        ecdsa:256) openssl ecparam -name prime256v1 -genkey -noout ;;
        ecdsa:384) openssl ecparam -name secp384r1 -genkey -noout ;;
        rsa:*) openssl genrsa "${key#rsa:}" ;;
        *) die "BENCH_KEYS: unknown key $key" ;;
    esac 2>/dev/null | openssl pkcs8 -topk8 -nocrypt -out "$file.key"
    openssl req -new -key "$file.key" -subj "/CN=bench ${file##*/}" -out "$file.csr"
    openssl x509 -req -in "$file.csr" -days 365 -set_serial "0x$(openssl rand -hex 16)" \
        "${by[@]}" -extfile "$file.ext" -out "$file.pem" 2>/dev/null
}

# ----------------------------------------------------------------------------- measuring

# per_handshake SIDE KEY
per_handshake() {
    local run few many least_few='' least_many=''
    for ((run = 1; run <= RUNS; run++)); do
        say "$2, $1, run $run of $RUNS"
        few=$(instructions "$1" "$2" "$FEW")
        many=$(instructions "$1" "$2" "$MANY")
        [ -n "$least_few" ] && [ "$least_few" -le "$few" ] || least_few=$few
        [ -n "$least_many" ] && [ "$least_many" -le "$many" ] || least_many=$many
    done
    printf '%s\n' $(((least_many - least_few) / (MANY - FEW)))
}

# instructions SIDE KEY COUNT: of the worker, in a run with COUNT handshakes. In a subshell, which
# ends its nginx.
instructions() {
    (
        local prefix port master worker
        prefix=$DIR/nginx
        port=$(free_port)
        rm -rf "$prefix"
        mkdir -p "$prefix"
        config "$1" "$2" "$port" "$prefix" >"$prefix/nginx.conf"
        # One environment for both sides: its size moves the stack.
        env -i PATH="$PATH" valgrind --tool=callgrind --trace-children=yes \
            --callgrind-out-file="$prefix/callgrind.%p" --log-file="$prefix/valgrind.%p" \
            "$NGINX_BIN" -p "$prefix" -e "$prefix/error.log" -c "$prefix/nginx.conf" \
            >"$prefix/output.log" 2>&1 &
        master=$!
        at_exit stop "$master"
        worker=$(worker_of "$master") || show_and_die "$prefix" "nginx has not started"
        "$CLIENT" "$port" "$NAME" "$DIR/pki/root.pem" "$3" ||
            show_and_die "$prefix" "a handshake failed ($1, $2)"
        stop "$master"
        sed -n 's/^totals: *//p' "$prefix/callgrind.$worker" | grep . ||
            show_and_die "$prefix" "callgrind wrote no total"
    )
}

config() {
    local side=$1 key=$2 port=$3 prefix=$4
    [ "$side" = static ] || printf 'load_module %s;\n' "$MODULE"
    cat <<EOF
daemon off;
master_process on;
user root;
worker_processes 1;
pid $prefix/nginx.pid;
error_log $prefix/error.log notice;
events {
    worker_connections 512;
}
http {
    access_log off;
    client_body_temp_path $prefix/client;
    proxy_temp_path $prefix/proxy;
    fastcgi_temp_path $prefix/fastcgi;
    uwsgi_temp_path $prefix/uwsgi;
    scgi_temp_path $prefix/scgi;
    ssl_protocols TLSv1.2 TLSv1.3;
    ssl_session_cache off;
    ssl_session_tickets off;
EOF
    if [ "$side" = module ]; then
        cat <<EOF
    ssl_cert_autofetch_keystore $DIR/keystore;
    ssl_cert_autofetch_ca nobody {
        url https://127.0.0.1:9/directory;
        trusted_certificate $DIR/pki/root.pem;
        accept_terms_of_service;
    }
EOF
    fi
    printf '    server {\n        listen 127.0.0.1:%s ssl;\n        server_name %s;\n' "$port" "$NAME"
    if [ "$side" = module ]; then
        printf '        ssl_cert_autofetch nobody;\n        ssl_cert_autofetch_key %s;\n' "$key"
    else
        local files=$DIR/keystore/certs/$NAME/current
        printf '        ssl_certificate %s;\n' "$files/fullchain.pem"
        printf '        ssl_certificate_key %s;\n' "$files/privkey.pem"
    fi
    printf '        return 204;\n    }\n}\n'
}

free_port() {
    local port
    while :; do
        port=$((20000 + RANDOM % 10000))
        (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || break
    done
    printf '%s\n' "$port"
}

# The listening socket is there before the worker is: a client may come at once.
worker_of() {
    local deadline=$((SECONDS + 60)) worker
    while [ $SECONDS -lt $deadline ] && kill -0 "$1" 2>/dev/null; do
        read -r worker _ <"/proc/$1/task/$1/children" || true
        [ -z "${worker:-}" ] || {
            printf '%s\n' "$worker"
            return
        }
        sleep 0.1
    done 2>/dev/null
    return 1
}

# stop MASTER: by and by, so that callgrind writes its files; by force after a minute.
stop() {
    local deadline=$((SECONDS + 60)) worker
    kill -0 "$1" 2>/dev/null || return 0
    worker=$(worker_of "$1" || true)
    kill -QUIT "$1"
    while kill -0 "$1" 2>/dev/null && [ $SECONDS -lt $deadline ]; do
        sleep 0.1
    done
    # shellcheck disable=SC2086 # none, if it never started
    kill -KILL "$1" ${worker:-} 2>/dev/null || true
    wait "$1" 2>/dev/null || true
}

show_and_die() {
    tail -n 20 "$1/output.log" "$1/error.log" >&2 || true
    shift
    die "$@"
}

# ----------------------------------------------------------------------------- printing

grouped() {
    printf '%s\n' "$1" | sed -E ':a; s/([0-9])([0-9]{3})($|,)/\1,\2\3/; ta'
}

difference() {
    awk -v a="$1" -v b="$2" 'BEGIN { printf "%+.2f %%\n", (b - a) * 100 / a }'
}

main "$@"
