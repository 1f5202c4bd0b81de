//! The main job over real processes, and everything a person may get wrong on the way.

mod backup;
mod bounds;
mod catalog;
mod crashes;
mod credit;
mod daemon;
mod damage;
mod dedup;
mod devices;
mod disk;
mod file_circles;
mod files;
mod floods;
mod forget;
mod hostile;
mod house;
mod interruptions;
mod liars;
mod lightning;
mod local_interface;
mod losses;
mod mandates;
mod mediators;
mod memory;
mod money;
mod options;
mod orphans;
mod paid;
mod paid_crashes;
mod paid_esplora;
mod paid_troubles;
mod prepayment;
mod prepayment_empty;
mod refusals;
mod release;
mod release_rules;
mod restoring;
mod scrub;
mod self_check;
mod treasury;
mod upkeep;
mod verification;

use std::path::Path;

use fincrypt_e2e::{Plan, World};

/// A world of the programs that were built with these tests.
fn world(label: &str, plan: Plan) -> World {
    World::start(label, env!("CARGO_BIN_EXE_under-test"), plan)
}

/// A path of ours, which is UTF-8.
fn text(path: &Path) -> &str {
    path.to_str().expect("the scratch folder's path is UTF-8")
}
