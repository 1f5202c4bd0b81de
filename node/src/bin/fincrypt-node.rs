//! A node of any role.

fn main() -> std::process::ExitCode {
    fincrypt_node::cli::node_main()
}
