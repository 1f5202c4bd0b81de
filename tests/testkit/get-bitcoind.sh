#!/usr/bin/env bash
# A bitcoind for tests, without touching the system: Debian's bitcoin-knots with all its libraries.
#
# Usage: tests/testkit/get-bitcoind.sh FOLDER
#
# Prints the path of FOLDER/bitcoind, which runs with the libraries beside it, whatever Debian
# release this is. A second call finds it there; two at once wait for each other. Packages come from
# the machine's own mirror and are checked against Debian's keys by apt.
set -euo pipefail

# The release whose packages are taken, and where its bitcoind is.
suite=trixie
packages=(libc6 libgcc-s1 libstdc++6 zlib1g libsqlite3-0 libzmq5 libpgm-5.3-0t64 libnorm1t64 libsodium23
    libevent-core-2.1-7t64 libevent-extra-2.1-7t64 libevent-pthreads-2.1-7t64)
keys=/usr/share/keyrings/debian-archive-keyring.gpg

fail() {
    printf 'get-bitcoind: %s\n' "$*" >&2
    exit 1
}

(($# == 1)) || fail "give one folder"
mkdir -p "$1"
folder=$(cd "$1" && pwd)
exec 9>"$folder/lock"
flock 9
if [[ -x $folder/bitcoind ]]; then
    printf '%s\n' "$folder/bitcoind"
    exit
fi
[[ $(dpkg --print-architecture 2>/dev/null) == amd64 ]] ||
    fail "this needs Debian on amd64; elsewhere install bitcoind yourself, or name it in BITCOIND_EXE"
[[ -r $keys ]] || fail "$keys is missing: install debian-archive-keyring"

# The mirror that this machine uses, in either form of apt's configuration.
mirror=$(
    {
        sed -n 's/^URIs:[[:space:]]*\([^[:space:]]*\).*/\1/p' /etc/apt/sources.list.d/*.sources
        sed -n 's/^deb[[:space:]]\+\(\[[^]]*\][[:space:]]\+\)\?\([^[:space:]]*\).*/\2/p' \
            /etc/apt/sources.list /etc/apt/sources.list.d/*.list
    } 2>/dev/null | grep -v security | head -n 1 || true
)
[[ -n $mirror ]] || fail "no mirror in apt's configuration"

rm -rf "$folder/work" "$folder/root"
mkdir -p "$folder/work/lists/partial" "$folder/work/cache/archives/partial" "$folder/work/packages" "$folder/root"
for part in "$suite" "$suite-backports"; do
    printf 'deb [signed-by=%s] %s %s main\n' "$keys" "$mirror" "$part"
done >"$folder/work/sources.list"
apt() {
    apt-get -q -o Dir::Etc::sourcelist="$folder/work/sources.list" -o Dir::Etc::sourceparts=- \
        -o Dir::State::Lists="$folder/work/lists" -o Dir::Cache="$folder/work/cache" -o APT::Sandbox::User=root "$@" >&2
}
apt update || fail "the mirror does not answer"
(cd "$folder/work/packages" && apt download "bitcoin-knots/$suite-backports" "${packages[@]/%//$suite}") ||
    fail "the mirror does not have what is needed"
for package in "$folder"/work/packages/*.deb; do
    dpkg -x "$package" "$folder/root"
done
rm -rf "$folder/work"

# Started through its own loader, it does not care for the system's libraries.
loader=$folder/root/usr/lib64/ld-linux-x86-64.so.2
[[ -x $loader ]] || fail "the packages are not what was expected: no $loader"
cat >"$folder/bitcoind.new" <<EOF
#!/bin/sh
exec "$loader" --library-path "$folder/root/usr/lib/x86_64-linux-gnu" "$folder/root/usr/bin/bitcoind" "\$@"
EOF
chmod +x "$folder/bitcoind.new"
"$folder/bitcoind.new" --version >&2 || fail "it does not run here"
mv "$folder/bitcoind.new" "$folder/bitcoind"
printf '%s\n' "$folder/bitcoind"
