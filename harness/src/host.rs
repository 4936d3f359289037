//! The host a run took place on: what a result may depend on, and nothing that names a person or a place.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What tells two hosts apart in records. The host's name is left out on purpose.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HostFingerprint {
    /// Kernel release, as `uname -r` gives it.
    pub kernel: String,
    /// Processor model, from /proc/cpuinfo; `unknown` where that has no `model name`.
    pub cpu_model: String,
    /// Processors this process may run on.
    pub cpus: u32,
    /// Memory in MiB, from /proc/meminfo.
    pub memory_mib: u64,
    /// PRETTY_NAME of os-release; `unknown` without one.
    pub distribution: String,
    /// QEMU's version with its packager's suffix, as [`qemu_version`] gives it.
    pub qemu: String,
    /// Softoff's own version.
    pub softoff: String,
}

/// Why the host could not be described.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// A file of /proc could not be read.
    #[error("cannot read {path}: {source}; next: Softoff needs Linux with /proc mounted")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file of /proc has another form than proc(5) says.
    #[error("{path} has no usable `{field}`")]
    Field {
        /// The file.
        path: PathBuf,
        /// The field.
        field: &'static str,
    },
    /// uname(2) failed.
    #[error("uname: {0}")]
    Uname(nix::Error),
    /// QEMU could not be run.
    #[error("cannot run `{qemu} --version`: {why}; next: apt-get install qemu-system-x86")]
    Qemu {
        /// The program.
        qemu: PathBuf,
        /// Why.
        why: String,
    },
}

impl HostFingerprint {
    /// Describes this host; runs `qemu --version` once.
    pub fn collect(qemu: &Path) -> Result<HostFingerprint, HostError> {
        let meminfo = read("/proc/meminfo")?;
        let memory =
            field(&meminfo, "MemTotal").and_then(|text| text.trim_end_matches(" kB").parse::<u64>().ok());
        let memory = memory.ok_or(HostError::Field { path: "/proc/meminfo".into(), field: "MemTotal" })?;
        Ok(HostFingerprint {
            kernel: kernel_release()?,
            cpu_model: cpu_model(),
            cpus: std::thread::available_parallelism()
                .map_or(1, |n| u32::try_from(n.get()).unwrap_or(u32::MAX)),
            memory_mib: memory / 1024,
            distribution: distribution(),
            qemu: qemu_version(qemu)?,
            softoff: env!("CARGO_PKG_VERSION").to_owned(),
        })
    }
}

/// Processor model, from /proc/cpuinfo; `unknown` where that has no `model name`.
pub fn cpu_model() -> String {
    let cpuinfo = read("/proc/cpuinfo").unwrap_or_default();
    field(&cpuinfo, "model name").unwrap_or("unknown").to_owned()
}

/// Kernel release, as `uname -r` gives it.
pub fn kernel_release() -> Result<String, HostError> {
    let uname = nix::sys::utsname::uname().map_err(HostError::Uname)?;
    Ok(uname.release().to_string_lossy().into_owned())
}

/// QEMU's version as its first line of `--version` gives it, such as `7.2.22 (Debian 1:7.2+dfsg-7+deb12u18)`.
pub fn qemu_version(qemu: &Path) -> Result<String, HostError> {
    let error = |why: String| HostError::Qemu { qemu: qemu.to_owned(), why };
    let output = Command::new(qemu).arg("--version").output().map_err(|e| error(e.to_string()))?;
    let said = String::from_utf8_lossy(&output.stdout);
    let first = said.lines().next().unwrap_or_default();
    match first.split_once(" version ") {
        Some((_, version)) if output.status.success() => Ok(version.trim().to_owned()),
        _ => Err(error(format!("{}, it said {first:?}", output.status))),
    }
}

fn distribution() -> String {
    // os-release(5): the second path is the vendor's, the first the administrator's.
    let texts = ["/etc/os-release", "/usr/lib/os-release"].map(std::fs::read_to_string);
    let text = texts.into_iter().find_map(Result::ok).unwrap_or_default();
    let name = text.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    name.map_or("unknown", |name| name.trim_matches(['"', '\''])).to_owned()
}

fn read(path: &str) -> Result<String, HostError> {
    let bytes = std::fs::read(path).map_err(|source| HostError::Read { path: path.into(), source })?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The first `name : value` of a /proc text.
fn field<'t>(text: &'t str, name: &str) -> Option<&'t str> {
    let mut pairs = text.lines().filter_map(|line| line.split_once(':'));
    pairs.find(|(found, _)| found.trim() == name).map(|(_, value)| value.trim())
}

/// Where a program is: in `$PATH`, or in the `sbin` folders that users do not have in theirs.
pub fn find_program(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|dir| dir.join(program))
        .find(|candidate| is_executable(candidate))
}

fn is_executable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    path.metadata().is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_host_is_described() {
        let host = HostFingerprint::collect(Path::new("qemu-system-x86_64"))
            .expect("next: apt-get install qemu-system-x86");
        assert!(host.cpus >= 1 && host.memory_mib > 128 && !host.kernel.is_empty(), "{host:?}");
        assert!(host.qemu.starts_with(|c: char| c.is_ascii_digit()), "{host:?}");
        let name = nix::unistd::gethostname().unwrap().into_string().unwrap();
        let record = serde_json::to_value(&host).unwrap();
        assert!(!record.as_object().unwrap().values().any(|value| value == name.as_str()), "{record}");
    }

    #[test]
    fn a_missing_qemu_is_an_error_with_a_next_step() {
        let error = qemu_version(Path::new("/nowhere/qemu")).unwrap_err().to_string();
        assert!(error.contains("/nowhere/qemu") && error.contains("apt-get install"), "{error}");
        assert!(qemu_version(Path::new("false")).is_err());
    }

    #[test]
    fn fields_of_proc_texts() {
        let text = "processor\t: 0\nmodel name\t: A: B\nmodel name\t: C\n";
        assert_eq!(field(text, "model name"), Some("A: B"));
        assert_eq!(field(text, "model"), None);
    }
}
