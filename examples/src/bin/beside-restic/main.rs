//! The whole swarm beside restic, on one machine and one set: first backup, unchanged backup,
//! restore. Both write below one scratch folder, so both have the same disk.

mod measure;
mod set;

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use fincrypt_testkit::{Programs, end_all_on_signal};

/// Prints a table: the swarm of ten processes and restic, on the same set in the same run.
#[derive(Parser)]
#[command(name = "beside-restic", version, about)]
struct Args {
    /// Folder with fincrypt-node and fincrypt, built with --release.
    #[arg(long, default_value = "target/release")]
    bin_dir: PathBuf,
    /// Folder to back up [default: half source text from cargo's registry, half random, in small files].
    #[arg(long)]
    set: Option<PathBuf>,
    /// Megabytes of the set that is made.
    #[arg(long, default_value_t = 800)]
    megabytes: u64,
    /// Folder for everything that is written [default: the system's temporary folder].
    #[arg(long)]
    scratch: Option<PathBuf>,
    /// Rounds; the best of each figure counts, for both.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
}

fn main() -> ExitCode {
    let args = Args::parse();
    end_all_on_signal();
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("beside-restic: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<(), Box<dyn Error>> {
    let programs = Programs::in_folder(&args.bin_dir)?;
    let mut builder = tempfile::Builder::new();
    builder.prefix("beside-restic-");
    let scratch = match &args.scratch {
        Some(folder) => builder.tempdir_in(folder)?,
        None => builder.tempdir()?,
    };
    let source = match &args.set {
        Some(folder) => folder.canonicalize()?,
        None => {
            let folder = scratch.path().join("set");
            set::make(&folder, args.megabytes << 20)?;
            folder
        }
    };
    let table = measure::compare(&programs, &source, scratch.path(), args.rounds)?;
    print!("{table}");
    Ok(())
}
