//! A node of any role.

fn main() -> std::process::ExitCode {
    fincrypt::cli::node_main()
}
