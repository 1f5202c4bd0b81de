//! Why a head does not count, or another's came first.

/// The vault's head cannot be gone on from, or not be written.
#[derive(Debug, thiserror::Error)]
pub enum HeadError {
    /// The head at the mediator is older than one seen before.
    #[error("the vault was rolled back: sequence {found} is offered, {known} was seen before")]
    RolledBack {
        /// The sequence offered.
        found: u64,
        /// The sequence known.
        known: u64,
    },
    /// The head at the mediator does not follow the one seen before.
    #[error(
        "the vault was forked: the mediator's head does not follow head {sequence}, which was seen before"
    )]
    Forked {
        /// The sequence known.
        sequence: u64,
    },
    /// A head could not be opened.
    #[error("the vault's head cannot be opened: {0}")]
    Sealed(#[from] fincrypt_vault::head::HeadError),
    /// Another writer was faster too often.
    #[error("another device writes to this vault at the same time")]
    Contended,
    /// Another device has written the catalog anew, without what was not used any more.
    #[error("another device has pruned this vault meanwhile")]
    Rewritten,
    /// The vault's heads are signed with a key that this machine does not have.
    #[error(
        "the vault's head is signed with another key than this machine's: it was rewound with its 24 words"
    )]
    Rewound,
}
