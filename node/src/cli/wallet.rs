//! `fincrypt-node wallet`: a mediator's money.

use fincrypt_wallet::ledger::Ledger;

use super::node_status::ask;
use super::output::{Exit, complain};
use crate::client::Home;

/// Shows what the books come to: by the node that runs in the home, or from its ledger if none runs.
pub(super) fn audit(name: &str, home: &Home) -> Exit {
    if let Ok(answer) = ask(home, "/api/v1/wallet/audit") {
        println!("{}", answer["report"].as_str().unwrap_or_default());
        return if answer["sound"] == true { Exit::Done } else { Exit::Failed };
    }
    if !home.ledger().exists() {
        complain(name, &format!("no ledger in {}: no mediator has run in this home", home.path().display()));
        return Exit::Failed;
    }
    let audited = Ledger::open(&home.ledger()).and_then(|(ledger, _)| ledger.audit());
    match audited {
        Ok(audit) => {
            println!("{audit}");
            if audit.is_sound() { Exit::Done } else { Exit::Failed }
        }
        Err(error) => {
            complain(name, &error);
            Exit::Failed
        }
    }
}
