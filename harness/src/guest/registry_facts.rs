//! What a guest's registry says about shutting down, read offline from its disk by the documented paths.
//!
//! Read after the machine has gone: the same code serves every outcome, and a guest whose agent is silent
//! tells as much as one that answers. Absent values stay `None`; defaults are the rules' business.

use serde::{Deserialize, Serialize};

use crate::disk::registry::{OpenHive, read_hive};
use crate::disk::{DiskError, Hive, Volume};
use crate::guest::power_policy::{
    AC, DEFAULTS, EffectiveAction, Layer, PBUTTONACTION, POLICY, SCHEMES, SUB_BUTTONS,
};

/// A service with a preshutdown time-out of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PreshutdownService {
    /// Its name.
    pub name: String,
    /// PreshutdownTimeout, milliseconds.
    pub timeout_ms: u32,
}

/// The values that decide what a request does.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RegistryFacts {
    /// The power button's action, looked up as Windows does.
    pub button_action: Option<EffectiveAction>,
    /// Policies\System ShutdownWithoutLogon.
    pub shutdown_without_logon: Option<u32>,
    /// Winlogon AutoAdminLogon.
    pub auto_admin_logon: Option<String>,
    /// ShutdownReasonOn, policy before preference.
    pub shutdown_reason_on: Option<u32>,
    /// ShutdownReasonUI, policy before preference.
    pub shutdown_reason_ui: Option<u32>,
    /// Component Based Servicing\RebootPending exists.
    pub reboot_pending: bool,
    /// Seconds until the display goes off, as the active scheme says; 0 never.
    pub video_idle: Option<u32>,
    /// AutoEndTasks of the user that logs on: whether Windows ends applications without asking a person.
    /// `None` when that user or the hive was not found; without the value it is off (fact sheet B.0).
    pub auto_end_tasks: Option<bool>,
    /// Services with a time-out of their own.
    pub preshutdown: Vec<PreshutdownService>,
}

pub(super) const WINLOGON: &str = r"Microsoft\Windows NT\CurrentVersion\Winlogon";
pub(super) const POLICIES_SYSTEM: &str = r"Microsoft\Windows\CurrentVersion\Policies\System";
/// Below the user's hive.
pub(super) const DESKTOP: &str = r"Control Panel\Desktop";
pub(super) const SERVICES: &str = r"CurrentControlSet\Services";
pub(super) const RELIABILITY: [&str; 2] =
    [r"Policies\Microsoft\Windows NT\Reliability", r"Microsoft\Windows\CurrentVersion\Reliability"];
pub(super) const REBOOT_PENDING: &str =
    r"Microsoft\Windows\CurrentVersion\Component Based Servicing\RebootPending";
/// SUB_VIDEO (fact sheet A.3).
pub(super) const SUB_VIDEO: &str = "7516b95f-f776-4464-8c53-06167f40cc99";
/// VIDEOIDLE.
pub const VIDEOIDLE: &str = "3c0bc021-c8a8-4e07-a973-6b14cbcb2b7e";

impl RegistryFacts {
    /// Reads them from the system volume. Values that are not there are absent.
    pub fn read(volume: &Volume) -> Result<RegistryFacts, DiskError> {
        let (mut facts, user) = read_hive(volume, &Hive::Software, from_software)?;
        // A profile may be missing; that says nothing about the machine.
        facts.auto_end_tasks = user.and_then(|name| {
            let read = |hive: &OpenHive<'_>| hive.text(DESKTOP, "AutoEndTasks").is_some_and(|v| v == "1");
            read_hive(volume, &Hive::user(&name), read).ok()
        });
        let (button, idle) = (facts.button_action, facts.video_idle);
        read_hive(volume, &Hive::System, move |hive| {
            facts.button_action = button.or_else(|| {
                let found = scheme_setting(hive, SUB_BUTTONS, PBUTTONACTION);
                found.map(|(index, layer)| EffectiveAction { index, layer })
            });
            facts.video_idle = idle.or_else(|| scheme_setting(hive, SUB_VIDEO, VIDEOIDLE).map(|(s, _)| s));
            facts.preshutdown = preshutdown(hive);
            facts
        })
    }
}

/// The facts, and the user that logs on.
fn from_software(hive: &OpenHive<'_>) -> (RegistryFacts, Option<String>) {
    let policy = |setting: &str| hive.dword(&format!(r"{POLICY}\{setting}"), AC);
    let reliability = |name: &str| RELIABILITY.iter().find_map(|key| hive.dword(key, name));
    let facts = RegistryFacts {
        button_action: policy(PBUTTONACTION).map(|index| EffectiveAction { index, layer: Layer::Policy }),
        shutdown_without_logon: hive.dword(POLICIES_SYSTEM, "ShutdownWithoutLogon"),
        auto_admin_logon: hive.text(WINLOGON, "AutoAdminLogon"),
        shutdown_reason_on: reliability("ShutdownReasonOn"),
        shutdown_reason_ui: reliability("ShutdownReasonUI"),
        reboot_pending: hive.has_key(REBOOT_PENDING),
        video_idle: policy(VIDEOIDLE),
        auto_end_tasks: None,
        preshutdown: Vec::new(),
    };
    (facts, hive.text(WINLOGON, "DefaultUserName").filter(|name| !name.is_empty()))
}

/// The active scheme's user values, then its defaults (fact sheet A.4).
fn scheme_setting(hive: &OpenHive<'_>, group: &str, setting: &str) -> Option<(u32, Layer)> {
    let scheme = hive.text(SCHEMES, "ActivePowerScheme")?;
    let user = hive.dword(&format!(r"{SCHEMES}\{scheme}\{group}\{setting}"), AC);
    let default = format!(r"{DEFAULTS}\{group}\{setting}\DefaultPowerSchemeValues\{scheme}");
    user.map(|v| (v, Layer::Scheme)).or_else(|| hive.dword(&default, AC).map(|v| (v, Layer::Default)))
}

fn preshutdown(hive: &OpenHive<'_>) -> Vec<PreshutdownService> {
    let found = hive.dwords_below(SERVICES, "PreshutdownTimeout");
    found.into_iter().map(|(name, timeout_ms)| PreshutdownService { name, timeout_ms }).collect()
}
