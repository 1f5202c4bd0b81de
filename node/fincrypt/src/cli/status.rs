//! `fincrypt status`.

use fincrypt_protocol::{ByteSize, UnixTime};

use super::invocation::{Failure, Invocation};
use super::output::{Exit, counted};
use super::prepayment::show_prepayment;
use fincrypt_client as client;
use fincrypt_client::{SnapshotStatus, Standing, StatusReport};

/// Snapshots shown to people; `--json` has all.
const SHOWN: usize = 20;

impl Invocation {
    pub(super) async fn status(&self, brief: bool) -> Result<Exit, Failure> {
        let vault = self.open()?;
        let report = client::status(&vault, brief).await?;
        self.print(&report, || show(&report, brief));
        Ok(Exit::Done)
    }
}

/// How long ago a time was, to the unit that matters.
fn ago(time: Option<u64>) -> String {
    let Some(time) = time else { return "never".to_owned() };
    format!("{} ago", span(UnixTime::now().since(UnixTime::from_secs(time)).as_secs()))
}

fn span(seconds: u64) -> String {
    match seconds {
        0..=119 => format!("{seconds} s"),
        120..=7199 => format!("{} min", seconds / 60),
        7200..=172_799 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}

fn show(report: &StatusReport, brief: bool) {
    println!("network     {}", report.network);
    println!("account     {}", report.account);
    println!("mediator    {}", report.mediator.as_deref().unwrap_or("none yet"));
    let reachable = if report.reachable { "yes" } else { "no" };
    match report.mediator_seen {
        None if !report.reachable => println!("reachable   {reachable}; not seen by this home yet"),
        seen => println!("reachable   {reachable}; last seen {}", ago(seen)),
    }
    println!("storage     {}", storage(report));
    let age = report.head_age_seconds.map(|age| format!(", {} old", span(age))).unwrap_or_default();
    println!(
        "snapshots   {} in {}, head {}{age}",
        report.snapshots,
        counted(report.segments as u64, "segment"),
        report.sequence
    );
    println!("stored      {}, parity included", ByteSize(report.bytes_stored));
    if !brief {
        show_health(report);
        println!("checked     by this machine, {}", ago(report.last_check));
        report.per_snapshot.iter().take(SHOWN).for_each(show_snapshot);
        let others = report.per_snapshot.len().saturating_sub(SHOWN);
        if others > 0 {
            println!("and {}, which --json shows", counted(others as u64, "older snapshot"));
        }
        if report.not_looked_at > 0 {
            let when = if report.reachable { "ask again" } else { "the mediator is needed for that" };
            println!("{} not looked at; {when}", were(report.not_looked_at as u64, "snapshot"));
        }
    }
    show_prepayment(&report.prepayment);
    if let Some(problem) = &report.problem {
        println!("problem     {problem}");
    }
}

/// What the mediator offers.
fn storage(report: &StatusReport) -> String {
    match (report.reachable, report.total) {
        (false, _) => "unknown without the mediator".to_owned(),
        (true, 0) => format!("{}, too few or too dear for a backup", qualify(report.eligible)),
        (true, total) => {
            format!(
                "{}; a full segment gets {total} shards, any {} of them suffice",
                qualify(report.eligible),
                report.data
            )
        }
    }
}

fn were(count: u64, thing: &str) -> String {
    format!("{} {}", counted(count, thing), if count == 1 { "was" } else { "were" })
}

fn qualify(nodes: u16) -> String {
    format!("{} qualif{}", counted(nodes.into(), "node"), if nodes == 1 { "ies" } else { "y" })
}

fn show_health(report: &StatusReport) {
    match &report.health {
        Some(Standing { degraded: 0, .. }) => {
            println!(
                "health      no segment lacks a shard, by the mediator's word and this machine's checks"
            );
        }
        Some(health) => println!(
            "health      {} of {} segments lack shards, {} cannot be restored now, by the mediator's word and this machine's checks",
            health.degraded, report.segments_looked_at, health.lost
        ),
        None if report.segments == 0 => {}
        None => println!("health      unknown without the mediator; `fincrypt verify` asks storage itself"),
    }
}

fn show_snapshot(snapshot: &SnapshotStatus) {
    let health = snapshot.health.map_or_else(
        || "unknown".to_owned(),
        |health| {
            format!(
                "min {} of {} (needs {}), median {} of {}",
                health.min, health.min_of, health.min_needed, health.median, health.median_of
            )
        },
    );
    println!(
        "snapshot    {}  taken {}, {}, {}\n            {}; healthy shards {health}\n            last proof {}, last test restore {}",
        &snapshot.id[..12],
        ago(Some(snapshot.time)),
        counted(snapshot.files, "file"),
        ByteSize(snapshot.bytes),
        counted(snapshot.segments as u64, "segment"),
        ago(snapshot.last_proof),
        ago(snapshot.last_test_restore)
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_told_in_the_unit_that_matters() {
        let told = [5, 119, 120, 7200, 86_400, 172_800, 864_000].map(span);
        assert_eq!(told, ["5 s", "119 s", "2 min", "2 h", "24 h", "2 days", "10 days"]);
        assert_eq!(ago(None), "never");
        assert_eq!([0, 1].map(qualify), ["0 nodes qualify", "1 node qualifies"]);
    }
}
