//! `config`, of both programs.

use clap::Subcommand;
use serde::Serialize;

use super::output::{Exit, print_json, print_lines};
use crate::config::{Explained, Settings};

#[derive(Subcommand)]
pub(super) enum ConfigCommand {
    /// Shows each value, where it came from, and what is wrong with it.
    Check,
}

pub(super) fn run(command: ConfigCommand, settings: &Settings, json: bool) -> Exit {
    match command {
        ConfigCommand::Check => check(settings, json),
    }
}

/// Prints the settings in the syntax of the file.
fn check(settings: &Settings, json: bool) -> Exit {
    #[derive(Serialize)]
    struct List {
        settings: Vec<Explained>,
    }
    let list = List { settings: settings.explain() };
    if json {
        print_json(&list);
    } else {
        print_lines(list.settings.iter().flat_map(|explained| {
            let wrong = explained.problem.as_ref().map(|problem| format!("#     wrong: {problem}"));
            std::iter::once(explained.line()).chain(wrong)
        }));
    }
    let wrong = list.settings.iter().any(|explained| explained.problem.is_some());
    if wrong { Exit::Failed } else { Exit::Done }
}
