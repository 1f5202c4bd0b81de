//! No process outlives its starter, and no scratch folder either.
//!
//! Children run in process groups of their own, so that Ctrl-C at a terminal does not reach them
//! before their starter decides. The price: whoever starts them must end them. Hence one registry
//! for the whole process, which a signal closes, empties and sweeps.

use parking_lot::{Mutex, MutexGuard};
use std::collections::BTreeMap;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{ChildStderr, ChildStdout, Command, ExitStatus};
use std::sync::Once;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitOptions, kill_process_group, waitpid};
use tokio::signal::unix::{SignalKind, signal};

use crate::scratch::remove_tree;

/// Between two looks at a process that is waited for.
const LOOK: Duration = Duration::from_millis(4);

struct Registry {
    closed: bool,
    exit_code: Option<i32>,
    groups: BTreeMap<u32, Pid>,
    folders: Vec<PathBuf>,
}

static REGISTRY: Mutex<Registry> =
    Mutex::new(Registry { closed: false, exit_code: None, groups: BTreeMap::new(), folders: Vec::new() });

fn registry() -> MutexGuard<'static, Registry> {
    // Every change is one insertion or removal, so a panic elsewhere leaves it whole.
    REGISTRY.lock()
}

/// A process in its own group. Dropped, the group is killed.
#[derive(Debug)]
pub struct Child {
    inner: std::process::Child,
    group: Pid,
    status: Option<ExitStatus>,
}

/// Starts a process in its own group.
///
/// # Errors
/// If it cannot be started, or a signal is ending this program.
pub fn spawn(command: &mut Command) -> io::Result<Child> {
    let mut registry = registry();
    if registry.closed {
        return Err(io::Error::new(io::ErrorKind::Interrupted, "a signal is ending the program"));
    }
    let inner = command.process_group(0).spawn()?;
    let id = inner.id();
    let group =
        i32::try_from(id).ok().and_then(Pid::from_raw).ok_or_else(|| io::Error::other("no process id"))?;
    registry.groups.insert(id, group);
    Ok(Child { inner, group, status: None })
}

impl Child {
    /// Its process id, which is also its group's.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.inner.id()
    }

    pub(crate) fn take_pipes(&mut self) -> (Option<ChildStdout>, Option<ChildStderr>) {
        (self.inner.stdout.take(), self.inner.stderr.take())
    }

    /// How it ended, if it has.
    ///
    /// # Errors
    /// If the system does not tell.
    pub fn try_wait(&mut self) -> io::Result<Option<ExitStatus>> {
        if self.status.is_none() {
            // Under the lock: an id that was waited for may be another process's a moment later.
            let mut registry = registry();
            self.status = self.inner.try_wait()?;
            if self.status.is_some() {
                registry.groups.remove(&self.inner.id());
            }
        }
        Ok(self.status)
    }

    /// Waits for its end until `deadline`; none if it still runs then.
    ///
    /// # Errors
    /// If the system does not tell.
    pub fn wait_until(&mut self, deadline: Instant) -> io::Result<Option<ExitStatus>> {
        loop {
            if let Some(status) = self.try_wait()? {
                return Ok(Some(status));
            }
            if Instant::now() >= deadline {
                return Ok(None);
            }
            std::thread::sleep(LOOK);
        }
    }

    /// Signals the whole group; nothing if it has ended.
    ///
    /// # Errors
    /// If the signal cannot be sent.
    pub fn signal(&mut self, signal: Signal) -> io::Result<()> {
        if self.try_wait()?.is_none() {
            kill_process_group(self.group, signal)?;
        }
        Ok(())
    }

    /// SIGKILL, and waits until it is gone.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn kill(&mut self) -> io::Result<()> {
        self.signal(Signal::KILL)?;
        if self.status.is_none() {
            let mut registry = registry();
            self.status = Some(self.inner.wait()?);
            registry.groups.remove(&self.inner.id());
        }
        Ok(())
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let _ = self.kill();
    }
}

pub(crate) fn register_folder(path: &Path) {
    registry().folders.push(path.to_owned());
}

pub(crate) fn forget_folder(path: &Path) {
    registry().folders.retain(|folder| folder != path);
}

/// The exit code after a signal, where 128 + signal would mislead.
pub fn exit_code_on_signal(code: i32) {
    registry().exit_code = Some(code);
}

/// From now on SIGINT, SIGTERM and SIGHUP kill every child, remove every scratch folder and end
/// this program. Later calls do nothing.
pub fn end_all_on_signal() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let (ready, armed) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            match wait_for_signal(&ready) {
                Ok(number) => sweep(number),
                Err(error) => eprintln!("signals cannot be watched: {error}"),
            };
        });
        // Ends when the handlers are set, or at once if the thread gave up.
        let _ = armed.recv();
    });
}

fn wait_for_signal(ready: &std::sync::mpsc::Sender<()>) -> io::Result<i32> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut hangup = signal(SignalKind::hangup())?;
        let _ = ready.send(());
        let kind = tokio::select! {
            _ = interrupt.recv() => SignalKind::interrupt(),
            _ = terminate.recv() => SignalKind::terminate(),
            _ = hangup.recv() => SignalKind::hangup(),
        };
        Ok(kind.as_raw_value())
    })
}

fn sweep(number: i32) -> ! {
    // Held to the end: nobody starts, waits for or removes anything any more.
    let mut registry = registry();
    registry.closed = true;
    for group in registry.groups.values() {
        let _ = kill_process_group(*group, Signal::KILL);
    }
    for group in registry.groups.values() {
        // A folder is not removed under a process that still writes into it.
        let _ = waitpid(Some(*group), WaitOptions::empty());
    }
    for folder in &registry.folders {
        let _ = remove_tree(folder);
    }
    std::process::exit(registry.exit_code.unwrap_or(128 + number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_child_is_killed_with_its_group() {
        let mut command = Command::new("sh");
        command.args(["-c", "sleep 60 & wait"]);
        let child = spawn(&mut command).expect("sh starts");
        let group = child.group;
        drop(child);
        let deadline = Instant::now() + Duration::from_secs(5);
        while rustix::process::test_kill_process_group(group).is_ok() {
            assert!(Instant::now() < deadline, "the group is still there");
            std::thread::sleep(LOOK);
        }
    }

    #[test]
    fn an_ended_child_tells_how() {
        let mut child = spawn(Command::new("sh").args(["-c", "exit 3"])).expect("sh starts");
        let status = child.wait_until(Instant::now() + Duration::from_secs(5)).expect("waits").expect("ends");
        assert_eq!(status.code(), Some(3));
    }
}
