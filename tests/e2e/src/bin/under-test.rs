//! Both programs in one, so that tests run the very code that was compiled with them:
//! `under-test fincrypt-node ARGUMENT…` and `under-test fincrypt ARGUMENT…`.

use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<_> = std::env::args_os().skip(1).collect();
    match args.first().and_then(|name| name.to_str()) {
        Some("fincrypt-node") => fincrypt::cli::node_main_from(args),
        Some("fincrypt") => fincrypt::cli::client_main_from(args),
        _ => {
            eprintln!("usage: under-test fincrypt-node|fincrypt ARGUMENT…");
            ExitCode::from(2)
        }
    }
}
