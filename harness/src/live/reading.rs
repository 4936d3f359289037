//! What can be read of a running machine without changing it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use super::LIMIT;
use crate::evidence::Evidence;
use crate::guest::driver::GuestDriver;
use crate::guest::registry_facts::RegistryFacts;
use crate::image::GuestFamily;
use crate::machine::acpi::{self, ButtonRegisters, PmBase};
use crate::machine::agent::{Agent, AgentError};
use crate::machine::qmp::{QmpClient, QmpError};
use crate::machine::watcher::{self, ScreenWatcher};
use crate::machine::{button, port};
use crate::text::printable;
use crate::timeline::{Seen, Source, Timeline};

/// How long a guest agent may take to show that it is there. One that runs answers in milliseconds; under TCG
/// on a busy host 2 s were seen.
const AGENT_LIMIT: Duration = Duration::from_secs(10);

/// What was read, and what could not be.
#[derive(Debug, Default)]
pub(super) struct Reading {
    /// QEMU's run state.
    pub(super) state: String,
    pub(super) base: Option<PmBase>,
    registers: Option<ButtonRegisters>,
    pub(super) registry: Option<RegistryFacts>,
    pub(super) without_registry: String,
    dark: Option<bool>,
    agent_open: Option<bool>,
    lacks: Vec<String>,
    guest: Option<String>,
    answers: bool,
}

impl Reading {
    /// Nothing but the run state yet.
    pub(super) fn begin(state: String) -> Reading {
        Reading { state, ..Reading::default() }
    }

    /// Asks the guest through its agent. Only a machine whose processors run can answer.
    pub(super) async fn inside(&mut self, agent: Option<&Agent>) {
        let why = match agent {
            None => "give the guest agent's socket with --qga".to_owned(),
            Some(_) if self.state != "running" => {
                format!("the machine is {}, so its agent is silent", self.state)
            }
            Some(agent) => match self.ask(agent).await {
                Ok(()) => return,
                Err(why) => why,
            },
        };
        self.without_registry = why;
    }

    async fn ask(&mut self, agent: &Agent) -> Result<(), String> {
        let next = "; start the agent in the guest, and see that no other client holds its socket";
        agent.ping(AGENT_LIMIT).await.map_err(|e| match e {
            AgentError::Timeout { .. } => format!("{e}{next}"),
            e => e.to_string(),
        })?;
        self.answers = true;
        let system = agent.raw("guest-get-osinfo", json!({}), AGENT_LIMIT).await.unwrap_or_default();
        let family = family(&system);
        self.guest = name(&system);
        match RegistryFacts::ask(&GuestDriver::new(family, agent.clone())).await {
            Ok(facts) => {
                self.registry = Some(facts);
                Ok(())
            }
            Err(e) if family == GuestFamily::Reference => {
                Err(format!("{e} (this guest is no Windows, and reads as Softoff's reference guest only)"))
            }
            Err(e) => Err(e.to_string()),
        }
    }

    /// Looks at the screen; the watcher goes on looking. `None` when the screen cannot be seen.
    pub(super) async fn screen(
        &mut self,
        qmp: &QmpClient,
        scratch: &Path,
        pictures: &Path,
        timeline: &Timeline,
    ) -> Option<ScreenWatcher> {
        let file: PathBuf = scratch.join(watcher::SCRATCH);
        if let Err(e) = watcher::picture(qmp, &file).await {
            let refused = e.downcast_ref::<QmpError>().is_some();
            let next = match refused {
                true => {
                    "; where QEMU runs as another user or confined, give --keep-screens a folder that it may write to"
                }
                false => "",
            };
            self.lacks.push(format!("the screen: {}{next}", printable(&format!("{e:#}"), 300)));
            return None;
        }
        let mut screen = ScreenWatcher::new(qmp.clone(), scratch, pictures, timeline.clone());
        screen.start();
        let dark = screen.is_dark().await;
        timeline.add(Source::Screen, Seen::Screen { dark });
        self.dark = Some(dark);
        Some(screen)
    }

    /// Reads the button's registers, the agent's channel and QEMU's run state.
    pub(super) async fn outside(&mut self, qmp: &QmpClient, timeline: &Timeline) -> Result<(), QmpError> {
        // QEMU without its human monitor's commands, or without fixed hardware: both lack registers.
        self.base = acpi::locate(qmp, LIMIT).await.ok().flatten();
        if let Some(base) = self.base {
            self.registers = button::note_registers(qmp, base, timeline).await;
        }
        if self.registers.is_none() {
            let what = "the power button's registers: this machine type has none that QMP can read";
            self.lacks.push(what.to_owned());
        }
        self.agent_open = port::agent_open(qmp, LIMIT).await.ok().flatten();
        self.state = qmp.run_state(LIMIT).await?;
        timeline.add(Source::Qmp, Seen::RunState { state: self.state.clone() });
        Ok(())
    }

    /// Adds to the evidence what a look from outside knows, and what it could not see.
    pub(super) fn complete(&self, evidence: &mut Evidence) {
        if self.dark.is_none() {
            evidence.without_screen();
        }
        if self.agent_open != Some(true) {
            evidence.without_agent();
        }
        evidence.as_found(self.registers.is_some_and(|r| r.pending));
        evidence.lacks.extend(self.lacks.iter().cloned());
    }

    /// Whether the screen was dark.
    pub(super) fn is_dark(&self) -> bool {
        self.dark == Some(true)
    }

    /// Whether the guest's agent answered.
    pub(super) fn agent_answers(&self) -> bool {
        self.answers
    }

    /// What was read, a sentence each.
    pub(super) fn sentences(&self, evidence: &Evidence) -> Vec<String> {
        let mut all = vec![format!("QEMU's run state is {}", printable(&self.state, 40))];
        if let Some(open) = self.agent_open {
            let state =
                if open { "open: its service runs" } else { "closed: nobody in the guest has it open" };
            all.push(format!("the guest agent's channel is {state}"));
        }
        if let Some(guest) = &self.guest {
            all.push(format!("the guest agent answers: {guest}"));
        }
        if let Some(ButtonRegisters { enabled, pending }) = self.registers {
            let listens = match enabled {
                true => "the guest listens to the power button (PWRBTN_EN is set)",
                false => "nobody listens to the power button (PWRBTN_EN is clear)",
            };
            let waits =
                if pending { ", and a press waits that it has not taken (PWRBTN_STS is set)" } else { "" };
            all.push(format!("{listens}{waits}"));
        }
        if let Some(dark) = self.dark {
            let read = evidence.screen_before.as_deref().map(words).unwrap_or_default();
            all.push(match (dark, read.as_str()) {
                (true, _) => "the screen is dark".to_owned(),
                (false, "") => "the screen is lit".to_owned(),
                (false, words) => format!("the screen reads: {}", printable(words, 300)),
            });
        }
        if let Some(facts) = &self.registry {
            all.push(format!("the registry: {}", values(facts)));
        }
        all
    }
}

/// The words of a screen, line after line.
fn words(text: &str) -> String {
    text.lines().map(str::trim).filter(|l| !l.is_empty()).collect::<Vec<_>>().join(" / ")
}

fn values(facts: &RegistryFacts) -> String {
    let number = |value: Option<u32>| value.map_or("-".to_owned(), |n| n.to_string());
    let button = facts.button_action.map_or("-".into(), |a| format!("{} ({:?} layer)", a.index, a.layer));
    let logon = facts.auto_admin_logon.as_deref().map_or("-".into(), |t| printable(t, 20));
    let end = facts.auto_end_tasks.map_or("-", |on| if on { "1" } else { "0" });
    format!(
        "PBUTTONACTION {button}, ShutdownWithoutLogon {}, AutoAdminLogon {logon}, ShutdownReasonOn {}, \
         ShutdownReasonUI {}, RebootPending {}, VIDEOIDLE {}, AutoEndTasks {end}, {} services with a \
         PreshutdownTimeout",
        number(facts.shutdown_without_logon),
        number(facts.shutdown_reason_on),
        number(facts.shutdown_reason_ui),
        if facts.reboot_pending { "yes" } else { "no" },
        number(facts.video_idle),
        facts.preshutdown.len(),
    )
}

/// Windows says so; everything else is taken for the reference guest, whose Win32 programs run in Wine.
fn family(system: &Value) -> GuestFamily {
    match system.get("id").and_then(Value::as_str) {
        Some("mswindows") => GuestFamily::Windows,
        _ => GuestFamily::Reference,
    }
}

fn name(system: &Value) -> Option<String> {
    let name = system.get("pretty-name").or_else(|| system.get("name"))?.as_str()?;
    Some(printable(name, 80))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case(json!({ "id": "mswindows", "pretty-name": "Windows Server 2022 Standard" }), GuestFamily::Windows, Some("Windows Server 2022 Standard"))]
    #[case(json!({ "id": "debian", "name": "De\u{1b}bian" }), GuestFamily::Reference, Some("De\\u{1b}bian"))]
    #[case(json!({ "id": 7 }), GuestFamily::Reference, None)]
    #[case(Value::Null, GuestFamily::Reference, None)]
    fn guests_are_told_apart(
        #[case] system: Value,
        #[case] expected: GuestFamily,
        #[case] title: Option<&str>,
    ) {
        assert_eq!((family(&system), name(&system).as_deref()), (expected, title));
    }
}
