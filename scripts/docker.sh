# A docker daemon, compose, and images of what is here. Sourced after lib.sh, never run.
# shellcheck shell=bash
# shellcheck disable=SC2034 # COMPOSE and LOGS are for who sources it

. "$ROOT/scripts/roots.sh"

# Base and images stay there for the next run.
KEPT=$ROOT/target/docker
LOGS=$ROOT/target/logs/docker
SUITE=trixie

# ----------------------------------------------------------------------------- the daemon

need_daemon() {
    if command -v docker >/dev/null && timeout 20 docker version >/dev/null 2>&1; then
        return
    fi
    [ "$(id -u)" -eq 0 ] || skip "no docker daemon answers, and only root can start one"
    command -v dockerd >/dev/null || has_candidate docker.io ||
        skip "no docker daemon answers, and there is no package docker.io"
    install dockerd=docker.io
    # From Debian 13 on the client is a package of its own.
    install docker=docker-cli
    start_daemon || skip "dockerd can't run here: $(grep -v level=info "$LOGS/dockerd.log" | tail -n 1)"
}

# No bridge and no packet filter: both belong to the machine. What is left are the host's network
# and none.
start_daemon() {
    local data=$KEPT/data
    say "starting a docker daemon"
    mkdir -p "$LOGS" "$KEPT"
    at_exit unmount "$data" "$DIR/exec"
    setsid dockerd --data-root "$data" --exec-root "$DIR/exec" --pidfile "$DIR/pid" \
        -H "unix://$DIR/sock" --bridge=none --iptables=false --ip6tables=false \
        >"$LOGS/dockerd.log" 2>&1 9>&- &
    DAEMON=$!
    at_exit stop_daemon
    export DOCKER_HOST=unix://$DIR/sock
    wait_for 60 daemon_answers
}

daemon_answers() {
    kill -0 "$DAEMON" || return 2
    docker version >/dev/null 2>&1
}

stop_daemon() {
    local deadline=$((SECONDS + 60))
    kill -TERM "$DAEMON" 2>/dev/null || return 0
    while kill -0 "$DAEMON" 2>/dev/null && [ $SECONDS -lt $deadline ]; do
        sleep 0.2
    done
    kill -KILL "$DAEMON" 2>/dev/null || true
    wait "$DAEMON" 2>/dev/null || true
}

# unmount FOLDER...: what a daemon that ended badly has left mounted there, innermost first.
unmount() {
    local folder mount
    for folder in "$@"; do
        while read -r mount; do
            umount -l "$mount" || true
        done < <(cut -d ' ' -f 2 /proc/mounts | grep -F "$folder/" | sort -r)
    done
}

need_compose() {
    if docker compose version >/dev/null 2>&1; then
        COMPOSE=(docker compose)
    else
        command -v docker-compose >/dev/null || has_candidate docker-compose ||
            skip "docker has no compose, and there is no package docker-compose"
        install docker-compose=docker-compose
        COMPOSE=(docker-compose)
    fi
}

# ----------------------------------------------------------------------------- images

need_base() {
    if [ -z "${BASE:-}" ]; then
        BASE=debian:$SUITE-slim
        timeout 60 docker pull -q "$BASE" >/dev/null 2>&1 || import_base
    fi
}

import_base() {
    BASE=cert-autofetch-base:$SUITE
    [ -z "$(docker images -q "$BASE")" ] || return 0
    [ "$(id -u)" -eq 0 ] || skip "$SUITE can't be pulled from a registry, and debootstrap needs root"
    make_base "$SUITE"
    tar -C "$BASES/$SUITE" --numeric-owner -c . | docker import - "$BASE" >/dev/null
}

# build_image NAME FILE. Its first stage gets a name too, so that the next run finds its layers when
# what has no name is removed.
build_image() {
    local variable arguments=(--build-arg "BASE=$BASE")
    # A daemon of ours has no other network.
    [ -z "${DAEMON:-}" ] || arguments+=(--network host)
    for variable in http_proxy https_proxy no_proxy; do
        [ -z "${!variable:-}" ] || arguments+=(--build-arg "$variable")
    done
    say "building the image $1"
    quietly "$LOGS/build-${1%:*}.log" build_both "$1" "$2" "${arguments[@]}"
}

# build_both NAME FILE ARGUMENT...
build_both() {
    local name=$1 file=$2
    shift 2
    docker build "$@" --target build -t "${name%:*}-build:${name#*:}" -f "$file" . &&
        docker build "$@" -t "$name" -f "$file" .
}

# What is left of former versions, in a daemon of ours: 2 GB each.
forget_old_images() {
    [ -z "${DAEMON:-}" ] || docker image prune -f >/dev/null
}
