//! Ten real nodes on this machine: a folder goes in, two storage nodes die, and the folder comes
//! back on a new machine from 24 words. Then the mediator dies, and it comes back once more.

mod build;
mod report;
mod steps;

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use fincrypt_testkit::{Programs, end_all_on_signal, exit_code_on_signal};

/// Backs a folder up into a swarm of ten processes and restores it from its 24 words, twice.
#[derive(Parser)]
#[command(name = "local-swarm", version, about)]
struct Args {
    /// Folder to back up; it is only read [default: one of 64 MB is made for the occasion].
    folder: Option<PathBuf>,
    /// Leave the swarm running until Ctrl-C, and say how to use it.
    #[arg(long)]
    keep: bool,
    /// Folder with fincrypt-node and fincrypt [default: they are built].
    #[arg(long)]
    bin_dir: Option<PathBuf>,
    /// How many storage nodes; two of them are killed.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u8).range(4..=40))]
    storage: u8,
    /// Play the money instead: a bitcoind, a client that pays in, ten epochs, operators who are paid
    /// over Lightning and on the chain, two nodes that cheat.
    #[arg(long, conflicts_with_all = ["folder", "keep"])]
    paid: bool,
    /// Print the result as one JSON document on standard output, progress on standard error.
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    let args = Args::parse();
    end_all_on_signal();
    match run(&args) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("local-swarm: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Whether everybody received what was earned.
#[cfg(feature = "bitcoin")]
fn play_paid(programs: &Programs, json: bool) -> Result<bool, Box<dyn Error>> {
    let table = fincrypt_testkit::play_paid(programs)?;
    if json {
        println!("{}", serde_json::to_string_pretty(&table)?);
    } else {
        print!("\n{table}");
    }
    Ok(table.is_right())
}

/// Whether what came back equals what went in.
fn run(args: &Args) -> Result<bool, Box<dyn Error>> {
    let folder = match &args.folder {
        Some(folder) => {
            Some(folder.canonicalize().map_err(|error| format!("{}: {error}", folder.display()))?)
        }
        None => None,
    };
    #[cfg(not(feature = "bitcoin"))]
    if args.paid {
        return build::run_with_bitcoin();
    }
    let programs = match &args.bin_dir {
        Some(folder) => Programs::in_folder(folder)?,
        None => build::build()?,
    };
    #[cfg(feature = "bitcoin")]
    if args.paid {
        return play_paid(&programs, args.json);
    }
    let mut stage = steps::Stage::set(programs, usize::from(args.storage), folder)?;
    let report = stage.play()?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print!("\n{report}");
    }
    if args.keep {
        stage.mend()?;
        eprint!("{}", stage.how_to_use());
        // Ctrl-C is the expected end here, no failure.
        exit_code_on_signal(i32::from(!report.equal));
        loop {
            std::thread::park();
        }
    }
    Ok(report.equal)
}
