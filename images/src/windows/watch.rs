//! Watching one machine of an installation: milestones, the key that the disc asks for, and when nothing comes any more.

use std::collections::HashSet;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use softoff_harness::evidence::shows;
use softoff_harness::machine::{Machine, QMP_LIMIT, ocr};
use softoff_harness::screen_texts::PRESS_ANY_KEY;
use softoff_harness::timeline::{Observation, Seen};

use super::milestone::Milestone;
use crate::progress::{Progress, note};

/// The key that answers "press any key": one that chooses nothing should a menu have come instead.
const KEY: &str = "spc";

/// Presses of it while the prompt stays. The prompt is there for 5 s (Windows' boot sector and its EFI loader).
const PRESSES: u32 = 8;

/// Between two looks at the clock and the disk's counters.
const LOOK: Duration = Duration::from_secs(1);

/// Writing less than this between two looks is a system that only breathes.
const BREATH: u64 = 1 << 20;

/// How a machine's run ended.
#[derive(Debug)]
pub(super) enum Ended {
    /// The guest restarted itself; the machine stands still.
    Restarted,
    /// The guest shut itself down.
    PoweredOff,
    /// The machine ended in another way.
    Otherwise(String),
    /// Nothing came any more.
    Silent(Duration),
}

/// What was seen of a machine.
#[derive(Debug)]
pub(super) struct Watched {
    pub(super) ended: Ended,
    pub(super) milestone: Milestone,
    /// When that was reached.
    pub(super) reached: Instant,
    pub(super) written: u64,
    pictures: HashSet<String>,
    pub(super) picture: Option<PathBuf>,
    pub(super) text: Option<String>,
}

/// Watches a machine whose pictures go to `record_dir`.
pub(super) struct Watch<'a> {
    pub(super) machine: &'a Machine,
    pub(super) record_dir: PathBuf,
    /// How long nothing may happen.
    pub(super) patience: Duration,
    /// Whether the key is pressed when it is asked for: only while the disk is empty.
    pub(super) answers_prompt: bool,
    pub(super) progress: &'a dyn Progress,
    pub(super) began: Instant,
}

impl Watch<'_> {
    /// Until the machine's run ends, in one way or the other.
    pub(super) async fn until_ended(&self, milestone: Milestone) -> Watched {
        let mut seen = Watched {
            ended: Ended::Silent(Duration::ZERO),
            milestone,
            reached: Instant::now(),
            written: 0,
            pictures: HashSet::new(),
            picture: None,
            text: None,
        };
        let (mut from, mut alive, mut presses) = (0, Instant::now(), 0);
        loop {
            let timeline = self.machine.timeline();
            // Returns when something new is there, or the time for a look has come.
            let _news = timeline.wait_from(from, LOOK, |_| Some(())).await;
            let mut fresh = Vec::new();
            let (next, _) = timeline.scan(from, |observation| -> Option<()> {
                fresh.push(observation.clone());
                None
            });
            from = next;
            for observation in fresh {
                if let Some(ended) = self.take(&observation, &mut seen, &mut alive).await {
                    seen.ended = ended;
                    return seen;
                }
            }
            let prompted = seen.text.as_deref().is_some_and(|text| shows(text, PRESS_ANY_KEY).is_some());
            if self.answers_prompt && prompted && seen.milestone < Milestone::WindowsPe && presses < PRESSES {
                presses += 1;
                self.reach(&mut seen, Milestone::PromptShown);
                // A machine that is going away takes no key; its end is seen above.
                if self.machine.press_key(KEY).await.is_ok() {
                    self.reach(&mut seen, Milestone::KeyPressed);
                }
            }
            if let Some(written) = written(self.machine).await
                && written >= seen.written + BREATH
            {
                alive = Instant::now();
                seen.written = written;
            }
            if alive.elapsed() >= self.patience {
                seen.ended = Ended::Silent(alive.elapsed());
                return seen;
            }
        }
    }

    /// Takes one observation; `Some` when the run has ended by it.
    async fn take(&self, o: &Observation, seen: &mut Watched, alive: &mut Instant) -> Option<Ended> {
        match &o.what {
            Seen::ScreenChanged { file, .. } => {
                let picture = self.record_dir.join(file);
                // A picture that was there before is no progress: a text cursor blinks for ever.
                if seen.pictures.insert(file.clone()) {
                    *alive = Instant::now();
                }
                seen.text = ocr::read(&picture).await;
                seen.picture = Some(picture);
            }
            Seen::InstallMarker { place } => {
                *alive = Instant::now();
                match Milestone::from_marker(place) {
                    Some(milestone) => self.reach(seen, milestone),
                    None => note(self.progress, format!("the guest says: {place}")),
                }
                if place == "first-logon-failed" {
                    return Some(Ended::Otherwise(
                        "the first logon's script failed; the screen shows at what".into(),
                    ));
                }
            }
            Seen::QmpEvent { name, data } if name == "SHUTDOWN" => return Some(shut_down(data)),
            Seen::QmpEvent { name, .. } if name == "GUEST_PANICKED" => {
                return Some(Ended::Otherwise("the guest's kernel panicked".into()));
            }
            Seen::ProcessExited { code, signal } => {
                let how = format!("QEMU ended with exit code {code:?}, signal {signal:?}; see qemu.log");
                return Some(Ended::Otherwise(how));
            }
            _ => {}
        }
        None
    }

    fn reach(&self, seen: &mut Watched, milestone: Milestone) {
        if milestone > seen.milestone {
            seen.milestone = milestone;
            seen.reached = Instant::now();
            note(self.progress, format!("{:>6.0} s  {milestone}", self.began.elapsed().as_secs_f64()));
        }
    }
}

/// qapi/run-state.json, ShutdownCause.
fn shut_down(data: &Value) -> Ended {
    match data.get("reason").and_then(Value::as_str) {
        Some("guest-reset") => Ended::Restarted,
        Some("guest-shutdown") => Ended::PoweredOff,
        other => {
            Ended::Otherwise(format!("QEMU shut the machine down, reason {}", other.unwrap_or("unknown")))
        }
    }
}

/// Bytes written to the system disk since the machine was started.
async fn written(machine: &Machine) -> Option<u64> {
    let answer = machine.qmp.execute_raw("query-blockstats", json!({}), QMP_LIMIT).await.ok()?;
    let of = |entry: &Value| entry.pointer("/stats/wr_bytes").and_then(Value::as_u64);
    Some(answer.as_array()?.iter().filter_map(of).max().unwrap_or(0))
}
