//! Rules of money: what storage earns, to the millisatoshi.
//!
//! Exact accrual over any split of time and bytes, the rules by which storage is billed
//! ([`statement`]), how long a prepayment lasts ([`EmptySince`]) and what it covers ([`Holds`]).
//! Sans-IO: no disk, no clock, no chain.
//!
//! ```
//! use fincrypt_protocol::amount::{Msat, Price};
//! use fincrypt_billing::Accrual;
//! // One GiB for 30 days at 1.5 satoshi per GiB-month.
//! let mut accrual = Accrual::default();
//! let charged = accrual.charge(Price::new(1500), 1 << 30, 30 * 24 * 3600)?;
//! assert_eq!(charged, Msat::new(1500));
//! # Ok::<(), fincrypt_billing::AccrualOverflow>(())
//! ```

mod accrual;
mod holds;
mod runway;
pub mod statement;

pub use accrual::{Accrual, AccrualOverflow, earned};
pub use holds::{Charged, Holds};
pub use runway::{Cost, EmptySince, Runway, WARN_DAYS};
