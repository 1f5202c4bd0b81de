//! What a person types.

fn main() -> std::process::ExitCode {
    fincrypt_node::cli::client_main()
}
