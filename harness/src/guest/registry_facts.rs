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
    /// Winlogon DefaultUserName: who logs on.
    pub logon_user: Option<String>,
    /// Seconds until the display goes off while locked or signed out (VIDEOCONLOCK), as the active scheme says.
    pub video_lock_idle: Option<u32>,
    /// Whether a press ends applications without asking them ("Enable forced button/lid shutdown", hidden).
    pub forced_button: Option<u32>,
    /// Control\Power HibernateEnabled.
    pub hibernate_enabled: Option<u32>,
    /// Session Manager\Power HiberbootEnabled: fast startup.
    pub fast_startup: Option<u32>,
    /// Control WaitToKillServiceTimeout, milliseconds, as text.
    pub service_timeout: Option<String>,
    /// HungAppTimeout of the user that logs on, milliseconds, as text.
    pub hung_app_timeout: Option<String>,
    /// WaitToKillAppTimeout of the user that logs on, milliseconds, as text.
    pub app_timeout: Option<String>,
    /// Windows NT\CurrentVersion EditionID, such as `ServerStandardEval`.
    pub edition: Option<String>,
    /// Windows NT\CurrentVersion InstallDate: seconds since 1970.
    pub installed_at: Option<u32>,
    /// Windows NT\CurrentVersion InstallationType: `Client`, `Server` or `Server Core`.
    pub installation_type: Option<String>,
}

pub(super) const WINLOGON: &str = r"Microsoft\Windows NT\CurrentVersion\Winlogon";
pub(super) const POLICIES_SYSTEM: &str = r"Microsoft\Windows\CurrentVersion\Policies\System";
/// Below the user's hive.
pub(super) const DESKTOP: &str = r"Control Panel\Desktop";
pub(super) const SERVICES: &str = r"CurrentControlSet\Services";
pub(super) const RELIABILITY: [&str; 2] =
    [r"Policies\Microsoft\Windows NT\Reliability", r"Microsoft\Windows\CurrentVersion\Reliability"];
/// Component Based Servicing.
pub(crate) const SERVICING: &str = r"Microsoft\Windows\CurrentVersion\Component Based Servicing";
pub(crate) const REBOOT_PENDING: &str =
    r"Microsoft\Windows\CurrentVersion\Component Based Servicing\RebootPending";
/// What this Windows is.
const CURRENT_VERSION: &str = r"Microsoft\Windows NT\CurrentVersion";
/// Below HKLM\SYSTEM.
pub(crate) const CONTROL: &str = r"CurrentControlSet\Control";
/// SUB_VIDEO (fact sheet A.3).
pub(super) const SUB_VIDEO: &str = "7516b95f-f776-4464-8c53-06167f40cc99";
/// VIDEOIDLE.
pub const VIDEOIDLE: &str = "3c0bc021-c8a8-4e07-a973-6b14cbcb2b7e";
/// VIDEOCONLOCK.
pub const VIDEOCONLOCK: &str = "8ec4b3a5-6868-48c2-be75-4f3044be88a7";
/// "Enable forced button/lid shutdown" in SUB_BUTTONS.
pub const FORCED_BUTTON: &str = "833a6b62-dfa4-46d1-82f8-e09e34d029d6";

impl RegistryFacts {
    /// Reads them from the system volume. Values that are not there are absent.
    pub fn read(volume: &Volume) -> Result<RegistryFacts, DiskError> {
        let mut facts = read_hive(volume, &Hive::Software, from_software)?;
        // A profile may be missing; that says nothing about the machine.
        let user = facts.logon_user.as_deref().map(Hive::user);
        if let Some(desktop) = user.and_then(|user| read_hive(volume, &user, desktop).ok()) {
            (facts.auto_end_tasks, facts.hung_app_timeout, facts.app_timeout) = desktop;
        }
        read_hive(volume, &Hive::System, |hive| {
            let setting = |group: &str, setting: &str| scheme_setting(hive, group, setting);
            let (button, number) = (facts.button_action, |found: Option<(u32, Layer)>| found.map(|(n, _)| n));
            facts.button_action = button.or_else(|| {
                setting(SUB_BUTTONS, PBUTTONACTION).map(|(index, layer)| EffectiveAction { index, layer })
            });
            facts.video_idle = facts.video_idle.or_else(|| number(setting(SUB_VIDEO, VIDEOIDLE)));
            facts.video_lock_idle =
                facts.video_lock_idle.or_else(|| number(setting(SUB_VIDEO, VIDEOCONLOCK)));
            facts.forced_button = facts.forced_button.or_else(|| number(setting(SUB_BUTTONS, FORCED_BUTTON)));
            facts.hibernate_enabled = hive.dword(&format!(r"{CONTROL}\Power"), "HibernateEnabled");
            facts.fast_startup = hive.dword(&format!(r"{CONTROL}\Session Manager\Power"), "HiberbootEnabled");
            facts.service_timeout = hive.text(CONTROL, "WaitToKillServiceTimeout");
            facts.preshutdown = preshutdown(hive);
            facts
        })
    }
}

/// AutoEndTasks, HungAppTimeout and WaitToKillAppTimeout of a user.
fn desktop(hive: &OpenHive<'_>) -> (Option<bool>, Option<String>, Option<String>) {
    let text = |name: &str| hive.text(DESKTOP, name);
    (
        Some(text("AutoEndTasks").is_some_and(|v| v == "1")),
        text("HungAppTimeout"),
        text("WaitToKillAppTimeout"),
    )
}

fn from_software(hive: &OpenHive<'_>) -> RegistryFacts {
    let policy = |setting: &str| hive.dword(&format!(r"{POLICY}\{setting}"), AC);
    let reliability = |name: &str| RELIABILITY.iter().find_map(|key| hive.dword(key, name));
    let version = |name: &str| hive.text(CURRENT_VERSION, name);
    RegistryFacts {
        button_action: policy(PBUTTONACTION).map(|index| EffectiveAction { index, layer: Layer::Policy }),
        shutdown_without_logon: hive.dword(POLICIES_SYSTEM, "ShutdownWithoutLogon"),
        auto_admin_logon: hive.text(WINLOGON, "AutoAdminLogon"),
        shutdown_reason_on: reliability("ShutdownReasonOn"),
        shutdown_reason_ui: reliability("ShutdownReasonUI"),
        reboot_pending: hive.has_key(REBOOT_PENDING),
        video_idle: policy(VIDEOIDLE),
        video_lock_idle: policy(VIDEOCONLOCK),
        forced_button: policy(FORCED_BUTTON),
        logon_user: hive.text(WINLOGON, "DefaultUserName").filter(|name| !name.is_empty()),
        edition: version("EditionID"),
        installation_type: version("InstallationType"),
        installed_at: hive.dword(CURRENT_VERSION, "InstallDate"),
        ..RegistryFacts::default()
    }
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
