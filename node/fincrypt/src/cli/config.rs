//! `config`, of both programs.

use clap::Subcommand;

use super::output::Exit;
use crate::config::Settings;

#[derive(Subcommand)]
pub(super) enum ConfigCommand {
    /// Shows each value, where it came from, and what is wrong with it.
    Check,
}

pub(super) fn run(command: ConfigCommand, settings: &Settings) -> Exit {
    match command {
        ConfigCommand::Check => check(settings),
    }
}

fn check(settings: &Settings) -> Exit {
    let mut exit = Exit::Done;
    for explained in settings.explain() {
        println!("{}", explained.line);
        if let Some(problem) = explained.problem {
            println!("    wrong: {problem}");
            exit = Exit::Failed;
        }
    }
    exit
}
