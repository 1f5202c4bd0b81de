//! Options of a mediator.

use std::time::Duration;

use fincrypt_mediator::{BillingTerms, MediatorTerms, UpkeepTerms};
use fincrypt_protocol::amount::Msat;
use fincrypt_protocol::{ByteSize, Redundancy};

use super::StorageArgs;
use crate::config::values;

/// Options of a mediator.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Mediator")]
pub struct MediatorArgs {
    /// Seconds of an epoch, 1 to 86400.
    #[arg(long, value_name = "SECONDS", default_value = "3600",
        value_parser = values::seconds(1..=86_400))]
    pub epoch: Duration,
    /// Silent epochs after which a storage node's shards are rebuilt elsewhere, 1 to 10000.
    #[arg(long, value_name = "EPOCHS", default_value = "24",
        value_parser = values::number("epochs", 1..=10_000_u64))]
    pub absence_epochs: u64,
    /// Silent epochs after which a storage node is given up, 1 to 100000.
    #[arg(long, value_name = "EPOCHS", default_value = "168",
        value_parser = values::number("epochs", 1..=100_000_u64))]
    pub loss_epochs: u64,
    /// Bytes a second that repairs may place; 0 for no limit.
    #[arg(long, value_name = "BYTES", default_value = "50MB")]
    pub repair_rate: ByteSize,
    /// Fee on what storage earns, in percent, 0 to 50, one decimal.
    #[arg(long = "fee-percent", id = "fee_percent", value_name = "PERCENT", default_value = "0", value_parser = values::percent)]
    pub fee_permille: u16,
    /// Satoshi owed to a storage node from which on it is paid.
    #[arg(long, value_name = "SAT", default_value = "100")]
    pub payout_threshold: Msat,
    /// Seconds after which any whole satoshi is paid, 0 to 31536000; 0: only from payout_threshold on.
    #[arg(long, value_name = "SECONDS", default_value = "86400",
        value_parser = values::seconds(0..=31_536_000))]
    pub payout_interval: Duration,
    /// Satoshi that it may owe a storage node for one account, at least twice payout_threshold.
    #[arg(long, value_name = "SAT", default_value = "20000")]
    pub credit_bound: Msat,
    /// What the route of a Lightning payout may cost at most, in percent, 0 to 50, one decimal.
    #[arg(long = "routing-fee-percent", id = "routing_fee_percent", value_name = "PERCENT", default_value = "1", value_parser = values::percent)]
    pub routing_fee_permille: u16,
}

impl MediatorArgs {
    /// Terms of the mediator role. It forgets what was released when storage deletes it.
    #[must_use]
    pub fn terms(&self, storage: &StorageArgs) -> MediatorTerms {
        MediatorTerms {
            fee_permille: self.fee_permille,
            floor: Redundancy::MIN,
            release_delay: storage.release_delay,
            upkeep: UpkeepTerms { epoch: self.epoch, absence: self.absence_epochs, loss: self.loss_epochs },
            billing: BillingTerms {
                payout_threshold: self.payout_threshold,
                credit_bound: self.credit_bound,
            },
            repair_rate: self.repair_rate.0,
        }
    }
}
