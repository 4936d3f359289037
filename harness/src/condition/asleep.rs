//! Cause `asleep`: the system sleeps, or its display is off, when the request comes.
//!
//! In S3 QEMU's power-down sets a status bit and wakes nobody (fact sheet A.1). With the display off, the
//! first press only lights it, and the second acts (Nutanix and field reports, fact sheet 0.3).

use std::time::Duration;

use serde::Deserialize;

use super::{Outlook, Part, Prediction, PressEffect, Proof, Realism, Rule, Subject, Sureness, WindowsMeans};
use crate::disk::HibernationFile;
use crate::disk::{Hive, RegistryValue};
use crate::evidence::{Evidence, EvidenceKind, Finding};
use crate::guest::power_policy::{AC, POLICY};
use crate::guest::registry_facts::{VIDEOCONLOCK, VIDEOIDLE};
use crate::image::GuestFamily;
use crate::inject::HiveEdit;
use crate::machine::agent::AgentError;
use crate::outcome::{Cause, OutcomeKind};
use crate::settle::last_boot;
use crate::timeline::{Observation, Seen, Source};

/// How long falling asleep may take. The reference guest needs about 2 s to S3 under TCG.
const LIMIT: Duration = Duration::from_secs(60);

/// How it sleeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sleep {
    /// Suspended to memory, by the agent's guest-suspend-ram.
    S3,
    /// Hibernated, by the agent's guest-suspend-disk: the machine is off, its memory on the disk.
    S4,
    /// Only the display is off (VIDEOIDLE).
    Display,
}

/// The condition.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Asleep {
    /// How it sleeps.
    pub state: Sleep,
}

impl Asleep {
    /// Puts the guest to sleep where that is done online.
    pub(super) async fn enter(&self, subject: &Subject<'_>) -> Result<(), AgentError> {
        // A boot that died before this one has left events of its own.
        let from = subject.machine.timeline().len();
        let awaited = match self.state {
            Sleep::S3 => {
                subject.guest.suspend_to_ram().await?;
                "SUSPEND"
            }
            Sleep::S4 => {
                subject.guest.suspend_to_disk().await?;
                "SHUTDOWN"
            }
            Sleep::Display => return Ok(()),
        };
        let came = |o: &Observation| is_event(o, awaited).then_some(());
        let _seen = subject.machine.timeline().wait_from(from, LIMIT, came).await;
        Ok(())
    }

    pub(super) async fn prove(&self, subject: &Subject<'_>) -> Result<Proof, AgentError> {
        let machine = subject.machine;
        match self.state {
            Sleep::S3 => {
                let state = machine.run_state(LIMIT).await.unwrap_or_else(|e| e.to_string());
                Ok(Proof { present: state == "suspended", evidence: format!("QEMU's run state is {state}") })
            }
            Sleep::S4 => {
                let state = machine.run_state(LIMIT).await.unwrap_or_else(|e| e.to_string());
                let so_far = machine.timeline().snapshot();
                let to_disk = last_boot(&so_far).iter().any(|o| is_event(o, "SUSPEND_DISK"));
                let told = if to_disk { "was told" } else { "was not told" };
                let evidence = format!("SUSPEND_DISK {told}, QEMU's run state is {state}");
                Ok(Proof { present: to_disk && state == "shutdown", evidence })
            }
            Sleep::Display => {
                let began = std::time::Instant::now();
                while began.elapsed() < LIMIT {
                    if machine.screen_is_dark().await {
                        return Ok(Proof { present: true, evidence: "the screen is black".into() });
                    }
                    tokio::time::sleep(Duration::from_millis(500)).await;
                }
                machine.timeline().add(Source::Screen, Seen::Screen { dark: false });
                Ok(Proof {
                    present: false,
                    evidence: format!("the screen did not go black within {LIMIT:?}"),
                })
            }
        }
    }
}

impl Part for Asleep {
    fn cause(&self) -> Cause {
        Cause::Asleep
    }

    fn offline(&self, _family: GuestFamily) -> Vec<HiveEdit> {
        match self.state {
            Sleep::S3 | Sleep::S4 => Vec::new(),
            Sleep::Display => vec![display_off_after(VIDEOIDLE, 5)],
        }
    }

    fn windows_means(&self) -> WindowsMeans {
        match self.state {
            Sleep::S3 | Sleep::S4 => WindowsMeans::AgentSuspend,
            Sleep::Display => WindowsMeans::RegistryValues,
        }
    }

    fn realism_in_reference(&self) -> Realism {
        Realism {
            real: "S3, its wake-up, S4, the dark screen",
            modelled: "the idle timer and the swallowed press, by the session",
        }
    }
}

fn display_off_after(setting: &str, seconds: u32) -> HiveEdit {
    HiveEdit::new(Hive::Software, format!(r"{POLICY}\{setting}"), AC, RegistryValue::Dword(seconds))
}

/// What is known of this cause.
pub const RULE: Rule = Rule {
    cause: Cause::Asleep,
    detect,
    predict,
    remedy: "QMP system_wakeup, or a harmless key, then press; or VIDEOIDLE and VIDEOCONLOCK 0, standby 0, powercfg /h off",
};

fn is_event(o: &Observation, wanted: &str) -> bool {
    matches!(&o.what, Seen::QmpEvent { name, .. } if name == wanted)
}

/// Sleep is to blame when the machine was suspended or hibernated, or its screen dark, when the request came, and that
/// request did not end it.
fn detect(evidence: &Evidence) -> Option<Finding> {
    let mut finding = Finding::new(Cause::Asleep);
    // A press wakes nobody from S3 (fact sheet A.1).
    finding.lasting = evidence.outcome == OutcomeKind::Suspended;
    if evidence.run_state_before.as_deref() == Some("suspended") {
        finding.add(EvidenceKind::Qmp, "the machine was suspended when it was asked".into());
        return Some(finding);
    }
    if evidence.to_disk_before {
        finding.add(EvidenceKind::Qmp, "the machine had hibernated (SUSPEND_DISK) when it was asked".into());
        return Some(finding);
    }
    let swallowed = evidence.presses > 1 || evidence.keys_pressed || evidence.press_failed();
    if evidence.dark_before && swallowed {
        finding.add(EvidenceKind::Screen, "the screen was dark when the button was pressed".into());
        return Some(finding);
    }
    None
}

/// A system that sleeps on its disk comes back as it was, whatever its registry says. A display that is set to go
/// off swallows a press later on; where nothing is set, Windows' own defaults are only told, for no run has shown
/// them. With fast startup, what looks like a power-off may be S4.
fn predict(outlook: &Outlook<'_>) -> Option<Prediction> {
    let (registry, disk) = (outlook.registry, outlook.disk);
    let found = |effect, sureness, because: String| Prediction::new(Cause::Asleep, effect, sureness, because);
    if disk.hibernation == Some(HibernationFile::Live) {
        let because = r"\hiberfil.sys holds a sleeping system: the next boot resumes it".to_owned();
        return Some(found(PressEffect::Undecided, Sureness::Documented, because));
    }
    let lit = || vec![display_off_after(VIDEOIDLE, 0), display_off_after(VIDEOCONLOCK, 0)];
    // VIDEOCONLOCK counts where nobody is logged on, or the session is locked (fact sheet A.3).
    let covered = registry.auto_admin_logon.as_deref() != Some("1");
    let set = [(covered, "VIDEOCONLOCK", registry.video_lock_idle), (true, "VIDEOIDLE", registry.video_idle)];
    let set =
        set.into_iter().filter(|(counts, ..)| *counts).find_map(|(_, name, value)| Some((name, value?)));
    match set {
        Some((name, seconds)) if seconds > 0 => {
            let because = format!(
                "{name} turns the display off after {seconds} s; the first press then only lights it"
            );
            return Some(found(PressEffect::LightsDisplay, Sureness::Reported, because).with(lit()));
        }
        None if registry.edition.is_some() => {
            let because =
                "VIDEOIDLE and VIDEOCONLOCK are not set: by Windows' defaults the display goes off after 10 \
                           minutes, and after 60 s on a locked console; the first press then only lights it"
                    .to_owned();
            return Some(found(PressEffect::MayBeHeld, Sureness::Reported, because).with(lit()));
        }
        _ => {}
    }
    if registry.fast_startup == Some(1) && registry.hibernate_enabled == Some(1) {
        let because = "fast startup is on: whether a press leads to S4 is not documented".to_owned();
        let off = HiveEdit::new(
            Hive::System,
            r"CurrentControlSet\Control\Session Manager\Power",
            "HiberbootEnabled",
            RegistryValue::Dword(0),
        );
        return Some(found(PressEffect::Undecided, Sureness::Reported, because).with(vec![off]));
    }
    None
}
