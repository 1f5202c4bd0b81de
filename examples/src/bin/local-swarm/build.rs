//! Builds the two programs, and this one again where money is to be played.

use std::error::Error;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::{Duration, Instant};

use fincrypt_testkit::{Programs, spawn};

/// Builds the two programs as this one was built, by profile, into the target folder that it comes from:
/// without Bitcoin, or with it if this program was built with it.
pub(crate) fn build() -> Result<Programs, Box<dyn Error>> {
    let Built { target, folder, .. } = built()?;
    eprintln!("building fincrypt-node and fincrypt");
    let mut command = cargo("build")?;
    command.args(["-p", "fincrypt", "--bins", "--no-default-features"]);
    if cfg!(feature = "bitcoin") {
        command.args(["--features", "bitcoin"]);
    }
    command.arg("--target-dir").arg(&target);
    if run(&mut command)?.success() {
        Ok(Programs::in_folder(&folder)?)
    } else {
        Err("the programs could not be built: see above, or use --bin-dir".into())
    }
}

/// Builds and runs this program again with Bitcoin and the same arguments. That build has a target
/// folder of its own, so that neither build throws the other's work away.
#[cfg(not(feature = "bitcoin"))]
pub(crate) fn run_with_bitcoin() -> Result<bool, Box<dyn Error>> {
    let mut command = cargo("run")?;
    command.args(["-p", "fincrypt-examples", "--features", "bitcoin"]);
    command.args(["--bin", "local-swarm", "--target-dir"]).arg(built()?.target.join("bitcoin")).arg("--");
    Ok(run(command.args(std::env::args_os().skip(1)))?.success())
}

/// `cargo SUBCOMMAND --profile …`, at work on this workspace.
fn cargo(subcommand: &str) -> Result<Command, Box<dyn Error>> {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo")));
    command.arg(subcommand).arg("--profile").arg(built()?.profile);
    command.arg("--manifest-path").arg(workspace().join("Cargo.toml"));
    Ok(command)
}

fn run(command: &mut Command) -> Result<ExitStatus, Box<dyn Error>> {
    let name = command.get_program().to_string_lossy().into_owned();
    let mut child = spawn(command).map_err(|error| format!("cannot run {name}: {error}"))?;
    // It ends by itself or by a signal; how long a build takes depends on the machine.
    let far = Instant::now() + Duration::from_secs(24 * 3600);
    child.wait_until(far)?.ok_or_else(|| format!("{name} does not end").into())
}

/// How this program was built: it is `<target>/<folder of the profile>/local-swarm`.
struct Built {
    target: PathBuf,
    folder: PathBuf,
    profile: OsString,
}

fn built() -> Result<Built, Box<dyn Error>> {
    let none = "this program is not in a target folder: use --bin-dir";
    let own = std::env::current_exe()?;
    let folder = own.parent().ok_or(none)?.to_owned();
    let target = folder.parent().ok_or(none)?.to_owned();
    // The one profile whose folder has another name.
    let name = folder.file_name().ok_or(none)?;
    let profile = if name == "debug" { OsString::from("dev") } else { name.to_owned() };
    Ok(Built { target, folder, profile })
}

/// The workspace's folder.
fn workspace() -> PathBuf {
    let package = std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    let package = PathBuf::from(package);
    package.parent().map(Path::to_owned).unwrap_or(package)
}
