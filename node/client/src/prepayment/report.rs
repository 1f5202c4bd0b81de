//! How the vault's money stands: balance, statements, and what is wrong with them.

use fincrypt_protocol::money::Balance;
use fincrypt_protocol::{Epoch, UnixTime};
use serde::Serialize;

use super::client::PrepaymentClient;
use super::runway::{RunwayWarning, days, kept_until, pending, warning};
use super::statement_check::Own;
use super::statement_store::{Shown, Statements};
use super::stored::look_at_stored;
use crate::error::ClientError;
use crate::mandates;
use crate::mediator_client::MediatorClient;
use crate::session::{in_session, with_vault};
use crate::vault::Vault;
use fincrypt_net::shown;

/// Faults are told with every backup for so many seconds: 30 days. They stay among the statements.
const NEWS: u64 = 30 * 24 * 3600;

/// How the prepayment stands.
#[derive(Debug, Clone, Serialize)]
pub struct BalanceReport {
    /// What is there, in msat.
    pub prepaid_msat: u64,
    /// What an epoch costs at most.
    pub epoch_msat: u64,
    /// What a day costs.
    pub day_msat: u64,
    /// What is on its way in and does not count yet.
    pub pending_msat: u64,
    /// What is on its way out.
    pub leaving_msat: u64,
    /// Whole days that it lasts; none where nothing costs anything.
    pub days: Option<u64>,
    /// Since when it is used up, in seconds since 1970.
    pub empty_since: Option<u64>,
    /// Until when what is stored is kept then.
    pub kept_until: Option<u64>,
    /// That it does not last, if it does not.
    pub warning: Option<RunwayWarning>,
}

impl BalanceReport {
    fn of(balance: &Balance, now: UnixTime) -> Self {
        Self {
            prepaid_msat: balance.prepaid.get(),
            epoch_msat: balance.epoch.get(),
            day_msat: balance.day.get(),
            pending_msat: pending(balance).get(),
            leaving_msat: balance.leaving.get(),
            days: days(balance),
            empty_since: balance.empty.map(UnixTime::secs),
            kept_until: kept_until(balance).map(UnixTime::secs),
            warning: warning(balance, now),
        }
    }
}

/// Something wrong with a statement.
#[derive(Debug, Clone, Serialize)]
pub struct FaultReport {
    /// The statement's epoch.
    pub epoch: u64,
    /// Its contract; none if all together are wrong.
    pub contract: Option<String>,
    /// What is wrong.
    pub reason: String,
    /// When it was found, in seconds since 1970.
    pub found: u64,
    /// Whether two signed statements prove it.
    pub proved: bool,
}

/// A statement with both signatures.
#[derive(Debug, Serialize)]
pub struct StatementReport {
    /// The contract.
    pub contract: String,
    /// The storage node, as a peer id.
    pub storage: String,
    /// The mediator, as a peer id.
    pub mediator: String,
    /// The epoch.
    pub epoch: u64,
    /// Bytes held in that epoch.
    pub bytes: u64,
    /// Those of all epochs so far, added up.
    pub byte_epochs: u64,
    /// The price, in msat per GiB-month.
    pub price_msat: u64,
    /// All that storage has earned, in msat.
    pub earned_msat: u64,
    /// All that the mediator has earned by it.
    pub fee_msat: u64,
    /// What is wrong with it by what this machine knows, if anything.
    pub fault: Option<String>,
}

impl StatementReport {
    fn of(kept: Shown, own: &Own) -> Option<Self> {
        let agreed = kept.statement.verify(own.network).ok()?;
        Some(Self {
            contract: kept.contract.to_string(),
            storage: shown(&kept.terms.storage),
            mediator: shown(&kept.terms.mediator),
            epoch: agreed.epoch.number(),
            bytes: agreed.bytes,
            byte_epochs: agreed.byte_epochs,
            price_msat: kept.terms.price.get(),
            earned_msat: agreed.earned.get(),
            fee_msat: kept.terms.fee.of(agreed.earned).get(),
            fault: kept.fault.map(|found| found.reason),
        })
    }
}

/// Statements, and what was ever found wrong.
#[derive(Debug, Serialize)]
pub struct StatementsReport {
    /// One of each contract.
    pub statements: Vec<StatementReport>,
    /// Faults, the newest first.
    pub faults: Vec<FaultReport>,
    /// Pairs of signed statements that contradict each other, as anybody can check them: CBOR in hex.
    pub proofs: Vec<String>,
    /// Why no news could be had.
    pub problem: Option<String>,
}

/// Something about the money that a person should know.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PrepaymentWarning {
    /// The mediator did not say how the prepayment stands, for this reason.
    BalanceUnknown(String),
    /// The statements could not be checked, for this reason.
    StatementsUnchecked(String),
    /// The statements on this machine could not be read, for this reason.
    StatementsUnreadable(String),
    /// The prepayment does not last.
    Runway(RunwayWarning),
    /// Statements are wrong.
    WrongStatements {
        /// How many, of late.
        count: usize,
        /// What is wrong with the newest of them.
        newest: String,
    },
}

/// How the prepayment stands, beside something else.
#[derive(Debug, Default, Serialize)]
pub struct PrepaymentStatus {
    /// How the prepayment stands; none where nobody can pay in.
    pub balance: Option<BalanceReport>,
    /// What a person should know.
    pub warnings: Vec<PrepaymentWarning>,
}

fn store(vault: &Vault) -> Statements {
    Statements::new(vault.state.clone())
}

fn own(vault: &Vault, mediator: fincrypt_protocol::NodeId) -> Result<Own, ClientError> {
    Ok(Own {
        network: vault.network(),
        account: vault.keys.root.account(vault.slot()?).account(),
        mediator,
        max_price: mandates::max_price(vault)?,
        now: UnixTime::now(),
    })
}

/// Fetches the newest statements, judges them and keeps what was found.
async fn check_statements(vault: &Vault, mediator: &MediatorClient) -> Result<(), ClientError> {
    // What is stored now may be released before anything is stated of it.
    let looks = look_at_stored(vault)?;
    let round = PrepaymentClient(mediator).statements().await?;
    Ok(store(vault).take(&own(vault, mediator.node())?, &round, &looks)?)
}

fn faults(vault: &Vault) -> Result<Vec<FaultReport>, ClientError> {
    let faults = store(vault).faults()?.into_iter();
    let told = faults.map(|fault| FaultReport {
        epoch: fault.epoch.number(),
        contract: fault.contract.map(|contract| contract.to_string()),
        reason: fault.found.reason,
        found: fault.found.time.secs(),
        proved: fault.proved,
    });
    Ok(told.collect())
}

/// What to tell about the money, with news from the mediator where `mediator` is there. What cannot be
/// had is told as well, as nothing else fails for it.
pub(crate) async fn prepayment_status(vault: &Vault, mediator: Option<&MediatorClient>) -> PrepaymentStatus {
    let mut report = PrepaymentStatus::default();
    if let Some(mediator) = mediator {
        match PrepaymentClient(mediator).balance_if_any().await {
            Ok(balance) => report.balance = balance.map(|b| BalanceReport::of(&b, UnixTime::now())),
            Err(error) => report.warnings.push(PrepaymentWarning::BalanceUnknown(error.to_string())),
        }
        if let Err(error) = check_statements(vault, mediator).await {
            report.warnings.push(PrepaymentWarning::StatementsUnchecked(error.to_string()));
        }
    }
    let runway = report.balance.as_ref().and_then(|balance| balance.warning.clone());
    report.warnings.extend(runway.map(PrepaymentWarning::Runway));
    let now = UnixTime::now().secs();
    match faults(vault) {
        Ok(faults) => {
            let mut news = faults.into_iter().filter(|fault| now.saturating_sub(fault.found) < NEWS);
            if let Some(newest) = news.next() {
                report.warnings.push(PrepaymentWarning::WrongStatements {
                    count: news.count() + 1,
                    newest: newest.reason,
                });
            }
        }
        Err(error) => report.warnings.push(PrepaymentWarning::StatementsUnreadable(error.to_string())),
    }
    report
}

/// How the prepayment stands.
///
/// # Errors
/// [`ClientError`] if the mediator does not answer or takes no money.
pub async fn balance(vault: &Vault) -> Result<BalanceReport, ClientError> {
    with_vault(vault, async |session| {
        let balance = PrepaymentClient(&session.mediator(vault).await?).balance().await?;
        Ok(BalanceReport::of(&balance, UnixTime::now()))
    })
    .await
}

/// The newest statements, or those of one epoch: fetched and judged where the mediator answers, and
/// those kept where it does not.
///
/// # Errors
/// [`ClientError`] if local state fails.
pub async fn statements(vault: &Vault, epoch: Option<u64>) -> Result<StatementsReport, ClientError> {
    let fetched = in_session(&vault.options, async |session| {
        let mediator = session.mediator(vault).await?;
        check_statements(vault, &mediator).await
    });
    let problem = fetched.await.err().map(|error| error.to_string());
    let own = own(
        vault,
        vault.lifecycle.account().mediator()?.unwrap_or(fincrypt_protocol::NodeId::from_bytes([0; 32])),
    )?;
    let shown = store(vault).shown(epoch.map(Epoch::new))?;
    let mut faults = faults(vault)?;
    faults.retain(|fault| epoch.is_none_or(|epoch| fault.epoch == epoch));
    let report = StatementsReport {
        statements: shown.into_iter().filter_map(|kept| StatementReport::of(kept, &own)).collect(),
        faults,
        proofs: store(vault).proofs(&own)?,
        problem,
    };
    vault.state.close();
    Ok(report)
}
