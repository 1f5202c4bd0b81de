//! The spans after which a mediator draws conclusions, in epochs.

/// Parameters of [`super::Reputation`], in epochs. The defaults are meant for epochs of 3,600 seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// Silent for longer: no new shards. 3: two lost packets in a row and a reboot pass unnoticed.
    pub hush: u64,
    /// Silent for longer: its shards are rebuilt elsewhere. 24: an outage of 12 hours costs nothing,
    /// and a day is short against the years in which further holders fail.
    pub absence: u64,
    /// Silent for longer: given up. A week: time to replace a machine.
    pub loss: u64,
    /// Failed epochs (some answer wrong or missing), not yet forgiven, after which its shards are
    /// rebuilt elsewhere. 6: hours, so that no single bad hour moves data.
    pub suspended: u32,
    /// Failed epochs, not yet forgiven, after which it is given up. 48: two days of them.
    pub faults: u32,
    /// Epochs in a row in which it proved all it was asked for, at the full sample, after which its
    /// failed epochs are forgiven. 48: at the full sample a loss of 1 % stays unseen for so long with
    /// a probability of 10⁻⁶²; a loss of 0.1 % with 10⁻⁶.
    pub forgiven: u64,
}

impl Default for Rules {
    fn default() -> Self {
        Self { hush: 3, absence: 24, loss: 24 * 7, suspended: 6, faults: 48, forgiven: 48 }
    }
}
