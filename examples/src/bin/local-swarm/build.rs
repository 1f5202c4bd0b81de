//! Builds the two programs.

use std::error::Error;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use fincrypt_testkit::{Programs, spawn};

/// Builds them in release mode into the target folder that this program comes from.
pub(crate) fn build() -> Result<Programs, Box<dyn Error>> {
    let own = std::env::current_exe()?;
    // <target>/<profile>/local-swarm
    let target =
        own.parent().and_then(Path::parent).ok_or("this program is not in a target folder: use --bin-dir")?;
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    eprintln!("building fincrypt-node and fincrypt");
    let mut command = Command::new(&cargo);
    command.args(["build", "--release", "-p", "fincrypt", "--bins"]);
    command.arg("--manifest-path").arg(workspace().join("Cargo.toml")).arg("--target-dir").arg(target);
    let mut child =
        spawn(&mut command).map_err(|error| format!("cannot run {}: {error}", cargo.display()))?;
    // A build ends by itself or by a signal; its length is anyone's guess.
    let far = std::time::Instant::now() + std::time::Duration::from_secs(24 * 3600);
    match child.wait_until(far)? {
        Some(status) if status.success() => Ok(Programs::in_folder(&target.join("release"))?),
        _ => Err("the programs could not be built: see above, or use --bin-dir".into()),
    }
}

/// The workspace's folder.
fn workspace() -> PathBuf {
    let package = std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    let package = PathBuf::from(package);
    package.parent().map(Path::to_owned).unwrap_or(package)
}
