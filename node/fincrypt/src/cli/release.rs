//! `fincrypt release`, `undo-release` and `recover --list-heads`.

use std::io::{BufRead, IsTerminal, Write};
use std::path::Path;

use fincrypt_vault::words::Words;
use serde::Serialize;

use super::invocation::{Failure, Invocation, NAME};
use super::output::{Exit, counted};
use super::secret;
use fincrypt_client as client;

/// Asks before everything is deleted.
fn confirmed() -> Result<bool, Failure> {
    if !std::io::stdin().is_terminal() {
        return Err(Failure::Usage("this deletes every snapshot: say so with --yes".to_owned()));
    }
    eprint!("Delete every snapshot of this vault? Type yes: ");
    let _ = std::io::stderr().flush();
    let mut line = String::new();
    // An input that cannot be read says nothing.
    Ok(std::io::stdin().lock().read_line(&mut line).is_ok() && line.trim() == "yes")
}

impl Invocation {
    pub(super) async fn release(&self, yes: bool) -> Result<Exit, Failure> {
        if !yes && !confirmed()? {
            return Err(Failure::Usage("nothing was deleted".to_owned()));
        }
        let vault = self.open()?;
        let report = client::release_everything(&vault).await?;
        self.print(&report, || {
            println!(
                "Everything is released: {} of {} storage nodes have heard it.",
                report.heard, report.holders
            );
            if report.until.is_some() {
                println!(
                    "They delete it from {} UTC on. Until then `fincrypt undo-release --words-file FILE` cancels it.",
                    report.when
                );
            }
        });
        if report.heard < report.holders {
            eprintln!(
                "{NAME}: {} storage nodes have not heard it yet; the mediator tells them",
                report.holders - report.heard
            );
        }
        Ok(Exit::Done)
    }

    pub(super) async fn undo_release(
        &self,
        words_file: &Path,
        lift: bool,
        rewind: Option<&str>,
    ) -> Result<Exit, Failure> {
        let words = Words::parse(&secret::words(words_file)?)?;
        let report = client::undo_release(&self.config.client(), &words, lift, rewind).await?;
        self.print(&report, || {
            println!(
                "{} of {} storage nodes have heard it, and {}.",
                report.heard,
                report.holders,
                if report.mediators > 0 { "the mediator tells the others" } else { "no mediator answered" }
            );
            match report.cancelled {
                0 => println!("Nothing was pending at any of them: nothing had to be cancelled."),
                count => println!("At {count} of them deletions were pending; they are cancelled."),
            }
            if report.heard == 0 {
                println!("Nothing is changed.");
            } else if report.guarded {
                println!("Further deletions are refused, until `fincrypt undo-release --lift`.");
            } else {
                println!("Later deletions are taken in again.");
            }
            if let Some(heard) = report.rewound {
                println!(
                    "{heard} storage nodes go by that head now. Run `fincrypt recover` on every machine of the vault."
                );
            }
        });
        if report.heard < report.holders {
            eprintln!(
                "{NAME}: {} storage nodes did not take it: try again, and check this machine's clock",
                report.holders - report.heard
            );
        }
        Ok(match report.heard {
            0 => Exit::Failed,
            heard if heard < report.holders => Exit::Partly,
            _ => Exit::Done,
        })
    }

    pub(super) async fn list_heads(&self, words_file: &Path) -> Result<Exit, Failure> {
        let words = Words::parse(&secret::words(words_file)?)?;
        #[derive(Serialize)]
        struct List {
            heads: Vec<client::HeadInfo>,
        }
        let list = List { heads: client::list_heads(&self.config.client(), &words).await? };
        self.print(&list, || {
            for head in &list.heads {
                println!(
                    "{:>8}  {}  {}  account {}, {}, at {}{}",
                    head.sequence,
                    &head.hash[..12],
                    head.when,
                    head.slot,
                    counted(head.catalog_segments as u64, "catalog segment"),
                    counted(head.holders as u64, "holder"),
                    if head.superseded { ", given up by a rewind" } else { "" }
                );
            }
        });
        Ok(Exit::Done)
    }
}
