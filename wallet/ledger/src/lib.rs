//! A mediator's books: double entry, in a journal that alone is enough.
//!
//! Every [`Event`] becomes an entry whose debits equal its credits. It is durable in the journal
//! before it is acknowledged; sled keeps copies for reading by account. An event names what it is
//! about so that it changes something once: recorded again it is [`Posted::Known`], with other
//! contents it is refused. What can happen, be undone and happen again (a deposit that is reorganised
//! away, a payout that is) counts its rounds.
//!
//! ```text
//! assets and expenses:      on-chain, Lightning, network fees, losses
//! liabilities and equity:   prepayment of each account, payable of each contract, payouts in flight,
//!                           capital, fees earned
//! ```
//!
//! Checked at every start and by [`Ledger::audit`]: assets = prepayments + payables + in flight +
//! equity, where equity = capital + fees − network fees − losses; of every contract, earned = paid +
//! payable + in flight; assets are what came in and did not leave. No balance is ever negative.

mod account;
mod audit;
mod books;
mod event;
mod plan;
mod store;
#[cfg(test)]
mod tests;

pub use account::{Account, Arrival, Owed, Owner, Rail, Sending, Side, Source};
pub use audit::{Audit, AuditedContract};
pub use books::{Books, ContractBook, PayoutBook, PayoutStage, Problem};
pub use event::{Event, MAX_PARTS, Part, PayTo, Record};
pub use plan::BooksError;
pub use store::{Ledger, LedgerError, Opened, Posted};
