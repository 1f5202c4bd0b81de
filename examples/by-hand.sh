#!/usr/bin/env bash
# The main job by hand: eight home servers, a folder, two deaths, and 24 words.
#
# Usage: examples/by-hand.sh [FOLDER]
#
# Everything is typed as a person would type it. Read it from top to bottom, or run it: it takes
# about half a minute and removes what it made. FINCRYPT_BIN_DIR names a folder with the two
# programs; without it they are built.
set -euo pipefail

repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
say() { printf '\n== %s\n' "$*"; }

# The programs.
if [[ -z ${FINCRYPT_BIN_DIR:-} ]]; then
    say "building fincrypt-node and fincrypt"
    target=${CARGO_TARGET_DIR:-$repository/target}
    (cd "$repository" && cargo build --release -p fincrypt --bins --target-dir "$target")
    FINCRYPT_BIN_DIR=$target/release
fi
PATH=$(cd "$FINCRYPT_BIN_DIR" && pwd):$PATH

# A place for everything, and a promise: whatever happens, no process and no file stays behind.
place=$(mktemp -d "${TMPDIR:-/tmp}/fincrypt-by-hand-XXXXXX")
clean_up() {
    trap - EXIT
    local running
    mapfile -t running < <(jobs -pr)
    ((${#running[@]} == 0)) || kill -9 "${running[@]}" 2>/dev/null || true
    wait 2>/dev/null || true
    # Restored folders may be closed even to their owner.
    chmod -R u+rwX "$place"
    rm -rf "$place"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

# What to back up: the folder given, or this repository's own sources with a few oddities.
if (($# > 0)); then
    folder=$(cd "$1" && pwd -P)
else
    folder=$place/folder
    mkdir -p "$folder/empty"
    cp -a "$repository"/{protocol,storage,node} "$folder"
    head -c 5000000 /dev/urandom > "$folder/random"
    ln -s random "$folder/symlink"
    ln "$folder/random" "$folder/hard-link"
    printf 'run me\n' > "$folder/script"
    chmod 0750 "$folder/script"
fi

# Starts a node and waits for its ready line, which tells where it listens:
#   ready peer=PEERID listen=MULTIADDR[,…] api=URL|off
# Port 0 lets the system choose a free one. Sets `pid` and `address`.
start() { # NAME ARGUMENT…
    local name=$1 line='' tries
    shift
    mkdir "$place/$name"
    fincrypt-node --home "$place/$name" --network local --listen /ip4/127.0.0.1/tcp/0 --api off "$@" \
        > "$place/$name/out" 2> "$place/$name/log" &
    pid=$!
    for ((tries = 0; tries < 300; tries++)); do
        line=$(grep -m 1 '^ready ' "$place/$name/out" 2>/dev/null || true)
        [[ -n $line ]] && break
        kill -0 "$pid" 2>/dev/null || break
        sleep 0.1
    done
    if [[ -z $line ]]; then
        echo "$name did not start:" >&2
        cat "$place/$name/log" >&2
        exit 1
    fi
    address=${line#* listen=}
    address=${address%%[ ,]*}
    echo "$name is ready at $address"
}

say "a first contact, by which all others find each other"
start bootstrap --role bootstrap
bootstrap=$address

say "a mediator, which places shards and computes their parity, but cannot read them"
start mediator --role mediator --bootstrap "$bootstrap"
mediator=$pid

say "eight storage nodes, which earn by keeping shards"
storage=()
for n in 1 2 3 4 5 6 7 8; do
    start "storage-$n" --role storage --bootstrap "$bootstrap" --capacity 10GB
    storage+=("$pid")
done

say "a vault: 24 words, a keyfile under a password, and which folders to back up"
# On a terminal fincrypt would ask for the password, and show the words.
export FINCRYPT_PASSWORD='correct horse battery staple'
at_home() { fincrypt --home "$place/owner" "$@"; }
at_home --network local --bootstrap "$bootstrap" init "$folder" --words-file "$place/words"

# Storage nodes make themselves known by gossip, which takes a moment.
for ((tries = 0; tries < 60; tries++)); do
    at_home status --json | grep -q '"eligible": 8' && break
    sleep 0.5
done
at_home status

say "the first backup sends everything once, encrypted"
at_home backup

say "the second one finds nothing new"
at_home backup
at_home snapshots
at_home ls latest "$(basename "$folder")"

say "two of eight storage nodes die"
kill -9 "${storage[1]}" "${storage[6]}"
wait "${storage[1]}" "${storage[6]}" 2>/dev/null || true

say "a new machine: nothing but the 24 words"
on_new_machine() { fincrypt --home "$place/new-machine" --network local --bootstrap "$bootstrap" "$@"; }
on_new_machine recover --words-file "$place/words"
on_new_machine restore latest --target "$place/restored"

# Compares bytes, then kinds, modes, times and symlinks.
compare() { # RESTORED
    local restored
    restored=$1/$(basename "$folder")
    diff -r --no-dereference "$folder" "$restored"
    diff <(cd "$folder" && find . -printf '%P %y %m %T@ %l\n' | sort) \
        <(cd "$restored" && find . -printf '%P %y %m %T@ %l\n' | sort)
    echo "equal: every byte, mode, time and symlink"
}
compare "$place/restored"

say "every shard that is left, fetched straight from storage and checked; two nodes are missing"
on_new_machine verify --all 2>/dev/null || echo "(exit $?: shards are missing, as they should be)"

say "the mediator dies too: the words find the holders in the network by themselves"
kill -9 "$mediator"
wait "$mediator" 2>/dev/null || true
on_newest_machine() { fincrypt --home "$place/newest-machine" --network local --bootstrap "$bootstrap" "$@"; }
on_newest_machine recover --words-file "$place/words"
on_newest_machine restore latest --target "$place/restored-again"
compare "$place/restored-again"

say "done"
