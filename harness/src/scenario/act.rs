//! What the host does after the first request, and when.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use softoff_guest_protocol::probe::ProbeEvent;

use super::Span;
use crate::timeline::{Observation, Seen};

/// A later act of the host.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FollowUp {
    /// What the guest must have come to; only guests with our own programs tell.
    #[serde(default)]
    pub on: Option<Moment>,
    /// Time since that moment or, without one, since the act before it was answered.
    #[serde(default)]
    pub after: Option<Span>,
    /// What is done.
    #[serde(rename = "do")]
    pub act: HostAct,
    /// For a forced end: it comes earlier when the evidence shows that nothing more will come until somebody acts.
    #[serde(default)]
    pub cut_short: bool,
    /// For `keys`: QEMU's names of the keys (QKeyCode), pressed one after another.
    #[serde(default)]
    pub keys: Vec<String>,
}

/// What a host can do to a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum HostAct {
    /// Press the ACPI power button again.
    Press,
    /// Ask the guest agent to power off, which forces.
    GuestAgent,
    /// Wake a machine in S3: QMP `system_wakeup`.
    Wake,
    /// Press and release keys: QMP `input-send-event`.
    Keys,
    /// `virsh shutdown` without a mode.
    LibvirtDefault,
    /// Pull the plug: SIGKILL to QEMU, or `virsh destroy`.
    HardPowerOff,
    /// `virsh destroy --graceful`.
    DestroyGraceful,
}

impl fmt::Display for HostAct {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = serde_json::to_value(self).ok();
        f.pad(name.as_ref().and_then(serde_json::Value::as_str).unwrap_or("?"))
    }
}

impl HostAct {
    /// Whether it takes the power away.
    pub fn is_hard(self) -> bool {
        matches!(self, HostAct::HardPowerOff | HostAct::DestroyGraceful)
    }

    /// Whether only libvirt has it.
    pub fn needs_libvirt(self) -> bool {
        matches!(self, HostAct::LibvirtDefault | HostAct::DestroyGraceful)
    }
}

/// A moment of a shutdown, as the guest's own programs tell it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Moment {
    /// The end of the session begins; no application was asked yet.
    SessionEnding,
    /// All applications have gone.
    SessionEnded,
    /// The first service was told to stop.
    ServicesStopping,
    /// So much of the update work is done, in percent.
    UpdateProgress(u32),
}

impl Moment {
    /// Whether an observation shows that the guest has come to it.
    pub fn is_shown_by(self, observation: &Observation) -> bool {
        let Seen::Probe(line) = &observation.what else { return false };
        match (self, &line.event) {
            (Moment::SessionEnding, ProbeEvent::SessionEnding { .. })
            | (Moment::SessionEnded, ProbeEvent::SessionEnded)
            | (Moment::ServicesStopping, ProbeEvent::ServiceStopping { .. }) => true,
            (Moment::UpdateProgress(least), ProbeEvent::UpdateProgress { percent }) => *percent >= least,
            _ => false,
        }
    }
}

impl FollowUp {
    /// The key of the first value that contradicts another, and why.
    pub(super) fn contradiction(&self) -> Option<(&'static str, String)> {
        if self.on.is_none() && self.after.is_none() {
            let what = "when? say `after = \"10s\"` or `on = \"session-ended\"`, or both";
            return Some(("do", what.into()));
        }
        if self.cut_short && !self.act.is_hard() {
            return Some(("cut_short", "`cut_short` goes with an act that takes the power away".into()));
        }
        if matches!(self.on, Some(Moment::UpdateProgress(percent)) if percent > 100) {
            return Some(("on", "`update-progress` is a share in percent: 0 to 100".into()));
        }
        match (self.act, self.keys.is_empty()) {
            (HostAct::Keys, true) => {
                Some(("do", "`keys` is missing: name the keys, such as [\"ret\"]".into()))
            }
            (HostAct::Keys, false) | (_, true) => None,
            (_, false) => Some(("do", "`keys` goes with do = \"keys\", and only with it".into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::timeline::Source;
    use rstest::rstest;
    use softoff_guest_protocol::probe::{ProbeLine, VERSION};

    fn told(event: ProbeEvent) -> Observation {
        let line = ProbeLine { softoff: VERSION, src: "session".into(), pid: 1, seq: 1, up_ms: 0, event };
        Observation { at_us: 0, source: Source::Probe, what: Seen::Probe(line) }
    }

    #[rstest]
    #[case(30, 29, false)]
    #[case(30, 30, true)]
    #[case(30, 99, true)]
    #[case(0, 0, true)]
    fn progress_counts_from_its_share_on(#[case] least: u32, #[case] percent: u32, #[case] shown: bool) {
        let seen = told(ProbeEvent::UpdateProgress { percent });
        assert_eq!(Moment::UpdateProgress(least).is_shown_by(&seen), shown);
    }

    #[test]
    fn no_moment_is_shown_by_another_ones_line() {
        let lines = [
            told(ProbeEvent::SessionEnding { by: "button".into() }),
            told(ProbeEvent::SessionEnded),
            told(ProbeEvent::ServiceStopping { service: "S".into() }),
            told(ProbeEvent::UpdateProgress { percent: 50 }),
            Observation { at_us: 0, source: Source::Host, what: Seen::Ready },
        ];
        let moments = [
            Moment::SessionEnding,
            Moment::SessionEnded,
            Moment::ServicesStopping,
            Moment::UpdateProgress(30),
        ];
        for (number, moment) in moments.into_iter().enumerate() {
            let shown: Vec<usize> = (0..lines.len()).filter(|n| moment.is_shown_by(&lines[*n])).collect();
            assert_eq!(shown, [number], "{moment:?}");
        }
    }
}
