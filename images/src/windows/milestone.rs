//! How far an installation has come, by what is seen of it from outside.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A place on the way. Each is further than those before it; one that cannot be seen (a driver for COM1 is missing) is
/// passed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Milestone {
    /// QEMU runs.
    MachineStarted,
    /// The disc's loader asks for a key.
    PromptShown,
    /// A key was pressed.
    KeyPressed,
    /// Setup's first commands run (COM1).
    WindowsPe,
    /// The machine was restarted with a system on its disk.
    SystemWritten,
    /// The installed system configures itself (COM1).
    Specialize,
    /// The account has logged on (COM1).
    FirstLogon,
    /// Agent and probe are installed (COM1).
    ProgramsInstalled,
    /// The system has shut itself down.
    PoweredOff,
}

impl Milestone {
    /// The milestone that a marker on COM1 stands for.
    pub fn from_marker(place: &str) -> Option<Milestone> {
        match place {
            "windows-pe" => Some(Milestone::WindowsPe),
            "specialize" => Some(Milestone::Specialize),
            "first-logon" => Some(Milestone::FirstLogon),
            "programs-installed" => Some(Milestone::ProgramsInstalled),
            _ => None,
        }
    }

    /// For people.
    pub fn sentence(self) -> &'static str {
        match self {
            Milestone::MachineStarted => "the machine is on",
            Milestone::PromptShown => "the disc asks for a key",
            Milestone::KeyPressed => "a key was pressed",
            Milestone::WindowsPe => "Setup runs",
            Milestone::SystemWritten => "the system is on the disk, first restart",
            Milestone::Specialize => "the system configures itself",
            Milestone::FirstLogon => "first logon",
            Milestone::ProgramsInstalled => "guest agent and probe are installed",
            Milestone::PoweredOff => "the system has shut itself down",
        }
    }
}

impl fmt::Display for Milestone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.sentence())
    }
}
