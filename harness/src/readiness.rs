//! From QEMU's start to a guest that is proven ready for a request.

use std::time::Duration;

use softoff_guest_protocol::probe::ProbeEvent;

use crate::guest::driver::GuestDriver;
use crate::guest::session::SessionState;
use crate::guest::windows_versions::identify;
use crate::image::{GuestFamily, Image};
use crate::machine::{Machine, QMP_LIMIT, acpi};
use crate::outcome::Outcome;
use crate::settle::until_settled;
use crate::text::printable;
use crate::timeline::{Observation, Seen, Source, Timeline};

/// Why a guest is not ready.
#[derive(Debug)]
pub(crate) enum NotReady {
    /// It ended first.
    Ended(Outcome),
    /// It was not ready in time; the sentence says what was awaited and what was seen last.
    TimedOut(String),
}

/// How long nothing may change on the screen of a guest without an agent.
const STILL: Duration = Duration::from_secs(5);

/// A guest without an agent is ready when its ACPI driver listens to the button, and its screen stands still: its desktop
/// is there. (ReactOS was at its desktop 13 s after QEMU's start under TCG.)
async fn without_agent(machine: &Machine, timeline: &Timeline) {
    loop {
        let enabled = match acpi::read(&machine.qmp, machine.pm_base, QMP_LIMIT).await {
            Ok(Some(registers)) => registers.enabled,
            _ => false,
        };
        if enabled && timeline.silence() >= STILL {
            return;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

/// Which Windows this is, by its agent's word; one that is not known here is told as it names itself.
async fn note_version(guest: &GuestDriver, timeline: &Timeline) {
    let said = guest.agent().raw("guest-get-osinfo", serde_json::json!({}), QMP_LIMIT).await;
    let what = match said {
        Ok(said) => match identify(&said) {
            Some(found) => found.sentence(),
            None => format!("a system that is not known here: {}", printable(&said.to_string(), 200)),
        },
        Err(error) => format!("its version is not known: {error}"),
    };
    timeline.add(Source::Agent, Seen::Note { what });
}

/// Whether a family's guests tell their readiness on COM1.
pub(crate) fn speaks_probe(family: GuestFamily) -> bool {
    family == GuestFamily::Reference
}

/// Waits until a booting guest is ready: the agent answers and, where the guest has our session program, it
/// reports its desktop; on Windows, the session is settled. `first`: the place in the timeline where this boot began.
pub(crate) async fn until_ready(
    image: &Image,
    machine: &Machine,
    timeline: &Timeline,
    first: usize,
    limit: Duration,
) -> Result<(), NotReady> {
    let speaks = speaks_probe(image.manifest.family);
    let desktop = async {
        let ready = |o: &Observation| match &o.what {
            Seen::Probe(line) => matches!(line.event, ProbeEvent::DesktopReady { .. }).then_some(()),
            _ => None,
        };
        match speaks {
            true => timeline.wait_from(first, limit, ready).await,
            false => Some(()),
        }
    };
    let agent = async {
        if image.manifest.family == GuestFamily::Reactos {
            return without_agent(machine, timeline).await;
        }
        // Without udev no event tells of the agent's start reliably; a ping that waits costs nothing.
        while machine.agent.ping(Duration::from_secs(2)).await.is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        timeline.add(Source::Agent, Seen::AgentAnswered);
        if image.manifest.family == GuestFamily::Windows {
            let guest = GuestDriver::new(image.manifest.family, machine.agent.clone());
            note_version(&guest, timeline).await;
            let mut told = String::new();
            let mut tell = |sentence: &str| {
                if told != sentence {
                    sentence.clone_into(&mut told);
                    timeline.add(Source::Agent, Seen::Note { what: format!("session: {sentence}") });
                }
            };
            let _settled = SessionState::until_settled(&guest, &mut tell).await;
        }
    };
    let both = async { tokio::join!(desktop, agent).0 };
    tokio::select! {
        done = tokio::time::timeout(limit, both) => {
            if let Ok(Some(())) = done {
                return Ok(());
            }
        }
        outcome = until_settled(timeline) => return Err(NotReady::Ended(outcome)),
    }
    let name = &image.manifest.name;
    let expected = match speaks {
        true => "guest-ping and desktop-ready on COM1",
        false => "guest-ping, and a session that is settled (a logon, or the sign-in screen)",
    };
    Err(NotReady::TimedOut(format!(
        "image {name} was not ready within {:.0} s: awaited {expected}; last seen: {}; the console is in serial.log, \
         the screen in the newest screen-*.png; on a slow host try --deadline-scale 3",
        limit.as_secs_f64(),
        timeline.last_line()
    )))
}
