//! From QEMU's start to a guest that is proven ready for a request.

use std::time::Duration;

use softoff_guest_protocol::probe::ProbeEvent;

use crate::image::{GuestFamily, Image};
use crate::machine::Machine;
use crate::outcome::Outcome;
use crate::settle::until_settled;
use crate::timeline::{Observation, Seen, Source, Timeline};

/// Why a guest is not ready.
#[derive(Debug)]
pub(crate) enum NotReady {
    /// It ended first.
    Ended(Outcome),
    /// It was not ready in time; the sentence says what was awaited and what was seen last.
    TimedOut(String),
}

/// Whether a family's guests tell their readiness on COM1.
pub(crate) fn speaks_probe(family: GuestFamily) -> bool {
    family == GuestFamily::Reference
}

/// Waits until a booting guest is ready: the agent answers and, where the guest has our session program, it
/// reports its desktop. `first`: the place in the timeline where this boot began.
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
        // Without udev no event tells of the agent's start reliably; a ping that waits costs nothing.
        while machine.agent.ping(Duration::from_secs(2)).await.is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        timeline.add(Source::Agent, Seen::AgentAnswered);
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
    let expected = if speaks { "guest-ping and desktop-ready on COM1" } else { "guest-ping" };
    Err(NotReady::TimedOut(format!(
        "image {name} was not ready within {:.0} s: awaited {expected}; last seen: {}; the console is in serial.log, \
         the screen in the newest screen-*.png; on a slow host try --deadline-scale 3",
        limit.as_secs_f64(),
        timeline.last_line()
    )))
}
