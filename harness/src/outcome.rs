//! Outcome, cause and verdict: three different things, kept apart.
//!
//! * [`Outcome`]: what became of the machine, judged from QMP and the process, before any clean-up.
//! * [`Cause`]: why it did not (or did) shut down; a diagnosis, with evidence.
//! * [`Verdict`]: the outcome, phases and cause held against the scenario's expectation.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What became of the machine by the deadline.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "kebab-case", rename_all_fields = "snake_case")]
pub enum Outcome {
    /// The guest ended itself in S5: QMP SHUTDOWN with guest=true, reason guest-shutdown, and no
    /// SUSPEND_DISK before it.
    PoweredOff,
    /// The guest wrote itself to disk (S4): SUSPEND_DISK, then a normal-looking SHUTDOWN.
    Hibernated,
    /// The guest sleeps (S3): QMP SUSPEND and no WAKEUP after it.
    Suspended,
    /// The guest reset instead of powering off.
    Rebooted,
    /// The guest's kernel died: GUEST_PANICKED, GUEST_CRASHLOADED, SHUTDOWN reason guest-panic, or a
    /// kernel panic on its console.
    Crashed {
        /// What was seen, escaped for the terminal.
        evidence: String,
    },
    /// The machine still ran when the deadline came (or when the evidence had decided earlier).
    StillRunning,
    /// The host took the power away, as the request: only in hard power-off requests.
    HostKilled,
    /// QEMU, or the host under it, failed: nothing is known of the guest.
    HostFailed {
        /// What failed.
        what: String,
    },
}

impl Outcome {
    /// Whether the machine had ended, or gone into S5 or S4, before the harness touched it.
    pub fn ended_the_machine(&self) -> bool {
        matches!(self, Outcome::PoweredOff | Outcome::Hibernated | Outcome::HostKilled)
    }

    /// The outcome's name as in records and scenario files.
    pub fn kind(&self) -> OutcomeKind {
        match self {
            Outcome::PoweredOff => OutcomeKind::PoweredOff,
            Outcome::Hibernated => OutcomeKind::Hibernated,
            Outcome::Suspended => OutcomeKind::Suspended,
            Outcome::Rebooted => OutcomeKind::Rebooted,
            Outcome::Crashed { .. } => OutcomeKind::Crashed,
            Outcome::StillRunning => OutcomeKind::StillRunning,
            Outcome::HostKilled => OutcomeKind::HostKilled,
            Outcome::HostFailed { .. } => OutcomeKind::HostFailed,
        }
    }
}

/// What ended the wait for an outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum SettledBy {
    /// The machine ended, or the host's own request did.
    Event,
    /// The evidence showed that nothing more will come of it until somebody acts.
    Evidence,
    /// The deadline.
    Deadline,
}

/// The name of an [`Outcome`], without its details; what a scenario expects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs, reason = "each is documented at Outcome")]
pub enum OutcomeKind {
    PoweredOff,
    Hibernated,
    Suspended,
    Rebooted,
    Crashed,
    StillRunning,
    HostKilled,
    HostFailed,
}

/// How far a shutdown came. Ordered: a later phase implies the earlier ones were passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// The host asked.
    Request,
    /// The guest shows that it noticed: a probe line, a changed screen.
    Reacted,
    /// All applications have gone.
    SessionEnded,
    /// All services have gone (the guest agent among them).
    ServicesStopped,
    /// S5: the power is off.
    PoweredOff,
}

impl Phase {
    /// All phases, in order.
    pub const ALL: [Phase; 5] =
        [Phase::Request, Phase::Reacted, Phase::SessionEnded, Phase::ServicesStopped, Phase::PoweredOff];
}

/// The seven documented causes, the control, and what was found in the field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Cause {
    /// Nothing is wrong: the control.
    None,
    /// Update work at shutdown prolongs it.
    WindowsUpdate,
    /// The Shutdown Event Tracker's dialog waits for a person.
    ShutdownEventTracker,
    /// Nobody is logged on, and the policy discards the request.
    LogonRequired,
    /// An application or service does not answer.
    UnresponsiveApplication,
    /// The power button is ignored or set to do something else.
    PowerButtonPolicy,
    /// Sleeping, hibernating, or the display is off.
    Asleep,
    /// A hostile process or a damaged system blocks it.
    Malware,
    /// Pressed before the operating system listened.
    EarlyRequest,
    /// The evidence does not decide.
    Unknown,
}

/// The outcome, phases and cause held against the scenario's expectation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Everything expected was observed.
    Pass,
    /// Something else was observed.
    Fail,
    /// The condition was not proven, or the outcome cannot be tied to the request.
    Inconclusive,
    /// Fails in a way that is on file, with owner and expiry.
    KnownIssue,
    /// Failed, then passed on a retry that was asked for.
    Flaky,
    /// Not run, with a reason.
    Skipped,
    /// The host or the harness failed; nothing is said about the guest.
    Infra,
}

/// How the host asks. Through libvirt each is the `virsh` command that stands behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RequestMeans {
    /// The ACPI power button: QMP `system_powerdown`; `virsh shutdown --mode acpi`.
    AcpiButton,
    /// The guest agent's `guest-shutdown`, which forces; `virsh shutdown --mode agent`.
    GuestAgent,
    /// The same with mode `halt`: qemu-ga asks a Linux for `shutdown -H`, a Windows for EWX_SHUTDOWN in the place of
    /// EWX_POWEROFF (QEMU's qga/commands-posix.c, commands-win32.c). libvirt has no command for it, and passes it on.
    GuestAgentHalt,
    /// `virsh shutdown` without a mode: the agent where the domain has one, and ACPI when that fails. libvirt only.
    LibvirtDefault,
    /// The host pulls the plug: SIGKILL to QEMU; `virsh destroy`.
    HardPowerOff,
    /// The host pulls the plug, and QEMU may close its files: `virsh destroy --graceful`. libvirt only.
    DestroyGraceful,
}

impl RequestMeans {
    /// Whether it takes the power away.
    pub fn is_hard(self) -> bool {
        matches!(self, RequestMeans::HardPowerOff | RequestMeans::DestroyGraceful)
    }

    /// Whether the guest's agent is what is asked, and nothing else.
    pub fn is_agent(self) -> bool {
        matches!(self, RequestMeans::GuestAgent | RequestMeans::GuestAgentHalt)
    }

    /// Whether only libvirt has it.
    pub fn needs_libvirt(self) -> bool {
        matches!(self, RequestMeans::LibvirtDefault | RequestMeans::DestroyGraceful)
    }
}

/// Who starts a machine's QEMU, and is asked for the shutdown.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum BackendKind {
    /// Softoff itself, by QMP.
    #[default]
    Qemu,
    /// A libvirtd, by virsh.
    Libvirt,
}

/// Writes the serde name of a plain enum, which is the name people see everywhere.
macro_rules! display_as_serialized {
    ($($kind:ty),+) => {$(
        impl fmt::Display for $kind {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match serde_json::to_value(self) {
                    Ok(serde_json::Value::String(name)) => f.pad(&name),
                    _ => f.pad("?"),
                }
            }
        }
    )+};
}
display_as_serialized!(OutcomeKind, SettledBy, Phase, Cause, Verdict, RequestMeans, BackendKind);

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case(Outcome::PoweredOff, true)]
    #[case(Outcome::Hibernated, true)]
    #[case(Outcome::HostKilled, true)]
    #[case(Outcome::Suspended, false)]
    #[case(Outcome::Rebooted, false)]
    #[case(Outcome::Crashed { evidence: String::new() }, false)]
    #[case(Outcome::StillRunning, false)]
    #[case(Outcome::HostFailed { what: String::new() }, false)]
    fn only_some_ends_leave_a_disk_as_the_guest_left_it(#[case] outcome: Outcome, #[case] ended: bool) {
        assert_eq!(outcome.ended_the_machine(), ended);
    }

    /// Hard, the agent's, libvirt's alone.
    #[rstest]
    #[case(RequestMeans::AcpiButton, [false, false, false])]
    #[case(RequestMeans::GuestAgent, [false, true, false])]
    #[case(RequestMeans::GuestAgentHalt, [false, true, false])]
    #[case(RequestMeans::LibvirtDefault, [false, false, true])]
    #[case(RequestMeans::HardPowerOff, [true, false, false])]
    #[case(RequestMeans::DestroyGraceful, [true, false, true])]
    fn requests_are_of_one_kind_each(#[case] means: RequestMeans, #[case] kinds: [bool; 3]) {
        assert_eq!([means.is_hard(), means.is_agent(), means.needs_libvirt()], kinds);
    }

    #[test]
    fn names_are_the_design_words() {
        assert_eq!(OutcomeKind::StillRunning.to_string(), "still-running");
        assert_eq!(Phase::ServicesStopped.to_string(), "services-stopped");
        assert_eq!(Cause::UnresponsiveApplication.to_string(), "unresponsive-application");
        assert_eq!(Verdict::KnownIssue.to_string(), "known-issue");
        assert_eq!(format!("{:>6}", Verdict::Pass), "  pass");
    }

    #[test]
    fn phases_are_ordered() {
        assert!(Phase::ALL.is_sorted());
    }
}
