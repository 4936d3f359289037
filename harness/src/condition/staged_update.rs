//! Cause `windows-update`, the real thing: a package of the user's is staged in a real Windows, whose shutdown then
//! finishes it.
//!
//! The package goes into the guest through its agent and is staged by what Windows brings: `wusa` for .msu, `dism` for
//! .cab (fact sheet B.1). Nothing is restarted; that is the request's business. Take a disk that may be changed for good:
//! a machine that is killed in the middle of servicing may not boot again.

use std::path::PathBuf;

use serde::Deserialize;

use super::means::WindowsMeans;
use super::{Part, Proof, Realism, Subject};
use crate::guest::registry_facts::REBOOT_PENDING;
use crate::guest::upload::upload;
use crate::image::GuestFamily;
use crate::inject::HiveEdit;
use crate::machine::agent::AgentError;
use crate::outcome::Cause;
use crate::text::printable;

/// Where the package goes in the guest.
const PLACE: &str = r"C:\Windows\Temp\softoff-package";

/// wusa: staged, and a restart is needed (ERROR_SUCCESS_REBOOT_REQUIRED); dism says the same.
const REBOOT_REQUIRED: i64 = 3010;

/// The condition: this package is staged.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StagedUpdate {
    /// The .msu or .cab on the host, from the folder that the run is started in.
    pub package: PathBuf,
}

impl StagedUpdate {
    fn extension(&self) -> String {
        self.package.extension().unwrap_or_default().to_string_lossy().to_ascii_lowercase()
    }

    /// Puts the package into the guest and stages it.
    pub(super) async fn enter(&self, subject: &Subject<'_>) -> Result<(), AgentError> {
        let guest = subject.guest;
        let place = format!("{PLACE}.{}", self.extension());
        upload(guest.agent(), &self.package, &place).await?;
        let by_path = format!("/packagepath:{place}");
        let (program, args): (&str, &[&str]) = match self.extension().as_str() {
            "msu" => ("wusa", &[&place, "/quiet", "/norestart"]),
            _ => ("dism", &["/online", "/add-package", &by_path, "/norestart", "/quiet"]),
        };
        let result = guest.run_long(program, args).await?;
        match result.code {
            Some(0 | REBOOT_REQUIRED) => Ok(()),
            code => {
                let said =
                    printable(format!("{} {}", result.stdout.trim(), result.stderr.trim()).trim(), 300);
                let description = format!("{program} ended with {code:?}: {said}");
                Err(AgentError::Refused { command: format!("guest-exec {program}"), description })
            }
        }
    }

    /// Proven by what servicing leaves: RebootPending.
    pub(super) async fn prove(&self, subject: &Subject<'_>) -> Result<Proof, AgentError> {
        if subject.guest.family() != GuestFamily::Windows {
            let evidence = "only a Windows can be updated".into();
            return Ok(Proof { present: false, evidence });
        }
        let key = format!(r"HKLM\SOFTWARE\{REBOOT_PENDING}");
        let pending = subject.guest.run("reg", &["query", &key]).await?.code == Some(0);
        let evidence = format!("RebootPending {}", if pending { "exists" } else { "is absent" });
        Ok(Proof { present: pending, evidence })
    }
}

impl Part for StagedUpdate {
    fn id(&self) -> String {
        "staged-update".into()
    }

    fn cause(&self) -> Cause {
        Cause::WindowsUpdate
    }

    fn offline(&self, _family: GuestFamily) -> Vec<HiveEdit> {
        Vec::new()
    }

    fn windows_means(&self) -> WindowsMeans {
        WindowsMeans::StagedPackage
    }

    fn realism_in_reference(&self) -> Realism {
        Realism { real: "nothing: only a Windows can be updated", modelled: "not available" }
    }
}
