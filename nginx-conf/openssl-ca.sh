#!/bin/sh
# A folder of `openssl ca` as the CA of nginx:
#
#     ssl_cert_autofetch_ca corp {
#         protocol command;
#         command  /usr/local/libexec/openssl-ca.sh /etc/ssl/corp-ca -days 30;
#     }
#
# The folder has ca.cnf (with "copy_extensions = copy", for the names are in the request, and
# "unique_subject = no", for a renewal has the subject of what it renews), ca.pem and what ca.cnf
# names; the workers' user writes there. Further arguments are those of
# `openssl ca`. Which names it signs is for ca.cnf's policy to say, or for a line here: exit code 1
# and a word on standard error refuse.
set -eu

folder=$1
shift
cd "$folder"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cat >"$work/request.pem"

# Two may run at a time, and the database is for one.
exec 9>lock
flock 9
openssl ca -batch -notext -config ca.cnf -subj "/CN=$(printf %.64s "$NAME")" \
    -in "$work/request.pem" -out "$work/leaf.pem" "$@" >&2
cat "$work/leaf.pem" ca.pem
