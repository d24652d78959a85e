#!/bin/sh
# A hook for "challenge dns-01 HOOK": puts the records of the CA's challenges into the DNS by dynamic
# update (RFC 2136), signed with a TSIG key. Needs nsupdate; with dig it also waits until the servers
# answer with the record (Debian: bind9-dnsutils has both).
#
# The module runs it as the workers' user, with "present" or "cleanup" and this environment:
#   NAME     the host name that is proven      RECORD   _acme-challenge.NAME
#   VALUE    what the TXT record has to say    CA       the name of the ssl_cert_autofetch_ca block
# Several values may stand at one RECORD at once (a name and its wildcard): each is added and deleted
# alone. The same call may come twice.
#
# To be set here, or in a file beside this one, with .conf behind its name:

# Takes the updates.
SERVER=127.0.0.1
PORT=53
# The zone to update; empty: the server is asked which one it is.
ZONE=
# A file as tsig-keygen writes it, for the workers' user alone.
KEY_FILE=/etc/nginx/dns-01.key
# Of the records, in seconds.
TTL=60
# The authoritative servers, with spaces between: all have to answer with the record before the CA is
# told. Empty: SERVER alone.
SERVERS=
# So many seconds at most, for all of them; less than "timeout" of the CA.
WAIT=20

set -eu
if [ -r "$0.conf" ]; then
    # shellcheck source=/dev/null
    . "$0.conf"
fi

main() {
    case ${1:-} in
        present)
            update add "$RECORD. $TTL TXT \"$VALUE\""
            deadline=$(($(date +%s) + WAIT))
            for server in ${SERVERS:-$SERVER}; do
                await "$server"
            done
            ;;
        cleanup) update delete "$RECORD. TXT \"$VALUE\"" ;;
        *) fail "call it with present or cleanup" ;;
    esac
}

# update add|delete RECORD
update() {
    {
        printf 'server %s %s\n' "$SERVER" "$PORT"
        [ -z "$ZONE" ] || printf 'zone %s\n' "$ZONE"
        printf 'update %s\nsend\n' "$*"
    } | nsupdate -k "$KEY_FILE" -t 10
}

# await SERVER: until it answers with the value.
await() {
    command -v dig >/dev/null || return 0
    until answers "$1"; do
        [ "$(date +%s)" -lt "$deadline" ] || fail "$1 does not answer with the record of $RECORD"
        sleep 1
    done
}

answers() {
    dig +short +norecurse +time=2 +tries=1 -p "$PORT" "@$1" "$RECORD." TXT | grep -Fqx "\"$VALUE\""
}

fail() {
    printf '%s\n' "$*" >&2
    exit 1
}

main "$@"
