# Folders that stay for the next run: Debian's suites side by side, as debootstrap makes them, with
# what this machine needs to reach its package mirrors. Sourced after lib.sh, never run.
# shellcheck shell=bash

# skip WORDS...: why this can't run here; test.sh counts it as skipped.
skip() {
    say "${0##*/}: skipped: $*"
    exit 77
}

# need_turn FOLDER: one run at a time uses it. Daemons that are started must not inherit descriptor 9.
need_turn() {
    mkdir -p "$1"
    exec 9>"$1/lock"
    flock -n 9 || {
        say "waiting for another run of ${0##*/} here"
        flock 9
    }
}

# The smallest Debian of each suite, as it was made; it stays there for the next run.
BASES=$ROOT/target/bases

# make_base SUITE: the folder BASES/SUITE.
make_base() {
    local base=$BASES/$1 mirror
    [ ! -d "$base" ] || return 0
    mirror=$(debian_mirror)
    install debootstrap=debootstrap dpkg=debian-archive-keyring
    rm -rf --one-file-system "$base.new"
    mkdir -p "$BASES"
    say "debootstrap: $1"
    quietly "$ROOT/target/logs/debootstrap-$1.log" \
        debootstrap --variant=minbase "$1" "$base.new" "${mirror:-https://deb.debian.org/debian/}"
    adopt_settings "$base.new"
    mv "$base.new" "$base"
}

# adopt_settings FOLDER: this machine's own certificate authorities and settings of apt, without
# which its package mirrors may be out of reach. Most machines have none.
adopt_settings() {
    local file
    mkdir -p "$1/usr/local/share/ca-certificates" "$1/etc/apt/apt.conf.d"
    for file in /usr/local/share/ca-certificates/*.crt; do
        [ ! -f "$file" ] || cp "$file" "$1/usr/local/share/ca-certificates/"
    done
    # What is in effect of it, whichever file it comes from.
    apt-config dump | grep -E '^Acquire::(http|https|Check-[A-Za-z-]+|Retries)(::[^ ]*)? ' \
        >"$1/etc/apt/apt.conf.d/90host" || true
    # As the images of Debian: nothing is kept of what was installed from.
    printf '%s;\n' 'APT::Keep-Downloaded-Packages "false"' 'Acquire::Languages "none"' \
        'Dir::Cache::pkgcache ""' 'Dir::Cache::srcpkgcache ""' >"$1/etc/apt/apt.conf.d/91small"
    rm -rf "$1"/var/cache/apt/archives/*.deb "$1"/var/cache/apt/*.bin "$1"/var/lib/apt/lists/*
}
