//! How much inbound payload may be in memory at once, over all peers and for each.
//!
//! A reader waits for its share before it allocates, so a flood of requests becomes back-pressure
//! on the streams of whoever sends it. One peer has at most four payloads being read, and takes no
//! more while it holds more than is still free (the dynamic threshold of shared packet buffers:
//! A. K. Choudhury and E. L. Hahne, 1998). While anyone waits for room, what is being read has to
//! come at full pace.

use parking_lot::{Mutex, MutexGuard};
use std::collections::HashMap;
use std::sync::Arc;

use libp2p::PeerId;
use tokio::sync::Notify;

/// Payloads of one peer that are being read at once.
const READS_AT_ONCE: usize = 4;

/// The rule, free of I/O.
#[derive(Debug)]
struct Room {
    free: usize,
    peers: HashMap<PeerId, Held>,
    /// Readers that found no room.
    waiting: usize,
}

/// What a reader is told.
#[derive(Debug, PartialEq, Eq)]
enum Answer {
    Taken,
    /// Its own payloads come first.
    OwnTurn,
    NoRoom,
}

#[derive(Debug, Default, Clone, Copy)]
struct Held {
    bytes: usize,
    reading: usize,
}

impl Room {
    /// Takes room for `bytes`, if `peer` may have it now.
    fn take(&mut self, peer: PeerId, bytes: usize, payload: bool) -> Answer {
        let held = self.peers.get(&peer).copied().unwrap_or_default();
        // Whoever holds nothing gets all that is free: less than its one payload would never do.
        let share = if held.bytes == 0 { self.free } else { self.free.saturating_sub(held.bytes) };
        if payload && held.reading >= READS_AT_ONCE {
            return Answer::OwnTurn;
        }
        if bytes > share {
            return Answer::NoRoom;
        }
        self.free -= bytes;
        let held = self.peers.entry(peer).or_default();
        held.bytes += bytes;
        held.reading += usize::from(payload);
        Answer::Taken
    }

    fn give_back(&mut self, peer: &PeerId, bytes: usize, read: bool) {
        self.free += bytes;
        if let Some(held) = self.peers.get_mut(peer) {
            held.bytes = held.bytes.saturating_sub(bytes);
            held.reading = held.reading.saturating_sub(usize::from(read));
            if held.bytes == 0 && held.reading == 0 {
                self.peers.remove(peer);
            }
        }
    }
}

#[derive(Debug)]
struct Shared {
    whole: usize,
    room: Mutex<Room>,
    freed: Notify,
}

/// Room for inbound bytes; clones share it.
#[derive(Clone, Debug)]
pub struct Intake(Arc<Shared>);

impl Intake {
    /// Room for `bytes`.
    #[must_use]
    pub fn new(bytes: usize) -> Self {
        let room = Mutex::new(Room { free: bytes, peers: HashMap::new(), waiting: 0 });
        Self(Arc::new(Shared { whole: bytes, room, freed: Notify::new() }))
    }

    fn room(&self) -> MutexGuard<'_, Room> {
        self.0.room.lock()
    }

    /// Waits for room for a header of `peer`.
    pub(super) async fn header(&self, peer: PeerId, bytes: usize) -> Permit {
        self.admit(peer, bytes, false).await
    }

    /// Waits for room for a payload of `peer`, and for its turn to be read.
    pub(super) async fn payload(&self, peer: PeerId, bytes: usize) -> Permit {
        self.admit(peer, bytes, true).await
    }

    async fn admit(&self, peer: PeerId, bytes: usize, payload: bool) -> Permit {
        // More than the whole would be waited for for ever.
        let bytes = bytes.min(self.0.whole);
        let mut waiting = None;
        loop {
            let mut freed = std::pin::pin!(self.0.freed.notified());
            freed.as_mut().enable();
            let answer = self.room().take(peer, bytes, payload);
            match answer {
                Answer::Taken => return Permit { intake: self.clone(), peer, bytes, reading: payload },
                Answer::OwnTurn => waiting = None,
                Answer::NoRoom if waiting.is_none() => waiting = Some(Waiting::new(self)),
                Answer::NoRoom => {}
            }
            freed.await;
        }
    }

    /// Whether anyone waits for room.
    pub(super) fn is_short(&self) -> bool {
        self.room().waiting > 0
    }
}

/// Counts a reader that waits for room, for as long as it does.
struct Waiting<'a>(&'a Intake);

impl<'a> Waiting<'a> {
    fn new(intake: &'a Intake) -> Self {
        intake.room().waiting += 1;
        Self(intake)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.room().waiting -= 1;
    }
}

/// A share of an intake, given back when it is dropped.
#[derive(Debug)]
pub(super) struct Permit {
    intake: Intake,
    peer: PeerId,
    bytes: usize,
    reading: bool,
}

impl Permit {
    fn give_back(&mut self, bytes: usize) {
        self.bytes -= bytes;
        let read = std::mem::take(&mut self.reading);
        self.intake.room().give_back(&self.peer, bytes, read);
        self.intake.0.freed.notify_waiters();
    }

    /// The payload has arrived: the peer's next one may be read, while this one keeps its room.
    pub(super) fn arrived(&mut self) {
        self.give_back(0);
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.give_back(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SHARD: usize = 1 << 20;

    fn room(shards: usize) -> Room {
        Room { free: shards * SHARD, peers: HashMap::new(), waiting: 0 }
    }

    fn takes(room: &mut Room, peer: PeerId, most: usize) -> usize {
        (0..most).take_while(|_| room.take(peer, SHARD, true) == Answer::Taken).count()
    }

    #[test]
    fn one_peer_has_at_most_four_payloads_being_read() {
        let (mut room, peer) = (room(24), PeerId::random());
        assert_eq!(takes(&mut room, peer, 24), READS_AT_ONCE);
        assert_eq!(room.take(peer, 100, false), Answer::Taken, "its small requests go on");
        assert_eq!(room.take(peer, SHARD, true), Answer::OwnTurn);
        room.give_back(&peer, 0, true);
        assert_eq!(room.take(peer, SHARD, true), Answer::Taken, "one has arrived");
    }

    #[test]
    fn a_newcomer_finds_room_however_greedy_the_others_are() {
        let mut room = room(24);
        for greedy in 0..8 {
            assert!(takes(&mut room, PeerId::random(), 24) > 0, "peer {greedy}");
        }
        // What has arrived does not count as being read, but its room stays taken.
        let hoarder = PeerId::random();
        let mut room = self::room(24);
        while room.take(hoarder, SHARD, true) == Answer::Taken {
            room.give_back(&hoarder, 0, true);
        }
        assert_eq!(room.free, 12 * SHARD);
    }

    #[test]
    fn a_reader_waits_until_room_is_given_back() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(async {
            let (intake, peer) = (Intake::new(SHARD), PeerId::random());
            let held = intake.payload(peer, SHARD).await;
            let waiting = tokio::spawn({
                let intake = intake.clone();
                async move { intake.payload(peer, SHARD).await }
            });
            tokio::task::yield_now().await;
            assert!(!waiting.is_finished() && intake.is_short());
            drop(held);
            drop(waiting.await.expect("it gets its turn"));
            assert_eq!(intake.room().free, SHARD);
            assert!(intake.room().peers.is_empty() && !intake.is_short());
        });
    }

    proptest! {
        #[test]
        fn what_was_given_back_is_free_again(
            steps in proptest::collection::vec((0..6_usize, 0..3 * SHARD, any::<bool>()), 0..200)
        ) {
            let peers: Vec<_> = (0..6).map(|_| PeerId::random()).collect();
            let mut room = room(24);
            let mut taken = Vec::new();
            for (peer, bytes, payload) in steps {
                if room.take(peers[peer], bytes, payload) == Answer::Taken {
                    taken.push((peers[peer], bytes, payload));
                } else if let Some((peer, bytes, payload)) = taken.pop() {
                    room.give_back(&peer, bytes, payload);
                }
                let held: usize = taken.iter().map(|(_, bytes, _)| bytes).sum();
                prop_assert_eq!(room.free + held, 24 * SHARD);
            }
            for (peer, bytes, payload) in taken {
                room.give_back(&peer, bytes, payload);
            }
            prop_assert!(room.peers.is_empty());
        }
    }
}
