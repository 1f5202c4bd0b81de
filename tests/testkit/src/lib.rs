//! Real processes on one machine: started, watched, killed, and always cleaned up.
//!
//! Swarms of Fincrypt's two programs, which this crate knows only by what is typed and printed, as a
//! script would; a bitcoind; comparison of folders. With the feature `bitcoin` also an Esplora server,
//! other people's wallets, and a play in which all of them are paid. The example `local-swarm` and
//! the end-to-end tests share it. It is no library for other programs.
//!
//! ```no_run
//! use fincrypt_testkit::{Client, Programs, Scratch, Swarm, SwarmPlan};
//!
//! let scratch = Scratch::new("demo")?;
//! let programs = Programs::in_folder("target/release".as_ref())?;
//! let swarm = Swarm::start(SwarmPlan::new(programs.clone(), scratch.path().join("swarm")))?;
//! let owner = Client::new(programs, swarm.bootstrap(), scratch.path().join("owner"));
//! let outcome = owner.run(["init", "/home/me/documents"])?;
//! assert_eq!(outcome.code, Some(0));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod api;
mod bitcoind;
mod client;
mod compare;
#[cfg(feature = "bitcoin")]
mod esplora;
#[cfg(feature = "bitcoin")]
mod paid;
mod process;
mod programs;
mod random;
mod reaper;
mod scratch;
mod swarm;
mod tree;
#[cfg(feature = "bitcoin")]
mod wallets;

pub use bitcoind::{Bitcoind, BitcoindError, find_bitcoind};
pub use client::{Client, Outcome};
pub use compare::{Comparison, Difference, Unlike, compare, measure};
#[cfg(feature = "bitcoin")]
pub use esplora::{Esplora, EsploraError};
#[cfg(feature = "bitcoin")]
pub use paid::{Table, play_paid};
pub use process::{Daemon, ProcessError, Ready, wait_until};
pub use programs::{Program, Programs};
pub use random::SeededRandom;
pub use reaper::{Child, end_all_on_signal, exit_code_on_signal, spawn};
pub use rustix::process::Signal;
pub use scratch::Scratch;
pub use swarm::{Member, Swarm, SwarmPlan, chain_settings};
pub use tree::{TreePlan, generate};
#[cfg(feature = "bitcoin")]
pub use wallets::{ChainWallet, LightningWallet, WalletError};
