//! `fincrypt mediator`.

use serde::Serialize;

use super::invocation::{Failure, Invocation, NAME};
use super::output::Exit;
use fincrypt_client as client;

impl Invocation {
    pub(super) async fn mediators(&self) -> Result<Exit, Failure> {
        let vault = self.open()?;
        #[derive(Serialize)]
        struct List {
            mediators: Vec<client::MediatorInfo>,
        }
        let list = List { mediators: client::list_mediators(&vault).await? };
        self.print(&list, || {
            for mediator in &list.mediators {
                println!(
                    "{}  fee {}.{} %, redundancy at least {}.{:03}, {} storage nodes{}",
                    mediator.peer,
                    mediator.fee_permille / 10,
                    mediator.fee_permille % 10,
                    mediator.floor_permille / 1000,
                    mediator.floor_permille % 1000,
                    mediator.eligible.map_or_else(|| "too few".to_owned(), |nodes| nodes.to_string()),
                    if mediator.ours { "  (ours)" } else { "" }
                );
            }
        });
        Ok(Exit::Done)
    }

    pub(super) async fn use_mediator(&self, mediator: &str) -> Result<Exit, Failure> {
        let vault = self.open()?;
        let report = client::use_mediator(&vault, mediator).await?;
        self.print(&report, || {
            println!("The vault's mediator is {}.", report.mediator);
            println!(
                "It has taken over {} segments from {} of {} storage nodes.",
                report.segments, report.heard, report.found
            );
            if let Some(old) = &report.old {
                let told = if report.old_told { "was told" } else { "was not told; storage tells it" };
                println!("The old one, {old}, {told}.");
            }
        });
        if !report.complete {
            eprintln!("{NAME}: the mediator goes on by itself with the storage nodes that have not answered");
        }
        Ok(Exit::Done)
    }
}
