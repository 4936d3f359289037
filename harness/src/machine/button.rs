//! Pressing the ACPI power button, and seeing whether the guest takes the press.

use std::time::{Duration, Instant};

use serde_json::json;

use super::QMP_LIMIT;
use super::acpi::{self, PmBase};
use super::qmp::{QmpClient, QmpError};
use crate::settle::PRESS;
use crate::timeline::{Observation, Seen, Source, Timeline};

/// How long a press may wait in PWRBTN_STS before it counts as not taken. The reference guest takes it in 2
/// to 30 ms; a press that still waits after this was seen to wait for ever (findings, ReactOS).
const TAKE_LIMIT: Duration = Duration::from_secs(3);

/// Presses the button (`system_powerdown`) as request `number`; gives back what [`press_by`] does.
pub(crate) async fn press(
    qmp: &QmpClient,
    base: Option<PmBase>,
    timeline: &Timeline,
    number: u32,
) -> Result<Instant, QmpError> {
    let send = async { qmp.execute_raw(PRESS, json!({}), QMP_LIMIT).await.map(drop) };
    press_by(qmp, base, timeline, (PRESS, number), send).await
}

/// Has the button pressed by `send` as a request of this name and number, and notes the registers before it and what
/// became of it. QEMU's POWERDOWN event follows; it says that the request was made, not that the guest saw it.
///
/// Gives back when `send` had its answer: the look at the registers that follows takes [`TAKE_LIMIT`] of a guest that
/// sleeps, and is no part of the request.
pub(crate) async fn press_by<E>(
    qmp: &QmpClient,
    base: Option<PmBase>,
    timeline: &Timeline,
    (by, number): (&str, u32),
    send: impl Future<Output = Result<(), E>>,
) -> Result<Instant, E> {
    let listening = match base {
        Some(base) => note_registers(qmp, base, timeline).await.filter(|now| now.enabled).map(|_| base),
        None => None,
    };
    let from = timeline.len();
    timeline.add(Source::Host, Seen::Requested { by: by.into(), number });
    send.await?;
    let answered = Instant::now();
    if let Some(base) = listening {
        see_it_taken(qmp, base, timeline, from).await;
    }
    Ok(answered)
}

async fn registers(qmp: &QmpClient, base: PmBase) -> Option<acpi::ButtonRegisters> {
    acpi::read(qmp, base, QMP_LIMIT).await.ok().flatten()
}

/// Notes the registers; `None` when they could not be read.
pub(crate) async fn note_registers(
    qmp: &QmpClient,
    base: PmBase,
    timeline: &Timeline,
) -> Option<acpi::ButtonRegisters> {
    let now = registers(qmp, base).await?;
    timeline.add(Source::Qmp, Seen::ButtonRegisters { enabled: now.enabled, pending: now.pending });
    Some(now)
}

/// After a press to a guest that listened: QEMU sets PWRBTN_STS when it handles the request in its main loop,
/// which the POWERDOWN event after place `from` tells; the guest's driver clears it when it takes the press.
async fn see_it_taken(qmp: &QmpClient, base: PmBase, timeline: &Timeline, from: usize) {
    let powerdown = |o: &Observation| match &o.what {
        Seen::QmpEvent { name, .. } => (name == "POWERDOWN").then_some(()),
        _ => None,
    };
    if timeline.wait_from(from, TAKE_LIMIT, powerdown).await.is_none() {
        return;
    }
    let began = Instant::now();
    while began.elapsed() < TAKE_LIMIT {
        let Some(now) = registers(qmp, base).await else { return };
        if !now.pending {
            timeline.add(Source::Qmp, Seen::PressTaken);
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    note_registers(qmp, base, timeline).await;
}
