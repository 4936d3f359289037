//! The components of Windows Setup that an answer file speaks to, and the passes each may be spoken to in.
//!
//! The table is Microsoft's Unattended Windows Setup Reference, read component by component; a component outside its
//! passes cannot be written ([`Section::new`]).

use super::xml::Node;

/// When Setup does something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Pass {
    /// Booted from the disc: partitions, image, boot-critical drivers.
    WindowsPe,
    /// First boot from the disk, before anybody exists.
    Specialize,
    /// Before the first logon, and at it.
    OobeSystem,
}

impl Pass {
    /// Its name in the file.
    pub fn name(self) -> &'static str {
        match self {
            Pass::WindowsPe => "windowsPE",
            Pass::Specialize => "specialize",
            Pass::OobeSystem => "oobeSystem",
        }
    }
}

/// A component.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Component {
    /// Language of Windows PE.
    InternationalWinPe,
    /// Drivers for Windows PE, which go into the installed system too.
    PnpWinPe,
    /// Setup itself.
    Setup,
    /// Commands of the specialize pass.
    Deployment,
    /// Computer name, time zone, out-of-box experience, accounts, first logon.
    ShellSetup,
    /// Activation.
    SecuritySppUx,
    /// Server Manager, on servers.
    ServerManager,
    /// Language of the installed system.
    International,
}

/// A row of the table.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    /// The component.
    pub component: Component,
    /// Its name.
    pub name: &'static str,
    /// Passes that the settings used here are valid in.
    pub passes: &'static [Pass],
    /// The page that says so, below learn.microsoft.com.
    pub source: &'static str,
}

/// Below this are the pages of the reference.
const REFERENCE: &str = "windows-hardware/customize/desktop/unattend/";

/// The table.
pub const TABLE: [Row; 8] = [
    Row {
        component: Component::InternationalWinPe,
        name: "Microsoft-Windows-International-Core-WinPE",
        passes: &[Pass::WindowsPe],
        source: "microsoft-windows-international-core-winpe",
    },
    Row {
        component: Component::PnpWinPe,
        name: "Microsoft-Windows-PnpCustomizationsWinPE",
        passes: &[Pass::WindowsPe],
        source: "microsoft-windows-pnpcustomizationswinpe-driverpaths",
    },
    Row {
        component: Component::Setup,
        name: "Microsoft-Windows-Setup",
        passes: &[Pass::WindowsPe],
        source: "microsoft-windows-setup",
    },
    Row {
        component: Component::Deployment,
        name: "Microsoft-Windows-Deployment",
        // RunSynchronous is valid in auditUser as well, which is not used here.
        passes: &[Pass::Specialize],
        source: "microsoft-windows-deployment-runsynchronous",
    },
    Row {
        component: Component::ShellSetup,
        name: "Microsoft-Windows-Shell-Setup",
        passes: &[Pass::Specialize, Pass::OobeSystem],
        source: "microsoft-windows-shell-setup",
    },
    Row {
        component: Component::SecuritySppUx,
        name: "Microsoft-Windows-Security-SPP-UX",
        passes: &[Pass::Specialize],
        source: "microsoft-windows-security-spp-ux-skipautoactivation",
    },
    Row {
        component: Component::ServerManager,
        name: "Microsoft-Windows-ServerManager-SvrMgrNc",
        passes: &[Pass::Specialize],
        source: "microsoft-windows-servermanager-svrmgrnc-donotopenservermanageratlogon",
    },
    Row {
        component: Component::International,
        name: "Microsoft-Windows-International-Core",
        passes: &[Pass::Specialize, Pass::OobeSystem],
        source: "microsoft-windows-international-core",
    },
];

impl Component {
    /// Its row; every component has one (a test says so).
    pub fn row(self) -> Option<&'static Row> {
        TABLE.iter().find(|row| row.component == self)
    }
}

impl Row {
    /// Address of the page.
    pub fn page(&self) -> String {
        format!("https://learn.microsoft.com/{REFERENCE}{}", self.source)
    }
}

/// What is said to one component in one pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section {
    pub(super) pass: Pass,
    pub(super) name: &'static str,
    pub(super) settings: Vec<Node>,
}

/// A component that is not spoken to in that pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{component:?} has no settings in the pass {pass:?}")]
pub struct WrongPass {
    /// The component.
    pub component: Component,
    /// The pass.
    pub pass: Pass,
}

impl Section {
    /// Settings for a component, where it has any in that pass.
    pub fn new(pass: Pass, component: Component, settings: Vec<Node>) -> Result<Section, WrongPass> {
        match component.row() {
            Some(row) if row.passes.contains(&pass) => Ok(Section { pass, name: row.name, settings }),
            _ => Err(WrongPass { component, pass }),
        }
    }
}
