//! The programs that the builders start, and the Debian packages that bring them.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::Context;

/// A program that a builder needs on the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tool {
    /// Name of the executable.
    pub program: &'static str,
    /// Debian (and Ubuntu) package that holds it.
    pub package: &'static str,
    /// What the builder does with it.
    pub used_for: &'static str,
}

/// Everything the reference builder starts.
pub const TOOLS: &[Tool] = &[
    Tool { program: "apt-get", package: "apt", used_for: "fetch the guest's Debian packages" },
    Tool { program: "apt-config", package: "apt", used_for: "carry the host's proxy settings over" },
    Tool { program: "dpkg-deb", package: "dpkg", used_for: "unpack the guest's Debian packages" },
    Tool { program: "xz", package: "xz-utils", used_for: "unpack the guest's kernel modules" },
    Tool { program: "zstd", package: "zstd", used_for: "compress the initial RAM disk" },
    Tool {
        program: "x86_64-w64-mingw32-strip",
        package: "binutils-mingw-w64-x86-64",
        used_for: "strip Wine's DLLs",
    },
    Tool {
        program: "x86_64-w64-mingw32-gcc",
        package: "gcc-mingw-w64-x86-64",
        used_for: "link the Win32 programs",
    },
    Tool { program: "unshare", package: "util-linux", used_for: "make the Wine prefix in a mount namespace" },
    Tool { program: "mkfs.erofs", package: "erofs-utils", used_for: "make the guest's root file system" },
    Tool { program: "mkntfs", package: "ntfs-3g", used_for: "make the guest's system volume" },
    Tool { program: "qemu-img", package: "qemu-utils", used_for: "make the qcow2 system disk" },
    Tool { program: "qemu-system-x86_64", package: "qemu-system-x86", used_for: "fill the system volume" },
    Tool { program: "cargo", package: "cargo", used_for: "build the guest's programs" },
];

/// The keyring that the guest's packages are checked against, from package `debian-archive-keyring`.
pub const DEBIAN_KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

pub use softoff_harness::host::find_program as find;

/// The tools that this host lacks.
pub fn missing() -> Vec<Tool> {
    TOOLS.iter().filter(|tool| find(tool.program).is_none()).copied().collect()
}

/// Fails with one error that names every missing tool and the command that installs them.
pub(crate) fn require_all() -> anyhow::Result<()> {
    let missing = missing();
    let mut lines: Vec<String> = missing
        .iter()
        .map(|t| format!("  {} (package {}): to {}", t.program, t.package, t.used_for))
        .collect();
    let mut packages: Vec<&str> = missing.iter().map(|t| t.package).collect();
    if !Path::new(DEBIAN_KEYRING).exists() {
        lines.push(format!("  {DEBIAN_KEYRING} (package debian-archive-keyring): to check signatures"));
        packages.push("debian-archive-keyring");
    }
    packages.sort_unstable();
    packages.dedup();
    anyhow::ensure!(
        lines.is_empty(),
        "the reference image cannot be built, {} missing here:\n{}\nnext step: sudo apt-get install {}",
        if lines.len() == 1 { "a tool is" } else { "tools are" },
        lines.join("\n"),
        packages.join(" ")
    );
    Ok(())
}

/// A command for one of the [`TOOLS`], with messages in English.
pub(crate) fn command(program: &str) -> Command {
    let mut command = Command::new(find(program).unwrap_or_else(|| program.into()));
    command.env("LC_ALL", "C.UTF-8").stdin(Stdio::null());
    command
}

/// Runs a command to its end and gives its standard output; a failure carries the end of its messages.
pub(crate) fn run(command: &mut Command) -> anyhow::Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.output().with_context(|| format!("cannot start {name}"))?;
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(stdout);
    }
    let said = [stdout, String::from_utf8_lossy(&output.stderr).into_owned()].concat();
    let args: Vec<_> = command.get_args().take(6).map(|a| a.to_string_lossy().into_owned()).collect();
    anyhow::bail!(
        "`{name} {} ...` ended with {}; it said last:\n{}",
        args.join(" "),
        output.status,
        tail(&said, 12)
    )
}

/// The last `lines` lines of a text, for error messages.
pub(crate) fn tail(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.lines().filter(|l| !l.trim().is_empty()).collect();
    all.get(all.len().saturating_sub(lines)..).unwrap_or_default().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_command_says_what_it_said() {
        let error =
            run(command("sh").args(["-c", "echo one; echo two >&2; exit 3"])).unwrap_err().to_string();
        assert!(error.contains("exit status: 3") && error.ends_with("one\ntwo"), "{error}");
    }

    #[test]
    fn only_executables_are_found() {
        assert!(find("sh").is_some());
        assert_eq!(find("no-such-program-anywhere"), None);
    }

    #[test]
    fn a_tail_is_the_end() {
        assert_eq!(tail("a\n\nb\nc\n", 2), "b\nc");
        assert_eq!(tail("a", 5), "a");
    }
}
