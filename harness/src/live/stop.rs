//! Stopping a machine that somebody else runs: diagnose, ask, wait as long as there is a reason to, and pull the plug
//! only when told to.
//!
//! The ladder: a machine in S3 is woken, a dark screen is lit by a harmless key (a press would only do that), then the
//! button is pressed once. A press that never reached the session (the button does nothing, or nobody is logged on) is
//! followed by the guest agent's request, where an agent answers. While anything new shows, the wait goes on: a phase, a
//! screen that says something else, a higher percentage of update work. It ends when the evidence says that nothing more
//! will come until somebody acts, or when nothing new has shown for so long as the patience says.

mod progress;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::json;

use super::{LIMIT, LiveError, LiveStage, Reach, Session};
use crate::diagnose::{Diagnosis, diagnose};
use crate::outcome::{Cause, Outcome, SettledBy};
use crate::run::{Stage, early};
use crate::settle::{self, until_settled};
use crate::timeline::{Observation, Seen, Source};
use crate::witness::Witness;
use progress::{Progress, Stalled};

/// The key that lights a display and does nothing else.
const WAKE_KEY: &str = "shift";

/// How long a display may take to come back.
const WAKE_PAUSE: Duration = Duration::from_secs(2);

/// How long a machine may take to come back from S3; the reference guest needs 1 s under TCG.
const RESUME_LIMIT: Duration = Duration::from_secs(60);

/// As good as for ever.
const A_YEAR: Duration = Duration::from_secs(31_536_000);

/// What is to be stopped, and how far one may go.
#[derive(Debug, Clone)]
pub struct StopJob {
    /// The machine.
    pub reach: Reach,
    /// Where pictures are kept; they are thrown away when absent.
    pub screens: Option<PathBuf>,
    /// How long nothing new may show before it is given up.
    pub patience: Duration,
    /// So long after the first request the plug is pulled, whatever is under way; never when absent.
    pub force_after: Option<Duration>,
    /// Whether the guest agent may be asked when the press leads nowhere. Its request forces: applications are not asked.
    pub agent: bool,
}

/// What is told meanwhile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StopEvent {
    /// Reading the machine.
    Reading(LiveStage),
    /// Something was done to the machine.
    Did(String),
    /// Something new shows; with the time since the first request.
    Progress(Duration, String),
    /// What is about to be lost, before the plug is pulled.
    Cost(Vec<String>),
}

/// How it went.
#[derive(Debug, Clone)]
pub struct StopReport {
    /// QEMU's version.
    pub qemu: String,
    /// What was read first, a sentence each.
    pub seen: Vec<String>,
    /// What was done, in order.
    pub did: Vec<String>,
    /// What became of the machine.
    pub outcome: Outcome,
    /// From the first request to the end, or until it was given up; absent when nothing was asked.
    pub took: Option<Duration>,
    /// Why it was given up, or why the plug was pulled.
    pub gave_up: Option<String>,
    /// What a pulled plug has cost, or would.
    pub cost: Vec<String>,
    /// The cause.
    pub diagnosis: Diagnosis,
}

struct Ladder<'a> {
    job: &'a StopJob,
    session: &'a Session<'a>,
    tell: &'a (dyn Fn(StopEvent) + Sync),
    did: Vec<String>,
    requests: u32,
}

/// Stops the machine as the job allows.
pub async fn stop(job: &StopJob, tell: &(dyn Fn(StopEvent) + Sync)) -> Result<StopReport, LiveError> {
    let reading = |stage: LiveStage| tell(StopEvent::Reading(stage));
    let session = Session::open(&job.reach, job.screens.as_deref(), &reading).await?;
    let mut ladder = Ladder { job, session: &session, tell, did: Vec::new(), requests: 0 };
    let (mut took, mut gave_up, mut cost) = (None, session.nobody_hears(), Vec::new());
    if gave_up.is_none() {
        let began = ladder.ask().await?;
        gave_up = ladder.wait(began).await?;
        if let (Some(_), Some(force_after)) = (&gave_up, job.force_after) {
            ladder.force(began, force_after, &mut cost).await?;
        } else if gave_up.is_some() {
            cost = ladder.cost().await;
        }
        took = Some(began.elapsed());
    }
    let (did, asked) = (ladder.did, took.is_some());
    let qemu = session.qmp.version().to_owned();
    let (outcome, diagnosis, seen) = session.conclude(asked).await;
    Ok(StopReport { qemu, seen, did, outcome, took, gave_up, cost, diagnosis })
}

impl Ladder<'_> {
    fn did(&mut self, what: &str) {
        (self.tell)(StopEvent::Did(what.to_owned()));
        self.did.push(what.to_owned());
    }

    /// Wakes what sleeps and presses; the time counts from the press.
    async fn ask(&mut self) -> Result<Instant, LiveError> {
        let Session { reach, qmp, timeline, reading, .. } = self.session;
        if reading.state == "suspended" {
            self.did("woke it from S3 (system_wakeup): a press wakes nobody");
            timeline.add(Source::Host, Seen::Acted { what: "system_wakeup".into() });
            let from = timeline.len();
            reach.wake(qmp).await?;
            let woke = |o: &Observation| match &o.what {
                Seen::QmpEvent { name, .. } => (name == "WAKEUP").then_some(()),
                _ => None,
            };
            let _woke = timeline.wait_from(from, RESUME_LIMIT, woke).await;
            tokio::time::sleep(WAKE_PAUSE).await;
        } else if reading.is_dark() {
            self.did("pressed a harmless key: the screen is dark, and a press might only light it");
            timeline.add(Source::Host, Seen::Acted { what: format!("key {WAKE_KEY}") });
            for down in [true, false] {
                let key = json!({ "type": "qcode", "data": WAKE_KEY });
                let event = json!({ "type": "key", "data": { "down": down, "key": key } });
                qmp.execute_raw("input-send-event", json!({ "events": [event] }), LIMIT).await?;
            }
            tokio::time::sleep(WAKE_PAUSE).await;
        }
        self.did("pressed the power button");
        self.requests += 1;
        let began = Instant::now();
        reach.press(qmp, reading.base, timeline, self.requests).await?;
        Ok(began)
    }

    /// Waits for the end; why it did not come, when it did not.
    async fn wait(&mut self, began: Instant) -> Result<Option<String>, LiveError> {
        loop {
            let progress = Progress::new(self.session, self.job.patience);
            let stage = |_: Stage| {};
            let watched = self.session.watched(&stage);
            let left = self.job.force_after.map_or(A_YEAR, |after| after.saturating_sub(began.elapsed()));
            let told = |what: String| (self.tell)(StopEvent::Progress(began.elapsed(), what));
            let why = tokio::select! {
                by = early::wait(&watched, left) => match by {
                    SettledBy::Event => return Ok(None),
                    SettledBy::Evidence => "the evidence shows that nothing more will come until somebody acts".to_owned(),
                    SettledBy::Deadline => {
                        let after = self.job.force_after.unwrap_or_default();
                        return Ok(Some(format!("{} s have passed since the press", after.as_secs())));
                    }
                },
                Stalled(why) = progress.until_stalled(&told) => why,
            };
            if !self.ask_agent(began).await? {
                return Ok(Some(why));
            }
        }
    }

    /// Asks the guest agent, where that may help and was not done yet. libvirt keeps its caller for a minute where the
    /// agent takes the request and the guest stays (measured, libvirt 9.0), and then says that it failed: that is no end
    /// of the ladder, and the time until the plug counts meanwhile.
    async fn ask_agent(&mut self, began: Instant) -> Result<bool, LiveError> {
        let cause = self.diagnosis().await.cause;
        // Where the press got into the session, the forced request comes on top of what applications are asked already.
        let never_arrived = matches!(cause, Cause::PowerButtonPolicy | Cause::LogonRequired);
        let answers = self.session.reading.agent_answers();
        let (Some(agent), true) =
            (&self.session.agent, self.job.agent && never_arrived && answers && self.requests == 1)
        else {
            return Ok(false);
        };
        self.did(&format!("asked the guest agent, which forces: the press came to nothing ({cause})"));
        self.requests += 1;
        let timeline = &self.session.timeline;
        let left = self.job.force_after.map_or(A_YEAR, |after| after.saturating_sub(began.elapsed()));
        let progress = Progress::new(self.session, A_YEAR);
        let told = |what: String| (self.tell)(StopEvent::Progress(began.elapsed(), what));
        // The order matters: an answer that is there counts, even when the machine has ended with it.
        let answer = tokio::select! {
            biased;
            answer = self.session.reach.ask_agent(agent, timeline, self.requests) => answer,
            _ = until_settled(timeline) => Ok(()),
            () = tokio::time::sleep(left) => Ok(()),
            Stalled(_) = progress.until_stalled(&told) => Ok(()),
        };
        match answer {
            Err(error) if error.is_refusal() => {
                self.did(&format!("the agent's request came to nothing: {error}"))
            }
            other => other?,
        }
        Ok(true)
    }

    async fn diagnosis(&self) -> Diagnosis {
        let so_far = self.session.timeline.snapshot();
        let outcome = settle::at_deadline(&so_far).kind();
        let mut witness = Witness::new(&self.session.pictures);
        let mut evidence = witness.evidence(&so_far, outcome, self.session.reading.registry.clone()).await;
        self.session.reading.complete(&mut evidence);
        diagnose(&evidence)
    }

    /// What a pulled plug costs now.
    async fn cost(&self) -> Vec<String> {
        let mut cost = Vec::new();
        if let Some(work) = progress::update_work(self.session).await {
            cost.push(format!("{work}: it is cut off; the next boot rolls it back, or is broken by it"));
        }
        cost.push(
            "unsaved work of applications, and what was not yet written to the disk, is lost".to_owned(),
        );
        cost.push("the system volume may be left marked dirty, and be checked at the next boot".to_owned());
        cost
    }

    /// Waits for the time that was given, and pulls the plug.
    async fn force(
        &mut self,
        began: Instant,
        after: Duration,
        cost: &mut Vec<String>,
    ) -> Result<(), LiveError> {
        let timeline = &self.session.timeline;
        let rest = after.saturating_sub(began.elapsed());
        if tokio::time::timeout(rest, until_settled(timeline)).await.is_ok() {
            return Ok(());
        }
        *cost = self.cost().await;
        (self.tell)(StopEvent::Cost(cost.clone()));
        self.did("pulled the plug");
        self.requests += 1;
        self.session.reach.pull_the_plug(&self.session.qmp, timeline, self.requests).await?;
        let _ended = tokio::time::timeout(LIMIT, until_settled(timeline)).await;
        Ok(())
    }
}
