//! Options of a storage node.

use std::time::Duration;

use fincrypt_protocol::ByteSize;
use fincrypt_protocol::amount::{Msat, Price};
use fincrypt_storage_node::{PayoutTo, StorageTerms};

use crate::config::values;

/// Days that a contract bills at least.
const MINIMUM_DAYS: u16 = 30;

/// Options of a storage node.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Storage node")]
pub struct StorageArgs {
    /// Bytes that it offers, with a unit: kB to TB, KiB to TiB.
    #[arg(long, value_name = "BYTES", default_value = "100GB", value_parser = values::capacity)]
    pub capacity: ByteSize,
    /// Satoshi per GiB-month (30 days) for storage, three decimals.
    #[arg(long, value_name = "SAT", default_value = "0")]
    pub price: Price,
    /// Satoshi per GiB read beyond what is included, three decimals; offered, not billed yet.
    #[arg(long, value_name = "SAT", default_value = "0")]
    pub egress_price: Price,
    /// Where it is paid: a Bitcoin address, a Lightning offer (lno1…), a Lightning node's key, or
    /// `lightning` for a node of its own. Without it: nowhere, and what it earns stays owed.
    #[arg(long, value_name = "DESTINATION", value_parser = values::payout)]
    pub payout: Option<PayoutTo>,
    /// Satoshi that it lets a mediator owe it for one account; larger credit bounds are refused.
    #[arg(long, value_name = "SAT", default_value = "50000")]
    pub credit_limit: Msat,
    /// Days that unpaid shards are kept, 30 to 3650.
    #[arg(long, value_name = "DAYS", default_value = "90",
        value_parser = values::number("days", 30..=3650_u16))]
    pub grace_days: u16,
    /// Seconds between an owner's release and the deletion, 1 to 31536000; a mediator forgets the
    /// segments after the same time.
    #[arg(long, value_name = "SECONDS", default_value = "604800",
        value_parser = values::seconds(1..=31_536_000))]
    pub release_delay: Duration,
    /// Seconds in which it reads every shard once, 1 to 31536000.
    #[arg(long, value_name = "SECONDS", default_value = "2592000",
        value_parser = values::seconds(1..=31_536_000))]
    pub scrub_period: Duration,
}

impl StorageArgs {
    /// Terms of the storage role.
    #[must_use]
    pub fn terms(&self) -> StorageTerms {
        StorageTerms {
            price: self.price,
            egress_price: self.egress_price,
            payout: self.payout(),
            grace_days: self.grace_days,
            minimum_days: MINIMUM_DAYS,
            credit_limit: self.credit_limit,
            release_delay: self.release_delay,
            scrub_period: self.scrub_period,
        }
    }

    /// Where it is paid.
    #[must_use]
    pub fn payout(&self) -> PayoutTo {
        self.payout.clone().unwrap_or(PayoutTo::Nowhere)
    }
}
