//! `fincrypt prepayment`: what the vault has prepaid, and what for.

use std::io::IsTerminal;

use clap::Subcommand;
use fincrypt_protocol::ByteSize;
use fincrypt_protocol::amount::{Msat, Price, Sat};

use super::invocation::{Failure, Invocation, NAME};
use super::output::Exit;
use super::qr;
use crate::wording;
use fincrypt_client as client;
use fincrypt_client::{BalanceReport, EntryReport, PrepaymentStatus, StatementsReport, WithdrawOptions, utc};

#[derive(Subcommand)]
pub(super) enum PrepaymentCommand {
    /// Shows where to pay in, for any Bitcoin or Lightning wallet.
    Deposit {
        /// Whole satoshi to pay in; what the mediator advises if none are given.
        sats: Option<Sat>,
    },
    /// Shows what is prepaid, and how long it lasts.
    Balance,
    /// Lists what changed the prepayment: deposits, charges, withdrawals.
    History,
    /// Shows what storage has earned, by the statements that it and the mediator have signed, and
    /// whether they are right by what this machine knows.
    Statement {
        /// Show the statements of this epoch rather than the newest.
        #[arg(long)]
        epoch: Option<u64>,
    },
    /// Pays out of the prepayment. The same command again shows how that payment stands; --new makes
    /// another one.
    Withdraw {
        /// Satoshi that leave the prepayment, the network's fee included; all if none are given.
        sats: Option<Msat>,
        /// Where to: an address, an offer, an invoice or a Lightning node.
        #[arg(long, value_name = "DESTINATION")]
        to: String,
        /// Pay once more what was asked for before with the same destination and amount.
        #[arg(long)]
        new: bool,
    },
}

impl Invocation {
    pub(super) async fn prepayment(&self, command: PrepaymentCommand) -> Result<Exit, Failure> {
        match command {
            PrepaymentCommand::Deposit { sats } => self.deposit(sats).await,
            PrepaymentCommand::Balance => self.balance().await,
            PrepaymentCommand::History => self.history().await,
            PrepaymentCommand::Statement { epoch } => self.statement(epoch).await,
            PrepaymentCommand::Withdraw { sats, to, new } => {
                self.withdraw(WithdrawOptions { to, amount: sats, another: new }).await
            }
        }
    }

    async fn deposit(&self, sats: Option<Sat>) -> Result<Exit, Failure> {
        if sats.is_some_and(|sats| sats.get() == 0) {
            return Err(Failure::Usage("nothing to pay in: give a number of satoshi above 0".to_owned()));
        }
        let vault = self.open()?;
        let report = client::deposit(&vault, sats).await?;
        self.print(&report, || {
            println!("{}\n", report.uri);
            match qr::code(&report.uri) {
                Some(code) if std::io::stdout().is_terminal() => println!("{}", qr::colored(&code)),
                Some(code) => println!("{code}"),
                None => {}
            }
            println!("Pay in {} with any wallet that reads this.", Sat::new(report.amount_sat));
            if report.amount_sat < report.advised_sat {
                println!("The mediator advises to have {} there.", Sat::new(report.advised_sat));
            }
            println!("`fincrypt prepayment balance` shows when it has arrived.");
        });
        Ok(Exit::Done)
    }

    async fn balance(&self) -> Result<Exit, Failure> {
        let vault = self.open()?;
        let report = client::balance(&vault).await?;
        self.print(&report, || show_balance(&report));
        if let Some(warning) = &report.warning {
            eprintln!("{NAME}: {}", wording::runway(warning));
        }
        Ok(Exit::Done)
    }

    async fn history(&self) -> Result<Exit, Failure> {
        let vault = self.open()?;
        let report = client::history(&vault).await?;
        self.print(&report, || {
            report.entries.iter().for_each(show_entry);
            if report.entries.is_empty() {
                println!("Nothing has changed the prepayment yet.");
            }
        });
        Ok(Exit::Done)
    }

    async fn statement(&self, epoch: Option<u64>) -> Result<Exit, Failure> {
        let vault = self.open()?;
        let report = client::statements(&vault, epoch).await?;
        self.print(&report, || show_statements(&report));
        for fault in &report.faults {
            let proof = if fault.proved { " (two signatures prove it: --json shows them)" } else { "" };
            eprintln!("{NAME}: wrong: {}{proof}", fault.reason);
        }
        if let Some(problem) = &report.problem {
            eprintln!("{NAME}: no news from the mediator: {problem}");
        }
        Ok(Exit::Done)
    }

    async fn withdraw(&self, options: WithdrawOptions) -> Result<Exit, Failure> {
        if options.amount.is_some_and(Msat::is_zero) {
            return Err(Failure::Usage("nothing to pay out: give a number of satoshi above 0".to_owned()));
        }
        let vault = self.open()?;
        let report = client::withdraw(&vault, &options).await?;
        self.print(&report, || {
            let amount = report.amount_msat.map_or("all".to_owned(), |msat| Msat::new(msat).to_string());
            if report.repeated {
                println!(
                    "This withdrawal was asked for before, {} UTC; --new makes another one.",
                    utc(report.asked)
                );
            }
            println!("Withdrawal {} of {amount} to {}:", report.payout, report.to);
            let by = report.sending.as_ref().map(|sending| format!(" by {sending}")).unwrap_or_default();
            let arrives = Msat::new(report.arrives_msat);
            match report.state {
                "arrived" => println!("{arrives} have arrived{by}."),
                "failed" => println!("It has failed, and the money is back in the prepayment."),
                _ => {
                    println!("{arrives} are on their way{by}. The same command shows later how far they are.")
                }
            }
        });
        Ok(if report.state == "failed" { Exit::Failed } else { Exit::Done })
    }
}

fn show_balance(report: &BalanceReport) {
    println!("prepaid     {}", Msat::new(report.prepaid_msat));
    if report.pending_msat > 0 {
        println!("coming      {}, not deep enough in the chain yet", Msat::new(report.pending_msat));
    }
    if report.leaving_msat > 0 {
        println!("leaving     {}", Msat::new(report.leaving_msat));
    }
    println!("costs       {} a day, {} an epoch", Msat::new(report.day_msat), Msat::new(report.epoch_msat));
    match report.days {
        Some(days) => println!("lasts       {days} days"),
        None => println!("lasts       nothing that is stored costs anything"),
    }
}

/// The lines of `status` about the prepayment.
pub(super) fn show_prepayment(report: &PrepaymentStatus) {
    if let Some(balance) = &report.balance {
        let days =
            balance.days.map_or("nothing costs anything".to_owned(), |days| format!("lasts {days} days"));
        println!("prepaid     {}, {days}", Msat::new(balance.prepaid_msat));
    }
    report.warnings.iter().for_each(|warning| println!("warning     {}", wording::prepayment(warning)));
}

/// The warnings of a backup.
pub(super) fn warn_of(report: &PrepaymentStatus) {
    report.warnings.iter().for_each(|warning| eprintln!("{NAME}: {}", wording::prepayment(warning)));
}

fn show_entry(entry: &EntryReport) {
    let amount = entry.amount_msat.map(|msat| Msat::new(msat).to_string()).unwrap_or_default();
    let what = match (entry.what, entry.epoch) {
        ("charged", Some(epoch)) => {
            format!("charged, up to epoch {epoch} of {}", entry.storage.as_deref().unwrap_or_default())
        }
        ("deposit_gone", _) => "deposit no longer in the chain".to_owned(),
        (what, _) => what.to_owned(),
    };
    let reference = entry.reference.as_ref().map(|reference| format!("  {reference}")).unwrap_or_default();
    println!("{}  {amount:>20}  {what}{reference}", utc(entry.time));
}

fn show_statements(report: &StatementsReport) {
    for statement in &report.statements {
        println!(
            "{}  epoch {}: {} at {}; {} earned, {} fee{}",
            statement.storage,
            statement.epoch,
            ByteSize(statement.bytes),
            Price::new(statement.price_msat),
            Msat::new(statement.earned_msat),
            Msat::new(statement.fee_msat),
            if statement.fault.is_some() { "  WRONG" } else { "" }
        );
    }
    if report.statements.is_empty() {
        println!("There are no statements: nothing was charged.");
    }
}
