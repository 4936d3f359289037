//! By what means a condition comes about in a real Windows: what is written, run, or asked, and by whom.

use std::fmt;

use serde::Serialize;

/// The means. Each is one that every Windows brings, or the probe; nothing else is installed in a guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum WindowsMeans {
    /// Registry values, written to the stopped disk; online, `reg add` writes the same ones.
    RegistryValues,
    /// The probe with a window, started by the Run key at logon; online, by a desktop task (`schtasks`).
    ProbeWindow,
    /// The probe as a service with PRESHUTDOWN, registered by its key; online, by `sc create`.
    ProbeService,
    /// The same service and the key that servicing leaves: update work is synthetic, and the screen says nothing of it.
    SyntheticUpdate,
    /// A package of the user's (.msu or .cab), staged by `wusa` or `dism`: the update is real.
    StagedPackage,
    /// The guest agent suspends the system.
    AgentSuspend,
    /// A program of the probe's that calls AbortSystemShutdown.
    ProbeProgram,
    /// None: Windows has no such thing, or is not damaged on purpose.
    None,
}

impl fmt::Display for WindowsMeans {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            WindowsMeans::RegistryValues => "registry values, offline (online: reg add)",
            WindowsMeans::ProbeWindow => "probe.exe with a window, by the Run key (online: schtasks)",
            WindowsMeans::ProbeService => "probe.exe as a PRESHUTDOWN service (online: sc create)",
            WindowsMeans::SyntheticUpdate => "synthetic: probe.exe as a PRESHUTDOWN service, RebootPending",
            WindowsMeans::StagedPackage => "real: a package of yours, staged by wusa or dism",
            WindowsMeans::AgentSuspend => "the guest agent's guest-suspend-ram or -disk",
            WindowsMeans::ProbeProgram => "probe.exe abort-loop, by the Run key",
            WindowsMeans::None => "none",
        })
    }
}
