//! Money: what storage earns, to the millisatoshi.
//!
//! Exact accrual over any split of time and bytes; the ledger, the treasury and the payout rails
//! build on it.
//!
//! ```
//! use fincrypt_protocol::amount::{Msat, Price};
//! use fincrypt_wallet::Accrual;
//! // One GiB for 30 days at 1.5 satoshi per GiB-month.
//! let mut accrual = Accrual::default();
//! let charged = accrual.charge(Price::new(1500), 1 << 30, 30 * 24 * 3600)?;
//! assert_eq!(charged, Msat::new(1500));
//! # Ok::<(), fincrypt_wallet::AccrualOverflow>(())
//! ```

mod accrual;
pub mod lightning;
pub mod statement;

pub use accrual::{Accrual, AccrualOverflow, earned};
