//! Ends that are no soft shutdown: the guest restarts or crashes where it should power off, or goes down
//! without having been asked.
//!
//! None of the seven documented causes; here so that the harness is shown not to take such an end for
//! powered-off. The reference guest models them by a value of its own.

use serde::Deserialize;

use super::{Part, Proof, Realism, Subject, WindowsMeans};
use crate::disk::{Hive, RegistryValue};
use crate::guest::driver::LiveValue;
use crate::image::GuestFamily;
use crate::inject::HiveEdit;
use crate::machine::agent::AgentError;
use crate::outcome::Cause;

/// What the guest does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum End {
    /// Restarts instead of powering off.
    Reboots,
    /// Its kernel panics instead of powering off.
    Crashes,
    /// Powers off some seconds after its desktop came, asked by nobody.
    ByItself,
}

/// The condition.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FaultyEnd {
    /// What the guest does.
    pub end: End,
    /// For `by-itself`: how long after its desktop came, seconds.
    #[serde(default = "seconds")]
    pub seconds: u32,
}

fn seconds() -> u32 {
    1
}

/// Below HKLM\\SOFTWARE; the reference guest's own.
const MODEL: &str = r"Softoff\Reference";

impl FaultyEnd {
    fn value(&self) -> (&'static str, RegistryValue, LiveValue) {
        let text = |word: &str| (RegistryValue::String(word.into()), LiveValue::Text(word.into()));
        let (name, (written, live)) = match self.end {
            End::Reboots => ("AtShutdown", text("reboot")),
            End::Crashes => ("AtShutdown", text("crash")),
            End::ByItself => {
                ("PowerOffAfterSeconds", (RegistryValue::Dword(self.seconds), LiveValue::Dword(self.seconds)))
            }
        };
        (name, written, live)
    }

    pub(super) async fn prove(&self, subject: &Subject<'_>) -> Result<Proof, AgentError> {
        if subject.guest.family() != GuestFamily::Reference {
            let evidence = "a model of the reference guest's, which this guest is not".into();
            return Ok(Proof { present: false, evidence });
        }
        let (name, _, wanted) = self.value();
        let found = subject.guest.registry(&format!(r"HKLM\SOFTWARE\{MODEL}"), name).await?;
        let evidence = format!("live registry: {name} is {found:?}");
        Ok(Proof { present: found == Some(wanted), evidence })
    }
}

impl Part for FaultyEnd {
    fn id(&self) -> String {
        "faulty-end".into()
    }

    fn cause(&self) -> Cause {
        Cause::Unknown
    }

    fn offline(&self, _family: GuestFamily) -> Vec<HiveEdit> {
        let (name, value, _) = self.value();
        vec![HiveEdit::new(Hive::Software, MODEL, name, value)]
    }

    fn windows_means(&self) -> WindowsMeans {
        WindowsMeans::None
    }

    fn realism_in_windows(&self) -> Realism {
        Realism { real: "nothing: Windows has no such setting", modelled: "not available" }
    }

    fn realism_in_reference(&self) -> Realism {
        Realism {
            real: "the reset, the kernel panic and its pvpanic event, the S5",
            modelled: "why it comes to that, by the session",
        }
    }
}
