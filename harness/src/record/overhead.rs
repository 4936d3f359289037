//! What of a scenario's wall time is the guest's, and what is ours.
//!
//! **Guest-attributable** is the time in which the harness could only wait: from the start of the QEMU process that
//! became ready (`machine-started`) to readiness (`ready`); the proofs (`ready` to the last `proof`: programs run
//! in the guest); and from the first request (`requested`) to the observation that settled the outcome, the end of
//! the machine or the deadline. Everything else is **overhead**: overlay and injection, the last look before the
//! press, what follows the end (ending QEMU, reading disk and screens, diagnosis, writing the record).

use std::time::Duration;

use super::schema::ScenarioRecord;
use crate::timeline::{Observation, Seen};

/// The guest-attributable time of a run; `None` when it was not asked.
pub fn guest_time(observations: &[Observation]) -> Option<Duration> {
    let at = |o: Option<&Observation>| o.map(Observation::at);
    let requested = observations.iter().position(|o| matches!(o.what, Seen::Requested { .. }))?;
    let (before, after) = observations.split_at(requested);
    let request = after.first()?.at();
    let started = before.iter().rev().find(|o| matches!(o.what, Seen::MachineStarted { .. }));
    let ready = before.iter().rev().find(|o| matches!(o.what, Seen::Ready));
    let proven = before.iter().rev().find(|o| matches!(o.what, Seen::Proof { .. }));
    // A request at power-on: the guest's time begins with it.
    let became_ready = at(ready).zip(at(started)).map(|(r, s)| r.saturating_sub(s)).unwrap_or_default();
    let proofs = at(proven).zip(at(ready)).map(|(p, r)| p.saturating_sub(r)).unwrap_or_default();
    let ended = settling(after).or(at(after.last()))?;
    Some(became_ready + proofs + ended.saturating_sub(request))
}

/// When the observation came that settled the outcome: the guest's end, or what was seen last before it was
/// settled.
fn settling(after: &[Observation]) -> Option<Duration> {
    let settled = after.iter().position(|o| matches!(o.what, Seen::Settled { .. }))?;
    let so_far = after.get(..settled)?;
    let ends = |o: &&Observation| match &o.what {
        Seen::QmpEvent { name, .. } => matches!(name.as_str(), "SHUTDOWN" | "GUEST_PANICKED" | "RESET"),
        Seen::ProcessExited { .. } | Seen::ConsolePanic { .. } => true,
        _ => false,
    };
    // A guest that runs on was waited for until its outcome was settled.
    let end = so_far.iter().find(ends).or(after.get(settled))?;
    Some(end.at())
}

/// Wall time without the guest's; `None` when nothing was asked.
pub fn overhead(record: &ScenarioRecord, observations: &[Observation]) -> Option<Duration> {
    Some(Duration::from_millis(record.wall_ms).saturating_sub(guest_time(observations)?))
}

/// From the time QEMU stamped on its SHUTDOWN event to the recorded outcome; `None` when the machine did not end
/// by itself.
pub fn record_latency(observations: &[Observation]) -> Option<Duration> {
    let settled = observations.iter().find(|o| matches!(o.what, Seen::Settled { .. }))?;
    let shutdown =
        observations.iter().find(|o| matches!(&o.what, Seen::QmpEvent { name, .. } if name == "SHUTDOWN"))?;
    (shutdown.at_us <= settled.at_us).then(|| settled.at().saturating_sub(shutdown.at()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::timeline::Source;

    fn run(events: &[(u64, Seen)]) -> Vec<Observation> {
        let one = |(ms, what): &(u64, Seen)| Observation {
            at_us: ms * 1000,
            source: Source::Host,
            what: what.clone(),
        };
        events.iter().map(one).collect()
    }

    fn shutdown() -> Seen {
        Seen::QmpEvent { name: "SHUTDOWN".into(), data: serde_json::Value::Null }
    }

    fn requested() -> Seen {
        Seen::Requested { by: "system_powerdown".into(), number: 1 }
    }

    #[test]
    fn start_proof_and_wait_are_the_guests() {
        let proof = Seen::Proof { condition: "x".into(), present: true, evidence: String::new() };
        let settled = Seen::Settled { outcome: "powered-off".into() };
        let seen = run(&[
            (10, Seen::MachineStarted { pid: 1 }),
            (310, Seen::Ready),
            (400, proof),
            (420, requested()),
            (1420, shutdown()),
            (1423, settled),
            (1430, Seen::ProcessExited { code: Some(0), signal: None }),
        ]);
        assert_eq!(guest_time(&seen), Some(Duration::from_millis(300 + 90 + 1000)));
        assert_eq!(record_latency(&seen), Some(Duration::from_millis(3)));
    }

    #[test]
    fn a_guest_that_runs_on_is_waited_for_until_the_outcome() {
        let settled = Seen::Settled { outcome: "still-running".into() };
        // The clean-up's own SHUTDOWN comes after it and counts for nothing.
        let seen = run(&[(5, requested()), (2005, settled), (2010, shutdown())]);
        assert_eq!(guest_time(&seen), Some(Duration::from_millis(2000)));
        assert_eq!(record_latency(&seen), None);
        assert_eq!(guest_time(&run(&[(5, Seen::Ready)])), None);
    }
}
