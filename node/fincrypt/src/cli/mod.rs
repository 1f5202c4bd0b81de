//! What is typed: the two programs' arguments, prompts, output and exit codes.

mod advice;
mod args;
mod client;
mod config;
mod drain;
mod forget;
mod init;
mod invocation;
mod local;
mod log;
mod mediator;
mod node;
mod node_status;
mod output;
mod prepayment;
mod qr;
mod release;
mod restore;
mod secret;
mod status;
mod wallet;

use std::ffi::OsString;
use std::process::ExitCode;

pub use output::Exit;

/// `fincrypt`, with the process's arguments.
#[must_use]
pub fn client_main() -> ExitCode {
    client_main_from(std::env::args_os().collect())
}

/// `fincrypt`, with these arguments; the first is the program's name.
#[must_use]
pub fn client_main_from(args: Vec<OsString>) -> ExitCode {
    client::main(args).into()
}

/// `fincrypt-node`, with the process's arguments.
#[must_use]
pub fn node_main() -> ExitCode {
    node_main_from(std::env::args_os().collect())
}

/// `fincrypt-node`, with these arguments; the first is the program's name.
#[must_use]
pub fn node_main_from(args: Vec<OsString>) -> ExitCode {
    node::main(args).into()
}
