//! Starting QEMU so that it cannot outlive us.
//!
//! `kill_on_drop` alone is not enough: after `kill -9` of the harness QEMU lives on (measured). The kernel's
//! parent-death signal ends it at once, but that signal follows the THREAD that spawned the child: started
//! from a pool thread, QEMU was killed when the pool retired the thread (measured at 302 ms). So one
//! dedicated thread, which lives as long as the process, starts every child.

use std::io;
use std::sync::OnceLock;
use std::sync::mpsc::{Sender, channel};

use nix::sys::signal::Signal;
use nix::unistd::{getpid, getppid};
use tokio::process::{Child, Command};
use tokio::runtime::Handle;
use tokio::sync::oneshot;

struct Order {
    command: Command,
    runtime: Handle,
    answer: oneshot::Sender<io::Result<Child>>,
}

/// The dedicated thread's inbox; `None` when the thread could not be started.
fn spawner() -> Option<&'static Sender<Order>> {
    static SPAWNER: OnceLock<Option<Sender<Order>>> = OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (inbox, orders) = channel::<Order>();
        let work = move || {
            for mut order in orders {
                let _context = order.runtime.enter();
                drop(order.answer.send(order.command.spawn()));
            }
        };
        std::thread::Builder::new().name("softoff-spawner".into()).spawn(work).ok().map(|_| inbox)
    });
    spawner.as_ref()
}

/// Starts `command` in a process group of its own, killed by the kernel when this process dies and by tokio
/// when the handle is dropped.
pub async fn spawn(mut command: Command) -> io::Result<Child> {
    command.kill_on_drop(true);
    die_with_thread(command.as_std_mut());
    // A group of its own, so that Ctrl-C in the terminal reaches us and not QEMU.
    command.process_group(0);
    let gone = || io::Error::other("the thread that starts processes has gone; start softoff again");
    let (answer, started) = oneshot::channel();
    let order = Order { command, runtime: Handle::current(), answer };
    spawner().ok_or_else(gone)?.send(order).map_err(|_| gone())?;
    started.await.map_err(|_| gone())?
}

/// Has the kernel kill the child as soon as the thread that starts it ends, however that comes. For children
/// that are waited for where they are started; anything longer goes through [`spawn`].
pub fn die_with_thread(command: &mut std::process::Command) {
    use std::os::unix::process::CommandExt;
    let parent = getpid();
    // SAFETY: between fork and exec only async-signal-safe calls are made (prctl, getppid), and nothing is
    // allocated.
    unsafe {
        command.pre_exec(move || {
            nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
            // The parent may have died before prctl took effect.
            if getppid() != parent {
                return Err(io::Error::from_raw_os_error(nix::libc::ESRCH));
            }
            Ok(())
        });
    }
}

#[cfg(test)]
mod tests {
    use nix::unistd::Pid;

    use super::*;

    #[tokio::test]
    async fn a_child_leads_its_own_group_and_dies_with_its_handle() {
        let mut command = Command::new("sleep");
        command.arg("600");
        let child = spawn(command).await.unwrap();
        let pid = Pid::from_raw(i32::try_from(child.id().unwrap()).unwrap());
        assert_eq!(nix::unistd::getpgid(Some(pid)).unwrap(), pid);
        drop(child);
        for _ in 0..500 {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            if stat.is_empty() || stat.contains(") Z ") {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        panic!("sleep {pid} survived its handle");
    }

    #[tokio::test]
    async fn a_missing_program_is_an_error() {
        assert_eq!(
            spawn(Command::new("softoff-no-such-program")).await.unwrap_err().kind(),
            io::ErrorKind::NotFound
        );
    }
}
