//! A machine that somebody else runs: read it, press its button when told to, diagnose.
//!
//! Without [`LiveJob::press`] nothing is changed: run state, button registers and screen are read through
//! QMP, the registry through the guest agent. With it, `system_powerdown` is sent once and what comes of it is
//! watched as in a run. Evidence and rules are those of runs; [`look`] never sends `quit`, `stop` or `cont`. [`stop`] is
//! for whoever wants the machine down.

mod connect;
mod reading;
mod stop;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use tokio::sync::mpsc;

use crate::diagnose::{Diagnosis, diagnose};
use crate::machine::agent::Agent;
use crate::machine::folder::RunFolder;
use crate::machine::qmp::{QmpClient, QmpEvent};
use crate::machine::read_events;
use crate::machine::watcher::ScreenWatcher;
use crate::outcome::{Outcome, Phase, SettledBy};
use crate::run::{Stage, early};
use crate::settle;
use crate::text::printable;
use crate::timeline::{Observation, Seen, Source, Timeline};
use crate::witness::Witness;
pub use connect::{LiveError, Reach};
use reading::Reading;
pub use stop::{StopEvent, StopJob, StopReport, stop};

/// How long QEMU may take to answer a command. TCG with every core busy was seen to need 2 s.
const LIMIT: Duration = Duration::from_secs(20);

/// What to look at, and what may be done.
#[derive(Debug, Clone)]
pub struct LiveJob {
    /// The machine.
    pub reach: Reach,
    /// Press once and watch so long at most; `None` only reads.
    pub press: Option<Duration>,
    /// An empty folder where pictures are kept; they are thrown away when absent. QEMU writes there as well.
    pub screens: Option<PathBuf>,
}

/// What is being done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LiveStage {
    /// Asking the guest for its registry, which takes a while.
    AskingGuest,
    /// Looking at screen, registers and run state.
    Looking,
    /// Pressed; with the last phase that was seen.
    Waiting(Phase),
}

/// What was found.
#[derive(Debug, Clone)]
pub struct LiveReport {
    /// QEMU's version.
    pub qemu: String,
    /// What was read before the press, a sentence each; text from the guest is escaped.
    pub seen: Vec<String>,
    /// Whether the button was pressed.
    pub pressed: bool,
    /// Why it was not, though it should have been.
    pub not_pressed: Option<String>,
    /// What became of the machine, or what it is now.
    pub outcome: Outcome,
    /// What ended the watching, after a press.
    pub settled_by: Option<SettledBy>,
    /// The cause.
    pub diagnosis: Diagnosis,
    /// Everything that was observed.
    pub observations: Vec<Observation>,
}

/// A machine that was reached and read.
struct Session<'a> {
    reach: &'a Reach,
    qmp: QmpClient,
    agent: Option<Agent>,
    timeline: Timeline,
    pictures: PathBuf,
    reading: Reading,
    screen: Option<ScreenWatcher>,
    /// Where pictures are that nobody keeps.
    _folder: RunFolder,
}

impl<'a> Session<'a> {
    /// Reaches the machine and reads it.
    async fn open(
        reach: &'a Reach,
        screens: Option<&Path>,
        tell: &(dyn Fn(LiveStage) + Sync),
    ) -> Result<Session<'a>, LiveError> {
        let connect::Reached { qmp, events, agent } = reach.connect().await?;
        let folder = RunFolder::create().map_err(LiveError::Folder)?;
        let pictures = match screens {
            Some(dir) => folder_for_pictures(dir).map_err(LiveError::Folder)?,
            None => folder.path(),
        };
        let pictures = pictures.to_owned();
        let timeline = Timeline::start();
        tokio::spawn(follow(events, timeline.clone()));

        let mut reading = Reading::begin(qmp.run_state(LIMIT).await?);
        if agent.is_some() {
            tell(LiveStage::AskingGuest);
        }
        reading.inside(agent.as_ref()).await;
        tell(LiveStage::Looking);
        let screen = reading.screen(&qmp, &pictures, &pictures, &timeline).await;
        reading.outside(&qmp, &timeline).await?;
        Ok(Session { reach, qmp, agent, timeline, pictures, reading, screen, _folder: folder })
    }

    /// Whether somebody could hear a press: one to stopped processors would be obeyed whenever somebody lets them run.
    fn nobody_hears(&self) -> Option<String> {
        let state = self.reading.state.as_str();
        let heard = matches!(state, "running" | "suspended");
        (!heard)
            .then(|| format!("the run state is {}: there is nobody to hear a press", printable(state, 40)))
    }

    fn watched<'b>(&'b self, stage: &'b (dyn Fn(Stage) + Sync)) -> early::Watched<'b> {
        early::Watched {
            timeline: &self.timeline,
            pictures: &self.pictures,
            screen: self.screen.as_ref(),
            quiet: early::QUIET,
            full_deadline: false,
            stage,
            registry: self.reading.registry.as_ref(),
        }
    }

    /// A last look, and the diagnosis of everything.
    async fn conclude(self, asked: bool) -> (Outcome, Diagnosis, Vec<String>) {
        let outcome = outcome_now(&self.qmp, &self.timeline, &self.reading.state, asked).await;
        if let Some(screen) = &self.screen {
            screen.look().await;
            screen.stop().await;
        }
        let _gone = tokio::fs::remove_file(self.pictures.join(crate::machine::watcher::SCRATCH)).await;
        let mut witness =
            Witness::new(&self.pictures).without_registry(self.reading.without_registry.clone());
        let registry = self.reading.registry.clone();
        let mut evidence = witness.evidence(&self.timeline.snapshot(), outcome.kind(), registry).await;
        let seen = self.reading.sentences(&evidence);
        self.reading.complete(&mut evidence);
        (outcome, diagnose(&evidence), seen)
    }
}

/// Reads the machine, presses if the job says so, diagnoses.
pub async fn look(job: &LiveJob, tell: &(dyn Fn(LiveStage) + Sync)) -> Result<LiveReport, LiveError> {
    let session = Session::open(&job.reach, job.screens.as_deref(), tell).await?;
    let mut settled_by = None;
    let not_pressed = session.nobody_hears().filter(|_| job.press.is_some());
    if let Some(deadline) = job.press.filter(|_| not_pressed.is_none()) {
        tell(LiveStage::Waiting(Phase::Request));
        session.reach.press(&session.qmp, session.reading.base, &session.timeline, 1).await?;
        let stage = |stage: Stage| {
            if let Stage::Waiting(phase) = stage {
                tell(LiveStage::Waiting(phase));
            }
        };
        settled_by = Some(early::wait(&session.watched(&stage), deadline).await);
    }
    let qemu = session.qmp.version().to_owned();
    let timeline = session.timeline.clone();
    let (outcome, diagnosis, seen) = session.conclude(settled_by.is_some()).await;
    let (pressed, observations) = (settled_by.is_some(), timeline.snapshot());
    Ok(LiveReport { qemu, seen, pressed, not_pressed, outcome, settled_by, diagnosis, observations })
}

fn folder_for_pictures(dir: &Path) -> anyhow::Result<&Path> {
    let hint = || format!("cannot make the folder {} for pictures; choose another", dir.display());
    std::fs::create_dir_all(dir).with_context(hint)?;
    Ok(dir)
}

/// Brings events to the timeline. QMP ends only with QEMU, which is no child of ours: there is no exit code.
async fn follow(events: mpsc::Receiver<QmpEvent>, timeline: Timeline) {
    read_events(events, timeline.clone()).await;
    timeline.add(Source::Process, Seen::ProcessExited { code: None, signal: None });
}

/// What became of the machine after a press, or what it is when nobody pressed.
async fn outcome_now(qmp: &QmpClient, timeline: &Timeline, before: &str, pressed: bool) -> Outcome {
    if let Some(outcome) = settle::settled(&timeline.snapshot()) {
        return outcome;
    }
    if !pressed {
        return outcome_of_state(before);
    }
    match qmp.run_state(LIMIT).await {
        Ok(state) => {
            timeline.add(Source::Qmp, Seen::RunState { state: state.clone() });
            // What came while it was asked counts.
            settle::settled(&timeline.snapshot()).unwrap_or_else(|| outcome_of_state(&state))
        }
        Err(e) => settle::settled(&timeline.snapshot())
            .unwrap_or_else(|| Outcome::HostFailed { what: format!("QEMU does not answer: {e}") }),
    }
}

/// What a run state says by itself (qapi/run-state.json). In all but `running` the processors stand still.
fn outcome_of_state(state: &str) -> Outcome {
    match state {
        "running" => Outcome::StillRunning,
        "suspended" => Outcome::Suspended,
        "shutdown" => Outcome::PoweredOff,
        "guest-panicked" => Outcome::Crashed { evidence: "QEMU's run state is guest-panicked".into() },
        other => Outcome::HostFailed {
            what: format!(
                "QEMU's run state is `{}`: the host has stopped the machine, which can answer no request; \
                 find out who did so (`virsh domstate --reason`, QEMU's log)",
                printable(other, 40)
            ),
        },
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::evidence::Evidence;
    use crate::guest::power_policy::{EffectiveAction, Layer};
    use crate::guest::registry_facts::RegistryFacts;
    use crate::outcome::{Cause, OutcomeKind};

    /// A press that was taken, on a machine whose registry says that it should be obeyed, and nothing more.
    fn taken() -> Evidence {
        let mut evidence = Evidence::from_timeline(&[], OutcomeKind::StillRunning);
        (evidence.listening, evidence.press_taken, evidence.presses) = (Some(true), Some(true), 1);
        evidence.can_read_screens = true;
        evidence.requests = 1;
        let shut_down = EffectiveAction { index: 3, layer: Layer::Default };
        evidence.registry =
            Some(RegistryFacts { button_action: Some(shut_down), ..RegistryFacts::default() });
        evidence
    }

    #[rstest]
    #[case::all_seen(|_: &mut Evidence| (), Cause::Malware)]
    #[case::no_screen(Evidence::without_screen, Cause::Unknown)]
    #[case::no_agent(Evidence::without_agent, Cause::Unknown)]
    fn what_was_not_seen_is_no_silence(#[case] change: fn(&mut Evidence), #[case] cause: Cause) {
        let mut evidence = taken();
        change(&mut evidence);
        assert_eq!(diagnose(&evidence).cause, cause);
    }

    #[rstest]
    #[case::asked_by_others(
        "Closing 1 app. This app is preventing you from shutting down.",
        Cause::UnresponsiveApplication
    )]
    #[case::plain_desktop("Desktop", Cause::Unknown)]
    fn what_the_screen_shows_already_counts(#[case] screen: &str, #[case] cause: Cause) {
        let mut evidence = Evidence::from_timeline(&[], OutcomeKind::StillRunning);
        evidence.can_read_screens = true;
        evidence.screen_before = Some(screen.to_owned());
        evidence.as_found(true);
        assert_eq!((diagnose(&evidence).cause, evidence.press_taken), (cause, Some(false)));
    }

    #[rstest]
    #[case("running", OutcomeKind::StillRunning)]
    #[case("suspended", OutcomeKind::Suspended)]
    #[case("shutdown", OutcomeKind::PoweredOff)]
    #[case("guest-panicked", OutcomeKind::Crashed)]
    #[case("paused", OutcomeKind::HostFailed)]
    #[case("io-error", OutcomeKind::HostFailed)]
    #[case("a state of tomorrow\u{1b}", OutcomeKind::HostFailed)]
    fn run_states_tell_what_the_machine_is(#[case] state: &str, #[case] kind: OutcomeKind) {
        assert_eq!(outcome_of_state(state).kind(), kind);
    }
}
