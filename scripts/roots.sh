# Debian's suites side by side: roots that debootstrap makes, with what this machine needs to
# reach its package mirrors. Sourced after lib.sh, never run.
# shellcheck shell=bash

# make_root SUITE FOLDER: the smallest Debian of this suite.
make_root() {
    local mirror
    mirror=$(debian_mirror)
    install debootstrap=debootstrap dpkg=debian-archive-keyring
    rm -rf --one-file-system "$2" "$2.new"
    mkdir -p "$(dirname "$2")"
    say "debootstrap: $1"
    quietly "$ROOT/target/logs/debootstrap-$1.log" \
        debootstrap --variant=minbase "$1" "$2.new" "${mirror:-https://deb.debian.org/debian/}"
    adopt_settings "$2.new"
    mv "$2.new" "$2"
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
