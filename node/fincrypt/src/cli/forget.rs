//! `fincrypt forget` and `prune`.

use std::path::PathBuf;

use clap::Args;
use fincrypt_protocol::ByteSize;

use super::invocation::{Failure, Invocation};
use super::output::{Exit, counted};
use fincrypt_client as client;
use fincrypt_client::{ForgetOptions, Judged, PruneOptions, PruneReport, Rules, parse_duration};

/// Which snapshots go.
#[derive(Args)]
pub(super) struct ForgetArgs {
    /// Snapshots to forget: ids, at least four digits of each, or latest.
    snapshots: Vec<String>,
    /// Keep the N newest.
    #[arg(long, value_name = "N", default_value_t = 0)]
    keep_last: u32,
    /// Keep the last snapshot of each of the last N hours that have one.
    #[arg(long, value_name = "N", default_value_t = 0)]
    keep_hourly: u32,
    /// Keep the last snapshot of each of the last N days that have one, by UTC.
    #[arg(long, value_name = "N", default_value_t = 0)]
    keep_daily: u32,
    /// Keep the last snapshot of each of the last N weeks that have one.
    #[arg(long, value_name = "N", default_value_t = 0)]
    keep_weekly: u32,
    /// Keep the last snapshot of each of the last N months that have one.
    #[arg(long, value_name = "N", default_value_t = 0)]
    keep_monthly: u32,
    /// Keep the last snapshot of each of the last N years that have one.
    #[arg(long, value_name = "N", default_value_t = 0)]
    keep_yearly: u32,
    /// Keep all that are at most this much older than the newest, such as 36h, 14d, 6m or 1y6m.
    #[arg(long, value_name = "DURATION")]
    keep_within: Option<String>,
    /// Let the rules be about snapshots of this folder only.
    #[arg(long)]
    path: Option<PathBuf>,
    /// Only say what would be forgotten.
    #[arg(long)]
    dry_run: bool,
    /// Prune as well.
    #[arg(long)]
    prune: bool,
}

/// How to prune.
#[derive(Args)]
pub(super) struct PruneArgs {
    /// Only say what would be done.
    #[arg(long)]
    dry_run: bool,
    /// Unused bytes that may stay, in percent of the used ones.
    #[arg(long, value_name = "PERCENT", default_value_t = 5)]
    max_unused: u64,
    /// Pack at most this much again, such as 10GB [default: all that is worth it].
    #[arg(long, value_name = "SIZE")]
    max_repack: Option<String>,
    /// Release at once what is marked, rather than a day later: if no other device writes.
    #[arg(long)]
    now: bool,
}

impl ForgetArgs {
    fn options(self) -> Result<ForgetOptions, Failure> {
        let within = self.keep_within.map(|text| {
            parse_duration(&text).ok_or_else(|| {
                Failure::Usage(format!(
                    "{text:?} is no length of time: give one such as 36h, 14d, 6m or 1y6m"
                ))
            })
        });
        let rules = Rules {
            last: self.keep_last,
            hourly: self.keep_hourly,
            daily: self.keep_daily,
            weekly: self.keep_weekly,
            monthly: self.keep_monthly,
            yearly: self.keep_yearly,
            within: within.transpose()?,
        };
        if self.snapshots.is_empty() && rules.is_empty() {
            return Err(Failure::Usage(
                "nothing to forget: name snapshots, or say what to keep with --keep-last N and the like"
                    .to_owned(),
            ));
        }
        Ok(ForgetOptions {
            names: self.snapshots,
            rules,
            path: self.path,
            dry_run: self.dry_run,
            prune: self.prune.then(PruneOptions::default),
        })
    }
}

impl PruneArgs {
    fn options(self) -> Result<PruneOptions, Failure> {
        let max_repack = match self.max_repack {
            None => u64::MAX,
            Some(text) => {
                let size: Result<ByteSize, _> = text.parse();
                size.map_err(|_| Failure::Usage(format!("{text:?} is no size: give one such as 10GB")))?.0
            }
        };
        let max_unused = self.max_unused.saturating_mul(10);
        Ok(PruneOptions { dry_run: self.dry_run, max_unused, max_repack, now: self.now })
    }
}

impl Invocation {
    pub(super) async fn forget(&self, args: ForgetArgs) -> Result<Exit, Failure> {
        let options = args.options()?;
        let vault = self.open()?;
        let report = client::forget(&vault, &options).await?;
        self.print(&report, || {
            // Where only names say what goes, the others are of no interest.
            let others = |judged: &&Judged| judged.reasons == ["not named"];
            for judged in report.kept.iter().filter(|judged| !others(judged)) {
                println!(
                    "keep    {}  {}  {}  {}",
                    &judged.id[..12],
                    judged.when,
                    judged.paths.join(" "),
                    judged.reasons.join(", ")
                );
            }
            let verb = if options.dry_run { "would go" } else { "forgot" };
            for judged in &report.forgotten {
                println!("{verb}  {}  {}  {}", &judged.id[..12], judged.when, judged.paths.join(" "));
            }
            match report.kept.iter().filter(others).count() {
                0 => {}
                1 => println!("1 other snapshot stays."),
                count => println!("{count} other snapshots stay."),
            }
            match &report.prune {
                Some(prune) => show_prune(prune, options.dry_run),
                None if report.forgotten.is_empty() || options.dry_run => {}
                None => println!("Their room is given back by `fincrypt prune`."),
            }
        });
        Ok(Exit::Done)
    }

    pub(super) async fn prune(&self, args: PruneArgs) -> Result<Exit, Failure> {
        let options = args.options()?;
        let vault = self.open()?;
        let report = client::prune(&vault, options).await?;
        self.print(&report, || show_prune(&report, options.dry_run));
        Ok(if report.guarded { Exit::Partly } else { Exit::Done })
    }
}

fn show_prune(report: &PruneReport, dry_run: bool) {
    let would = if dry_run { "would be " } else { "" };
    let of =
        |segments: usize, bytes: u64| format!("{}, {}", counted(segments as u64, "segment"), ByteSize(bytes));
    let stays = counted(report.kept as u64, "segment");
    if report.repacked + report.marked + report.waiting + report.released + report.orphans == 0 {
        println!("Nothing to do: of {stays}, none holds enough unused data.");
    } else {
        let blobs = counted(report.repacked as u64, "blob");
        println!("kept      {stays}");
        println!("repacked  {blobs}, {}, {would}packed into new segments", ByteSize(report.bytes_repacked));
        println!(
            "marked    {}, {would}released by a prune a day later",
            of(report.marked, report.bytes_marked)
        );
        println!("waiting   {}, marked by earlier prunes", of(report.waiting, report.bytes_waiting));
        println!(
            "released  {}, {would}deleted by storage after its delay; until then the words undo it",
            of(report.released, report.bytes_released)
        );
    }
    if report.orphans > 0 {
        println!(
            "unnamed   {} at the holders, left by a run that never ended, or of one under way",
            of(report.orphans, report.bytes_orphans)
        );
    }
    if report.guarded {
        println!("Nothing is released: an undo forbids it, until `fincrypt undo-release --lift`.");
    }
}
