#!/bin/bash
# Runs the main job in containers: builds the images, starts nginx-conf/docker/compose.yaml, and
# revokes, reloads, stops, starts, takes the network away, and adds a second nginx.
#
#   scripts/docker-test.sh
#
#   BASE   the base image (default: debian:trixie-slim, made by debootstrap where it can't be pulled)
#
# It uses the docker daemon that answers. Where none does it starts one of its own, without network
# for containers, and ends it. The exit code is 77 (skipped) where there can be no daemon. Images
# stay in target/docker, the base in target/bases, for the next run.

. "$(dirname "$0")/lib.sh"
. "$ROOT/scripts/docker.sh"

COMPOSE_FILE=$ROOT/nginx-conf/docker/compose.yaml
# Not "latest": those may be in use here.
export TAG=test
IMAGE=cert-autofetch-nginx:$TAG
TOOLS=cert-autofetch-demo:$TAG
NAME=shop.example

main() {
    DIR=$(mktemp -d "${TMPDIR:-/tmp}/cert-autofetch-docker.XXXXXX")
    at_exit rm -rf "$DIR"
    need_turn "$KEPT"
    rm -rf "$LOGS"
    mkdir -p "$LOGS"
    need_daemon
    need_compose
    install openssl=openssl
    need_base
    step "image of nginx with the module" build_image "$IMAGE" nginx-conf/docker/Dockerfile
    step "image of CA, responder and story" build_image "$TOOLS" tests/demo/Dockerfile
    forget_old_images
    print_contents
    # A network of loopback alone: nothing here meets what else runs on this machine.
    export COMPOSE_FILE BASE DEMO_NETWORK=none
    export COMPOSE_PROJECT_NAME=cert-autofetch-test-$$
    at_exit take_down
    at_exit say_where

    step "one command shows the main job" newcomer
    step "revoked, replaced at the next handshake" replaced
    step "reload by HUP" reload
    step "stop, start without CA and responder" without_network
    step "two nginx on one keystore" two_on_one_keystore
    step "a CA that is down at the start" late_ca
    step "a keystore that can't be written" unwritable
    step "a keystore that is mounted read-only" read_only
    step "a read-only image, few capabilities, another user" hardened
    step "a module for another nginx" other_version
    say "ok: all steps, $SECONDS s"
}

# step NAME COMMAND...: not in a condition, where a failure in the middle would not count.
step() {
    local start=$SECONDS
    STEP=$1
    shift
    "$@"
    say "ok: $STEP, $((SECONDS - start)) s"
    STEP=
}

STEP=
WHERE=
set -E
trap 'WHERE="line $LINENO: $BASH_COMMAND"' ERR
say_where() {
    [ -z "$STEP" ] || say "${0##*/}: failed: $STEP ($WHERE); the logs are in $LOGS"
}

# ----------------------------------------------------------------------------- containers

print_contents() {
    local base all
    # shellcheck disable=SC2016 # the variables are dpkg-query's
    base=$(inside "$BASE" dpkg-query -W -f '${Package}\n')
    # shellcheck disable=SC2016 # here too
    all=$(inside "$IMAGE" dpkg-query -W -f '${Package}\n')
    say "$(docker images --format 'image {{.Repository}}: {{.Size}}' "$IMAGE")," \
        "base: $(docker images --format '{{.Size}}' "$BASE")," \
        "module: $(inside "$IMAGE" stat -c %s "$MODULE") bytes"
    say "packages beside those of the base:"
    # Names without a version: those of the base are whole lines then.
    grep -vxFf <(printf '%s\n' "$base") <<<"$all" | paste -sd ' ' | fold -sw 96 |
        sed 's/^/    /' >&2
    # Nothing that builds.
    ! grep -E '^(gcc|clang|llvm|cargo|rustc|make|[^ ]*-dev)$' <<<"$all" >&2 ||
        die "the image has parts of the build in it"
}

MODULE=/usr/lib/nginx/modules/ngx_http_ssl_cert_autofetch_module.so

compose() {
    "${COMPOSE[@]}" "$@" >>"$LOGS/compose.log" 2>&1 </dev/null
}

# container SERVICE: its id.
container() {
    docker ps -aq --filter "label=com.docker.compose.project=$COMPOSE_PROJECT_NAME" \
        --filter "label=com.docker.compose.service=$1" --filter label=com.docker.compose.oneoff=False
}

# inside IMAGE COMMAND...: in a container without network.
inside() {
    docker run --rm --network none "$@"
}

# beside COMMAND...: in a container that sees what nginx of the compose file sees on loopback.
beside() {
    docker run --rm --network "container:$(container nginx)" \
        -v "${COMPOSE_PROJECT_NAME}_keystore:/keystore:ro" \
        -v "${COMPOSE_PROJECT_NAME}_pki:/pki:ro" "$TOOLS" "$@"
}

take_down() {
    local name
    while read -r name; do
        docker logs "$name" >"$LOGS/${name#"$COMPOSE_PROJECT_NAME"?}.log" 2>&1 || true
    done < <(docker ps -a --filter "name=$COMPOSE_PROJECT_NAME" --format '{{.Names}}')
    remove_further
    compose down --volumes --timeout 20 || true
    docker volume rm "${COMPOSE_PROJECT_NAME}_empty" >/dev/null 2>&1 || true
}

# Those that are not of the compose file.
remove_further() {
    local id
    for id in $(docker ps -aq --filter "label=$COMPOSE_PROJECT_NAME"); do
        docker rm -f -v "$id" >/dev/null || true
    done
}

# wait_for SECONDS COMMAND...: till it succeeds; gives up at once where its code is 2.
wait_for() {
    local deadline=$((SECONDS + $1)) result
    shift
    while :; do
        result=0
        "$@" || result=$?
        [ $result -ne 0 ] || return 0
        [ $result -ne 2 ] && [ $SECONDS -lt $deadline ] || return 1
        sleep 0.3
    done
}

# ----------------------------------------------------------------------------- what is looked at

# handshake PORT: what openssl sees, which trusts the CA alone; fails if the handshake does.
# Nobody may pipe it into what does not read to the end.
handshake() {
    beside openssl s_client -connect "127.0.0.1:$1" -servername "$NAME" -verify_hostname "$NAME" \
        -CAfile /pki/roots.pem -verify_return_error -status </dev/null 2>&1
}

# serial PORT: of the certificate that is served.
serial() {
    local seen
    seen=$(handshake "$1")
    seen=$(openssl x509 -noout -serial <<<"$seen")
    seen=${seen#serial=}
    printf '%s\n' "${seen,,}"
}

# serves PORT [SERIAL]: whether there is a good certificate, this one.
serves() {
    local found
    found=$(serial "$1" 2>/dev/null) && [ -n "$found" ] && [ "${2:-$found}" = "$found" ]
}

# is_stapled PORT
is_stapled() {
    local seen
    seen=$(handshake "$1")
    [[ $seen == *'Cert Status: good'* ]]
}

is_healthy() {
    [ "$(docker inspect -f '{{.State.Health.Status}}' "$1")" = healthy ]
}

# logged CONTAINER PATTERN
logged() {
    local all
    all=$(docker logs "$1" 2>&1)
    grep -q "$2" <<<"$all"
}

# one_line CONTAINER PATTERN: shows it, as an administrator would find it.
one_line() {
    local all
    wait_for 60 logged "$1" "$2" || {
        docker logs "$1" >&2
        return 1
    }
    all=$(docker logs "$1" 2>&1)
    # Not from a pipe: who writes into one that is closed has failed.
    sed -n "/$2/{s/^/    /p;q}" <<<"$all" >&2
}

issued() {
    docker logs "$(container pebble)" 2>&1 | grep -c 'Issued certificate serial' || true
}

# differ A B: two serials.
differ() {
    [ -n "$1" ] && [ -n "$2" ] && [ "$1" != "$2" ]
}

# fresh SERVICE...: these services (default: all), with empty volumes.
fresh() {
    remove_further
    compose down --volumes --timeout 20
    compose up -d "$@"
}

# ----------------------------------------------------------------------------- steps

newcomer() {
    "${COMPOSE[@]}" run -T --rm demo </dev/null 2>"$LOGS/newcomer.log"
    wait_for 60 is_healthy "$(container nginx)"
}

replaced() {
    local old new
    old=$(serial 443)
    [ "$(beside containers revoke)" = "$old" ]
    new=$(serial 443)
    differ "$old" "$new"
    is_stapled 443
}

reload() {
    local nginx before
    nginx=$(container nginx)
    before=$(serial 443)
    docker kill -s HUP "$nginx" >/dev/null
    wait_for 60 logged "$nginx" 'exited with code 0'
    serves 443 "$before"
    replaced
    workers_are_unprivileged "$nginx"
}

workers_are_unprivileged() {
    local users
    # shellcheck disable=SC2016 # the variables of the container's shell
    users=$(docker exec "$1" bash -c 'for p in /proc/[0-9]*; do
        [[ $(tr -d "\0" <$p/cmdline) != "nginx: worker process"* ]] || stat -c %U $p; done')
    [ "$(sort -u <<<"$users")" = www-data ]
}

# What is left is the volume: the first handshake has the certificate and the staple of before.
without_network() {
    local nginx before
    nginx=$(container nginx)
    before=$(serial 443)
    docker stop -t 30 "$(container ocsp)" "$(container pebble)" "$nginx" >/dev/null
    [ "$(docker inspect -f '{{.State.ExitCode}}' "$nginx")" = 0 ]
    docker start "$nginx" >/dev/null
    wait_for 60 is_healthy "$nginx"
    is_stapled 443
    serves 443 "$before"
}

two_on_one_keystore() {
    local old new count one other
    fresh
    wait_for 120 serves 443
    old=$(serial 443)
    second_nginx
    wait_for 60 serves 444 "$old"
    count=$(issued)
    beside containers revoke >/dev/null
    say "    the second nginx has what the first fetched after" \
        "$(beside bash -c "$(declare -f follows); follows $NAME") ms"
    new=$(serial 443)
    differ "$old" "$new"
    [ $(($(issued) - count)) -eq 1 ]
    # And both asked at once.
    beside containers revoke >/dev/null
    serial 443 >"$DIR/one" &
    other=$(serial 444)
    wait $!
    one=$(cat "$DIR/one")
    differ "$new" "$one"
    [ "$one" = "$other" ]
    [ $(($(issued) - count)) -eq 2 ]
    # And the second alone: the CA looks for its challenge at the first.
    beside containers revoke >/dev/null
    new=$(serial 444)
    differ "$one" "$new"
    serves 443 "$new"
    [ $(($(issued) - count)) -eq 3 ]
}

# second_nginx [OPTIONS]: in the network of the first, on ports of its own: as another host, which
# shares the keystore, mounted with these options.
second_nginx() {
    mkdir -p "$DIR/second"
    sed 's/8079/8078/' nginx-conf/docker/nginx.conf >"$DIR/second/nginx.conf"
    sed 's/listen 443/listen 444/; s/listen 80;/listen 81;/' nginx-conf/docker/shop.conf \
        >"$DIR/second/shop.conf"
    docker run -d --label "$COMPOSE_PROJECT_NAME" --name "$COMPOSE_PROJECT_NAME-second" \
        --network "container:$(container nginx)" \
        -e CERT_AUTOFETCH_STATUS=127.0.0.1:8078/status \
        -v "$DIR/second/nginx.conf:/etc/nginx/nginx.conf:ro" \
        -v "$DIR/second/shop.conf:/etc/nginx/conf.d/shop.conf:ro" \
        -v "${COMPOSE_PROJECT_NAME}_keystore:/var/lib/nginx/ssl_cert_autofetch${1:+:$1}" \
        -v "${COMPOSE_PROJECT_NAME}_pki:/pki:ro" "$IMAGE" >/dev/null
}

# follows NAME: the milliseconds from a handshake with the first nginx till the second's status has
# the same serial; no handshake hurries the second. Runs in a container, which has no more of us.
follows() {
    local serial start answer
    serial=$(openssl s_client -connect 127.0.0.1:443 -servername "$1" -CAfile /pki/roots.pem \
        -verify_return_error </dev/null 2>&1 | openssl x509 -noout -serial)
    serial=${serial#serial=} serial=${serial,,}
    start=${EPOCHREALTIME/./}
    while [ $((${EPOCHREALTIME/./} - start)) -lt 30000000 ]; do
        exec 3<>/dev/tcp/127.0.0.1/8078
        printf 'GET /status HTTP/1.0\r\n\r\n' >&3
        answer=$(cat <&3)
        # The serial that it replaced is there too.
        if [[ ${answer%%\"replaced\":{*} == *"\"$serial\""* ]]; then
            printf '%s\n' $(((${EPOCHREALTIME/./} - start) / 1000))
            return
        fi
        sleep 0.05
    done
    return 1
}

late_ca() {
    fresh nginx
    # localhost has two addresses, and no way to one of them.
    one_line "$(container nginx)" 'directory: Connection refused (os error 111), next attempt in'
    compose up -d pebble ocsp
    wait_for 180 serves 443
}

# One that was never written is refused at the start; one with an entry of another user (a backup
# that was brought back, say) is told, and used again as soon as it can be.
unwritable() {
    local id
    id=$(docker run -d --label "$COMPOSE_PROJECT_NAME" --network none \
        -v "${COMPOSE_PROJECT_NAME}_empty:/var/lib/nginx/ssl_cert_autofetch:ro" \
        -v "$ROOT/nginx-conf/docker/shop.conf:/etc/nginx/conf.d/shop.conf:ro" \
        -v "${COMPOSE_PROJECT_NAME}_pki:/pki:ro" "$IMAGE")
    one_line "$id" 'Read-only file system'
    fresh
    wait_for 120 serves 443
    own_entry root
    beside containers revoke >/dev/null
    if serves 443; then false; fi
    one_line "$(container nginx)" 'Permission denied'
    own_entry www-data
    wait_for 180 serves 443
}

# own_entry USER
own_entry() {
    docker run --rm --network none -v "${COMPOSE_PROJECT_NAME}_keystore:/keystore" "$TOOLS" \
        chown -R "$1" "/keystore/certs/$NAME"
}

# It is said at the start, and when a replacement is needed; what another nginx brings is served.
read_only() {
    local old second=$COMPOSE_PROJECT_NAME-second
    old=$(serial 443)
    second_nginx ro
    one_line "$second" 'keystore: access() .* failed (30: Read-only file system)'
    wait_for 60 serves 444 "$old"
    beside containers revoke >/dev/null
    if serves 444; then false; fi
    one_line "$second" 'ISSUE failed: .* failed (30: Read-only file system), next attempt in'
    wait_for 60 serves 443
    wait_for 60 serves 444 "$(serial 443)"
}

# As src/manual/containers.md says.
hardened() {
    starts --read-only --tmpfs /run --tmpfs /var/lib/nginx --security-opt no-new-privileges \
        --cap-drop ALL --cap-add CHOWN --cap-add DAC_OVERRIDE --cap-add SETUID --cap-add SETGID
    starts --read-only --tmpfs /run:uid=33 --tmpfs /var/lib/nginx:uid=33 --user 33:33 \
        --security-opt no-new-privileges --cap-drop ALL
}

# starts OPTION...: whether a container with these and an empty keystore gets healthy.
starts() {
    local id
    id=$(docker run -d --label "$COMPOSE_PROJECT_NAME" --network none \
        -v "$ROOT/nginx-conf/docker/shop.conf:/etc/nginx/conf.d/shop.conf:ro" \
        -v "${COMPOSE_PROJECT_NAME}_pki:/pki:ro" "$@" "$IMAGE")
    wait_for 60 answers "$id" || {
        docker logs "$id" >&2
        return 1
    }
    workers_are_unprivileged "$id"
    if logged "$id" 'keystore:'; then false; fi
    docker restart "$id" >/dev/null
    wait_for 60 answers "$id"
}

# answers CONTAINER: without waiting for docker to ask.
answers() {
    docker exec "$1" /usr/local/bin/healthy >/dev/null 2>&1
}

# nginx compares a number in the module: that of its version becomes that of 1.22.1.
other_version() {
    local id own
    # shellcheck disable=SC2016 # the variables are the container's
    own=$(inside "$IMAGE" bash -c 'v=$(nginx -v 2>&1) && IFS=. read -r a b c <<<"${v##*/}" &&
        echo $((a * 1000000 + b * 1000 + ${c%% *}))')
    id=$(docker run -d --label "$COMPOSE_PROJECT_NAME" --network none "$IMAGE" \
        bash -c "perl -0777 -pi -e '\$o = pack(\"V\", $own); \$n = pack(\"V\", 1022001);
            s/\\Q\$o\\E/\$n/' $MODULE && nginx -t")
    one_line "$id" "version 1022001 instead of $own"
}

main
