//! What a person types.

fn main() -> std::process::ExitCode {
    fincrypt::cli::client_main()
}
