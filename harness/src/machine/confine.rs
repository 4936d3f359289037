//! What a program that works on a guest's bytes may do on the host: QEMU, and the one that reads its screen.
//!
//! Beside QEMU's own `-sandbox` (seccomp), a program started through [`confine`] sees the file system through Landlock:
//! it reads what it was given and the system's programs, writes to what it was given, and nothing else; where the kernel
//! knows how, it opens no TCP port and sends no signal to anybody. Started by root it loses every capability, and gets
//! a network of its own with nothing in it. What a kernel cannot do is left out, and [`describe`] says so.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, Ruleset, RulesetAttr, RulesetCreatedAttr,
    Scope, path_beneath_rules,
};
use nix::libc;

/// The newest Landlock that is asked for; older kernels do less.
const LANDLOCK: ABI = ABI::V6;

/// Where the system keeps programs, libraries and what they read at their start. Not /etc as a whole, which holds
/// secrets, and no one's home.
const SYSTEM: &[&str] = &[
    "/bin",
    "/dev",
    "/etc/crypto-policies",
    "/etc/gnutls",
    "/etc/ld.so.cache",
    "/etc/localtime",
    "/etc/qemu",
    "/gnu",
    "/lib",
    "/lib32",
    "/lib64",
    "/nix",
    "/opt",
    "/proc",
    "/sbin",
    "/sys",
    "/usr",
];

/// What a program may open beside the system's own files.
#[derive(Debug, Clone, Default)]
pub struct Bounds {
    /// Files and folders to read.
    pub read: Vec<PathBuf>,
    /// Files and folders to read and write.
    pub write: Vec<PathBuf>,
}

/// Confines what `command` starts. Nothing changes for this process.
pub fn confine(command: &mut std::process::Command, bounds: &Bounds) -> io::Result<()> {
    use std::os::unix::process::CommandExt;
    let rules = landlock_rules(bounds)?;
    let root = nix::unistd::geteuid().is_root();
    let last_capability = last_capability();
    // SAFETY: between fork and exec only system calls are made, and nothing is allocated; `rules` is a descriptor that
    // the closure owns.
    unsafe {
        command.pre_exec(move || {
            if root {
                // Fails in a container that may not; `-nic none` gives the guest no network either way.
                let _own = libc::unshare(libc::CLONE_NEWNET);
                drop_capabilities(last_capability);
            }
            nix::sys::prctl::set_no_new_privs()?;
            if let Some(rules) = &rules {
                restrict_self(rules)?;
            }
            Ok(())
        });
    }
    Ok(())
}

/// The rules as the kernel holds them; `None` where it has no Landlock.
fn landlock_rules(bounds: &Bounds) -> io::Result<Option<OwnedFd>> {
    let read = AccessFs::from_read(LANDLOCK);
    let all = AccessFs::from_all(LANDLOCK);
    let build = || -> Result<Option<OwnedFd>, landlock::RulesetError> {
        let rules = Ruleset::default()
            .set_compatibility(CompatLevel::BestEffort)
            .handle_access(all)?
            .handle_access(AccessNet::from_all(LANDLOCK))?
            .scope(Scope::from_all(LANDLOCK))?
            .create()?
            .add_rules(path_beneath_rules(SYSTEM, read))?
            .add_rules(path_beneath_rules(&bounds.read, read))?
            .add_rules(path_beneath_rules(["/dev/kvm", "/dev/null"], all))?
            .add_rules(path_beneath_rules(&bounds.write, all))?;
        Ok(rules.into())
    };
    build().map_err(io::Error::other)
}

fn restrict_self(rules: &OwnedFd) -> io::Result<()> {
    // SAFETY: the descriptor is a Landlock ruleset's, and is open.
    match unsafe { libc::syscall(libc::SYS_landlock_restrict_self, rules.as_raw_fd(), 0) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// The kernel's last capability; 40 (CAP_CHECKPOINT_RESTORE) where it does not tell.
fn last_capability() -> libc::c_ulong {
    let told = std::fs::read_to_string("/proc/sys/kernel/cap_last_cap").ok();
    told.and_then(|text| text.trim().parse().ok()).unwrap_or(40)
}

/// Empties the bounding set: root keeps nothing over the next exec (capabilities(7), transformation during execve).
fn drop_capabilities(last: libc::c_ulong) {
    for capability in 0..=last {
        // SAFETY: prctl with plain numbers.
        let _gone = unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) };
    }
}

/// What confines QEMU on this host, for people.
pub fn describe() -> String {
    let landlock = match landlock_version() {
        0 => "files: not confined (this kernel has no Landlock)".to_owned(),
        version => format!("files: Landlock, version {version}"),
    };
    let root = match nix::unistd::geteuid().is_root() {
        true => "started by root: no capabilities, a network of its own",
        false => "started without privileges",
    };
    format!("seccomp (-sandbox); {landlock}; {root}")
}

/// Landlock's version in this kernel, 0 without it.
pub fn landlock_version() -> i64 {
    const VERSION: libc::c_uint = 1;
    // SAFETY: with this flag the kernel wants no attribute and only answers (landlock_create_ruleset(2)).
    let answer = unsafe {
        libc::syscall(libc::SYS_landlock_create_ruleset, std::ptr::null::<libc::c_void>(), 0usize, VERSION)
    };
    answer.max(0)
}

/// What a program itself reads, where it is not one of the system's: its file, and what was installed beside it.
pub fn program(name: &str) -> Vec<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|dir| dir.join(name)).find(|file| file.is_file());
    let Some(file) = found.and_then(|file| file.canonicalize().ok()) else { return Vec::new() };
    let bin = folder_of(&file);
    let prefix = (bin.ends_with("bin") && bin.components().count() > 2).then(|| folder_of(&bin));
    [Some(file), prefix].into_iter().flatten().collect()
}

/// A path's folder; the root's where it has none.
pub(crate) fn folder_of(path: &Path) -> PathBuf {
    path.parent().unwrap_or(Path::new("/")).to_owned()
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    /// What a shell that is confined to `write` says and how it ends.
    fn shell(script: &str, write: &Path) -> (bool, String) {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]).current_dir("/");
        confine(&mut command, &Bounds { read: vec![], write: vec![write.to_owned()] }).unwrap();
        let output = command.output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&said).into_owned())
    }

    #[test]
    fn files_outside_are_out_of_reach() {
        assert!(landlock_version() > 0, "this kernel has no Landlock: nothing can be shown here");
        let (inside, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        std::fs::write(outside.path().join("secret"), "plain").unwrap();
        let (written, read) = (inside.path().join("x"), outside.path().join("secret"));
        let ok = shell(&format!("echo hello > {0} && cat {0}", written.display()), inside.path());
        assert_eq!(ok, (true, "hello\n".into()));
        for refused in [
            format!("cat {}", read.display()),
            format!("echo x > {}/y", outside.path().display()),
            format!("rm {}", read.display()),
            "cat /etc/passwd".into(),
            "ls /root".into(),
            "echo x > /usr/softoff-test".into(),
        ] {
            let (ok, said) = shell(&refused, inside.path());
            assert!(!ok && said.to_lowercase().contains("denied"), "{refused}: {said}");
        }
        assert_eq!(std::fs::read_to_string(read).unwrap(), "plain");
    }

    #[test]
    fn no_privileges_are_left_and_none_can_be_had() {
        let dir = tempfile::tempdir().unwrap();
        let (ok, status) = shell("cat /proc/self/status", dir.path());
        assert!(ok, "{status}");
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.trim().to_owned()
        };
        assert_eq!(field("NoNewPrivs:"), "1");
        if nix::unistd::geteuid().is_root() {
            for set in ["CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"] {
                assert_eq!(field(set), "0000000000000000", "{set}");
            }
        }
    }

    #[test]
    fn nobody_is_reached_by_network_or_signal() {
        let dir = tempfile::tempdir().unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let connect = format!("exec 3<>/dev/tcp/127.0.0.1/{port}");
        let reach = |confined: bool| {
            let mut command = Command::new("bash");
            command.args(["-c", &connect]);
            if confined {
                confine(&mut command, &Bounds { read: vec![], write: vec![dir.path().to_owned()] }).unwrap();
            }
            command.output().unwrap().status.success()
        };
        assert!(reach(false), "the control: without bounds it connects");
        if landlock_version() >= 4 || nix::unistd::geteuid().is_root() {
            assert!(!reach(true), "a confined program connected");
        }
        if landlock_version() >= 6 {
            let (ok, said) = shell(&format!("kill -0 {}", std::process::id()), dir.path());
            assert!(!ok, "it may send signals: {said}");
        }
    }
}
