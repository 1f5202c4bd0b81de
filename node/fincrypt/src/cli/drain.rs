//! `fincrypt-node drain`.

use std::path::Path;
use std::time::{Duration, Instant};

use super::output::{Exit, complain};
use crate::home::Home;
use fincrypt_storage_node::Drain;

/// Between looks at what is left.
const LOOK: Duration = Duration::from_millis(500);
/// A node that runs has said something by then.
const SILENT: Duration = Duration::from_secs(10);

/// Says that the node of a home is to leave, or to stay, and waits until it may go.
pub(super) fn run(name: &str, home: &Home, cancel: bool, wait: bool) -> Exit {
    if !Path::new(&home.shards()).exists() {
        complain(name, &format!("{} is no storage node's home: give --home DIR", home.path().display()));
        return Exit::Failed;
    }
    let drain = Drain::open(home.path());
    let done = if cancel { drain.cancel() } else { drain.wish() };
    if let Err(error) = done {
        complain(name, &format!("cannot write to {}: {error}", home.path().display()));
        return Exit::Failed;
    }
    if cancel {
        println!("The node stays.");
        return Exit::Done;
    }
    println!(
        "The node takes no new shards; those it has are moved while it runs. `drain --cancel` undoes it."
    );
    if wait { watch(&drain) } else { Exit::Done }
}

fn watch(drain: &Drain) -> Exit {
    let (begun, mut shown, mut warned) = (Instant::now(), None, false);
    loop {
        match drain.said() {
            Some(0) => {
                println!("Everything is elsewhere: the node may be switched off.");
                return Exit::Done;
            }
            Some(left) if shown != Some(left) => {
                println!("{left} shards are to be moved");
                shown = Some(left);
            }
            Some(_) => {}
            None if !warned && begun.elapsed() > SILENT => {
                println!(
                    "The node says nothing. Start it if it does not run: it has to, while its shards are moved."
                );
                warned = true;
            }
            None => {}
        }
        std::thread::sleep(LOOK);
    }
}
