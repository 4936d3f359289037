//! The requests of a run, and which of them took effect.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use softoff_guest_protocol::probe::ProbeEvent;

use super::{AGENT, DEFAULT, PRESS, is_event, is_plug, phases};
use crate::outcome::{OutcomeKind, Phase};
use crate::timeline::{Observation, Seen};

/// One request that was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RequestMade {
    /// From 1.
    pub number: u32,
    /// What was done: `system_powerdown`, `guest-shutdown`, `virsh shutdown`, `SIGKILL`, `virsh destroy`.
    pub by: String,
    /// When, milliseconds from the first request.
    pub at_ms: u64,
    /// How long the call of virsh took, milliseconds; absent without libvirt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub took_ms: Option<u64>,
    /// The QMP commands that libvirt sent to QEMU during the call, by its own log; absent without libvirt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sent: Option<Vec<String>>,
    /// Why libvirt did not do it, in its words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
}

/// Which requests took effect, by their numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TookEffect {
    /// The one that the guest first reacted to; absent when it showed no reaction.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reacted: Option<u32>,
    /// The one that brought the end; absent when the machine did not end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<u32>,
}

/// The requests, in order.
pub fn made(observations: &[Observation]) -> Vec<RequestMade> {
    let mut all: Vec<RequestMade> = Vec::new();
    let mut first = None;
    for observation in observations {
        match &observation.what {
            Seen::Requested { by, number } => {
                let first = *first.get_or_insert(observation.at());
                let at = observation.at().saturating_sub(first);
                all.push(RequestMade {
                    number: *number,
                    by: by.clone(),
                    at_ms: u64::try_from(at.as_millis()).unwrap_or(u64::MAX),
                    took_ms: None,
                    sent: None,
                    refused: None,
                });
            }
            Seen::Answered { number, took_ms, sent, refused } => {
                if let Some(request) = all.iter_mut().find(|r| r.number == *number) {
                    request.took_ms = Some(*took_ms);
                    request.sent = Some(sent.clone());
                    request.refused.clone_from(refused);
                }
            }
            _ => {}
        }
    }
    all
}

/// Who began a session's end, as the guest says: `button`, `agent`.
fn begun_by(seen: &Seen) -> Option<&str> {
    match seen {
        Seen::Probe(line) => match &line.event {
            ProbeEvent::SessionEnding { by } => Some(by),
            _ => None,
        },
        _ => None,
    }
}

/// The newest soft request before place `at` that may have begun what stands there. Where the guest says who began it,
/// only a request of that kind; one that libvirt refused never.
fn soft_before(observations: &[Observation], at: usize, by: Option<&str>) -> Option<u32> {
    let refused: Vec<u32> =
        made(observations).iter().filter(|r| r.refused.is_some()).map(|r| r.number).collect();
    let fits = |means: &str| match by {
        _ if is_plug(means) => false,
        _ if means == DEFAULT => true,
        Some("button") => means == PRESS,
        Some("agent") => means == AGENT,
        _ => true,
    };
    observations.iter().take(at).rev().find_map(|o| match &o.what {
        Seen::Requested { by, number } if fits(by) && !refused.contains(number) => Some(*number),
        _ => None,
    })
}

/// Which requests took effect. What a guest without our programs reacted to is the newest request before its screen or
/// its agent's channel showed something, which may be one too late.
pub fn took_effect(observations: &[Observation], outcome: OutcomeKind) -> TookEffect {
    let Some(start) = observations.iter().position(|o| matches!(o.what, Seen::Requested { .. })) else {
        return TookEffect::default();
    };
    let place = |found: &dyn Fn(&Observation) -> bool| {
        observations.iter().enumerate().skip(start).find(|(_, o)| found(o)).map(|(at, _)| at)
    };
    let reacted_at = phases(observations).iter().find(|r| r.phase > Phase::Request).map(|r| {
        let request = observations.get(start).map(Observation::at).unwrap_or_default();
        request + r.after
    });
    let sign = place(&|o| {
        reacted_at.is_some_and(|at| o.at() >= at && !matches!(o.what, Seen::Requested { .. }))
            || is_event(&o.what, "SUSPEND")
            || is_event(&o.what, "SUSPEND_DISK")
            || is_event(&o.what, "RESET")
    });
    let begun = |at: usize| observations.get(at).and_then(|o| begun_by(&o.what));
    let reacted = sign.and_then(|at| soft_before(observations, at, begun(at)));
    let ended = match outcome {
        OutcomeKind::HostKilled => observations.iter().rev().find_map(|o| match &o.what {
            Seen::Requested { by, number } if is_plug(by) => Some(*number),
            _ => None,
        }),
        OutcomeKind::PoweredOff
        | OutcomeKind::Hibernated
        | OutcomeKind::Suspended
        | OutcomeKind::Rebooted => {
            let last = observations.iter().rposition(|o| begun_by(&o.what).is_some());
            match last.filter(|at| *at > start) {
                Some(at) => soft_before(observations, at, begun(at)),
                None => sign.and_then(|at| soft_before(observations, at, None)),
            }
        }
        OutcomeKind::Crashed | OutcomeKind::StillRunning | OutcomeKind::HostFailed => None,
    };
    TookEffect { reacted, ended }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;
    use softoff_guest_protocol::probe::{ProbeLine, VERSION};

    use super::super::PLUG;
    use super::*;
    use crate::timeline::Source;

    fn ask(by: &str, number: u32) -> Seen {
        Seen::Requested { by: by.into(), number }
    }

    fn ending(by: &str) -> Seen {
        let event = ProbeEvent::SessionEnding { by: by.into() };
        Seen::Probe(ProbeLine { softoff: VERSION, src: "session".into(), pid: 1, seq: 1, up_ms: 0, event })
    }

    fn event(name: &str) -> Seen {
        Seen::QmpEvent { name: name.into(), data: json!({ "guest": true, "reason": "guest-shutdown" }) }
    }

    fn refused(number: u32) -> Seen {
        Seen::Answered { number, took_ms: 60_001, sent: vec![], refused: Some("agent".into()) }
    }

    fn timeline(seen: Vec<Seen>) -> Vec<Observation> {
        let stamp = |(n, what)| Observation { at_us: n as u64 * 100_000, source: Source::Host, what };
        seen.into_iter().enumerate().map(stamp).collect()
    }

    #[rstest]
    #[case::once(vec![ask(PRESS, 1), ending("button"), event("SHUTDOWN")], OutcomeKind::PoweredOff, Some(1), Some(1))]
    #[case::the_second(
        vec![ask(PRESS, 1), ask(PRESS, 2), ending("button"), event("SHUTDOWN")],
        OutcomeKind::PoweredOff, Some(2), Some(2)
    )]
    #[case::a_later_press_changes_nothing(
        vec![ask(PRESS, 1), ending("button"), ask(PRESS, 2), event("SHUTDOWN")],
        OutcomeKind::PoweredOff, Some(1), Some(1)
    )]
    #[case::the_agent_helps(
        vec![ask(PRESS, 1), ending("button"), ask(AGENT, 2), ending("agent"), event("SHUTDOWN")],
        OutcomeKind::PoweredOff, Some(1), Some(2)
    )]
    #[case::the_guest_names_the_button(
        vec![ask(PRESS, 1), ask(AGENT, 2), ending("button"), event("SHUTDOWN")],
        OutcomeKind::PoweredOff, Some(1), Some(1)
    )]
    #[case::refused_by_libvirt(
        vec![ask(AGENT, 1), refused(1), ask(PRESS, 2), event("SHUTDOWN")],
        OutcomeKind::PoweredOff, Some(2), Some(2)
    )]
    #[case::the_plug(vec![ask(PRESS, 1), ending("button"), ask(PLUG, 2)], OutcomeKind::HostKilled, Some(1), Some(2))]
    #[case::nothing_but_the_plug(vec![ask(PRESS, 1), ask(PLUG, 2)], OutcomeKind::HostKilled, None, Some(2))]
    #[case::asleep(vec![ask(PRESS, 1), event("SUSPEND")], OutcomeKind::Suspended, Some(1), Some(1))]
    #[case::still_running(vec![ask(PRESS, 1), ask(PRESS, 2)], OutcomeKind::StillRunning, None, None)]
    #[case::nobody_asked(vec![event("SHUTDOWN")], OutcomeKind::PoweredOff, None, None)]
    fn the_request_that_took_effect_is_named(
        #[case] seen: Vec<Seen>,
        #[case] outcome: OutcomeKind,
        #[case] reacted: Option<u32>,
        #[case] ended: Option<u32>,
    ) {
        assert_eq!(took_effect(&timeline(seen), outcome), TookEffect { reacted, ended });
    }

    #[test]
    fn answers_stand_with_their_requests() {
        let made = made(&timeline(vec![ask(DEFAULT, 1), refused(1), ask(PRESS, 2)]));
        let short: Vec<_> =
            made.iter().map(|r| (r.number, r.at_ms, r.took_ms, r.refused.is_some())).collect();
        assert_eq!(short, [(1, 0, Some(60_001), true), (2, 200, None, false)]);
    }
}
