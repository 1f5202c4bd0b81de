//! Real Fincrypt processes on one machine: started, watched, killed, and always cleaned up.
//!
//! The example `local-swarm` and the end-to-end tests share this crate. It knows the two programs
//! only by what is typed and printed, as anyone's script would. Of Fincrypt it links the wallets, which
//! play other people's. It is no library for other programs.
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
mod esplora;
mod paid;
mod process;
mod programs;
mod random;
mod reaper;
mod scratch;
mod swarm;
mod tree;
mod wallets;

pub use bitcoind::{Bitcoind, BitcoindError, find_bitcoind};
pub use client::{Client, Outcome};
pub use compare::{Comparison, Difference, Unlike, compare, measure};
pub use esplora::{Esplora, EsploraError};
pub use paid::{Table, play_paid};
pub use process::{Daemon, ProcessError, Ready, wait_until};
pub use programs::{Program, Programs};
pub use random::SeededRandom;
pub use reaper::{Child, end_all_on_signal, exit_code_on_signal, spawn};
pub use rustix::process::Signal;
pub use scratch::Scratch;
pub use swarm::{Member, Swarm, SwarmPlan, chain_settings};
pub use tree::{TreePlan, generate};
pub use wallets::{ChainWallet, LightningWallet, WalletError};
