//! A machine from a saved state, and the proof that it lives: its screen is the saved one, its agent answers, its
//! clock is right.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context;

use super::saved::SavedState;
use crate::image::{DiskFormat, Image};
use crate::machine::accel::Accelerator;
use crate::machine::agent::{Agent, AgentError};
use crate::machine::backend::Backend;
use crate::machine::command_line::{AtRestart, Memory};
use crate::machine::folder::RunFolder;
use crate::machine::{Machine, MachineConfig, migration, overlay};
use crate::timeline::{Seen, Source, Timeline};

/// How long the agent of a machine that was ready may be silent. It answers within 0.1 s; a host whose every core
/// is busy needs more.
const LIMIT: Duration = Duration::from_secs(20);

/// How far the guest's clock may be off after it was set. A question and its answer take 1 to 20 ms; a wrong
/// clock is off by the age of the state.
const CLOCK_TOLERANCE: Duration = Duration::from_millis(500);

/// What is started, and where.
#[derive(Debug)]
pub(crate) struct Begin<'a> {
    pub(crate) image: &'a Image,
    pub(crate) accelerator: Accelerator,
    pub(crate) overlay: &'a Path,
    pub(crate) record_dir: &'a Path,
    pub(crate) attach: bool,
}

/// Starts a machine from `state` on a fresh overlay. Any error is a reason to boot cold instead.
pub(crate) async fn start(
    state: &SavedState,
    begin: &Begin<'_>,
    folder: &RunFolder,
    timeline: &Timeline,
) -> anyhow::Result<Machine> {
    state.unchanged()?;
    overlay::create(&state.disk(), DiskFormat::Qcow2, begin.overlay).await?;
    let memory = state.memory();
    let config = MachineConfig {
        image: begin.image,
        overlay: begin.overlay,
        accelerator: begin.accelerator,
        record_dir: begin.record_dir,
        attach: begin.attach,
        memory: Memory::Saved(&memory),
        spoken: state.spoken.iter().map(|s| ((s.src.clone(), s.pid), s.seq)).collect(),
        backend: &Backend::Qemu,
        discs: &[],
        at_restart: AtRestart::GoesOn,
    };
    let mut machine = Machine::prepare(config, folder, timeline.clone()).await?;
    migration::load(&machine.qmp, folder.path(), &state.devices()).await?;
    timeline.add(Source::Host, Seen::StateLoaded { state: state.id.clone(), documents: state.documents });
    let screen = machine.screen().glance().await.context("QEMU gave no picture of the screen")?;
    anyhow::ensure!(screen.hash() == state.screen, "the screen is not the one that was saved");
    machine.run().await?;
    machine.agent.ping(LIMIT).await.context("the guest does not answer after its state was loaded")?;
    timeline.add(Source::Agent, Seen::AgentAnswered);
    let off = set_clock(&machine.agent).await?;
    timeline.add(Source::Agent, Seen::ClockSet { off_us: off });
    anyhow::ensure!(
        off.unsigned_abs() <= u64::try_from(CLOCK_TOLERANCE.as_micros()).unwrap_or(u64::MAX),
        "the guest's clock is off by {:.1} s after it was set",
        off as f64 / 1e6
    );
    Ok(machine)
}

/// Sets the guest's clock, which stood still since the state was saved, to the host's, and asks for it again: how
/// far it is off then, microseconds (positive: the guest is ahead).
async fn set_clock(agent: &Agent) -> anyhow::Result<i64> {
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let nanos = |time: Duration| i64::try_from(time.as_nanos()).unwrap_or(i64::MAX);
    let set = agent.raw("guest-set-time", serde_json::json!({ "time": nanos(now()) }), LIMIT).await;
    match set {
        Ok(_) => {}
        // qemu-ga sets the system's clock first and then runs hwclock (qga/commands-posix.c), which the reference
        // guest does not have; QEMU's real-time clock follows the host anyway. The answer below decides.
        Err(AgentError::Refused { .. }) => {}
        Err(e) => return Err(e).context("setting the guest's clock"),
    }
    let before = now();
    let told = agent.raw("guest-get-time", serde_json::json!({}), LIMIT).await;
    let told = told.context("asking for the guest's clock")?;
    let told = told.as_i64().context("the agent told no time")?;
    let middle = nanos(before).midpoint(nanos(now()));
    Ok(told.saturating_sub(middle) / 1000)
}
