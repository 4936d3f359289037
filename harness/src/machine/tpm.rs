//! A throw-away TPM 2.0: `swtpm` beside QEMU, with its state in the machine's folder.
//!
//! Windows 11 refuses to install without a TPM. The state is made anew for every machine and goes with its
//! folder: a guest must not seal keys (BitLocker) into it that it needs at the next start.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use tokio::process::{Child, Command};

use super::process;

/// The emulator of the TPM.
pub const SWTPM: &str = "swtpm";

/// Name of the state's folder inside the machine's folder.
pub const STATE: &str = "tpm";

/// How long swtpm may take until it answers its socket; it was seen to need 5 ms.
const LIMIT: Duration = Duration::from_secs(30);

/// A running swtpm; killed when dropped, and when this process dies.
#[derive(Debug)]
pub struct Tpm {
    child: Child,
    socket: PathBuf,
}

impl Tpm {
    /// Starts swtpm with fresh state in `folder`; what it says goes to `log`.
    pub async fn start(folder: &Path, log: &Path) -> anyhow::Result<Tpm> {
        Tpm::start_program(SWTPM, folder, log).await
    }

    async fn start_program(program: &str, folder: &Path, log: &Path) -> anyhow::Result<Tpm> {
        let state = folder.join(STATE);
        std::fs::create_dir(&state).with_context(|| format!("cannot make {}", state.display()))?;
        let (socket, pid_file) = (folder.join("tpm.sock"), folder.join("tpm.pid"));
        // The listening socket is made here and handed over as standard input, so that QEMU can connect
        // from the first moment: no try connection is needed, which swtpm would take for its only client.
        let listener = UnixListener::bind(&socket)
            .with_context(|| format!("cannot listen on {} for the TPM", socket.display()))?;
        let output = std::fs::File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
        let mut command = Command::new(program);
        // `--terminate`: it ends with the connection, so with QEMU, however that one ends.
        command.args(["socket", "--tpm2", "--terminate", "--ctrl", "type=unixio,fd=0"]);
        command.arg("--tpmstate").arg(format!("dir={},mode=0600", state.display()));
        command.arg("--pid").arg(format!("file={}", pid_file.display()));
        command.stdin(OwnedFd::from(listener)).stdout(output.try_clone()?).stderr(Stdio::from(output));
        let mut child = match process::spawn(command).await {
            Err(e) if e.kind() == io::ErrorKind::NotFound => bail!(
                "this image wants a TPM, and {program} is not installed; \
                 `apt-get install --no-install-recommends swtpm`"
            ),
            other => other.with_context(|| format!("cannot start {program}"))?,
        };
        wait_until_ready(&mut child, &pid_file, log).await?;
        Ok(Tpm { child, socket })
    }

    /// Its control socket, for QEMU's `-tpmdev emulator`.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Ends it if QEMU's end has not, and waits: nothing is written to the folder after this.
    pub async fn stop(mut self) {
        let _ended = self.child.kill().await;
    }
}

/// swtpm writes its pid file as the last thing before it serves.
async fn wait_until_ready(child: &mut Child, pid_file: &Path, log: &Path) -> anyhow::Result<()> {
    let began = Instant::now();
    let said = || {
        let text = std::fs::read_to_string(log).unwrap_or_default();
        crate::text::printable(text.trim(), 500).to_string()
    };
    while !pid_file.exists() {
        if let Some(status) = child.try_wait()? {
            bail!("swtpm ended at once with {status}; it wrote: {}", said());
        }
        if began.elapsed() > LIMIT {
            bail!("swtpm did not write {} within {LIMIT:?}; it wrote: {}", pid_file.display(), said());
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_missing_swtpm_is_told_with_the_way_to_get_it() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("swtpm.log");
        let error = Tpm::start_program("softoff-no-swtpm", folder.path(), &log).await.unwrap_err();
        assert!(error.to_string().contains("apt-get install --no-install-recommends swtpm"), "{error}");
    }

    #[tokio::test]
    async fn a_program_that_ends_at_once_is_quoted() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("swtpm.log");
        let error = Tpm::start_program("ls", folder.path(), &log).await.unwrap_err().to_string();
        assert!(error.contains("ended at once") && error.contains("tpm2"), "{error}");
    }
}
