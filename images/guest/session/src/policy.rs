//! What the registry says about the button and about time limits, looked up as Windows documents it.
//!
//! Nothing here calls Win32: the values come through [`Values`], so that the lookup runs in tests anywhere.

use std::time::Duration;

/// The two registry roots that matter here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Root {
    /// HKEY_LOCAL_MACHINE.
    Machine,
    /// HKEY_CURRENT_USER.
    User,
}

/// Reads single registry values; `None` for a missing key, a missing value or another type.
pub(crate) trait Values {
    /// A REG_DWORD.
    fn dword(&self, root: Root, key: &str, name: &str) -> Option<u32>;
    /// A REG_SZ or REG_EXPAND_SZ.
    fn text(&self, root: Root, key: &str, name: &str) -> Option<String>;
    /// A REG_MULTI_SZ; empty where there is none.
    fn list(&self, root: Root, key: &str, name: &str) -> Vec<String>;
    /// Whether the key exists.
    fn has_key(&self, root: Root, key: &str) -> bool;
}

/// What a press of the power button does: the values of PBUTTONACTION.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ButtonAction {
    /// 0.
    Nothing,
    /// 1.
    Sleep,
    /// 2.
    Hibernate,
    /// 3.
    ShutDown,
    /// 4.
    DisplayOff,
    /// A number that Windows does not define.
    Undefined(u32),
}

impl ButtonAction {
    fn from_value(value: u32) -> ButtonAction {
        match value {
            0 => ButtonAction::Nothing,
            1 => ButtonAction::Sleep,
            2 => ButtonAction::Hibernate,
            3 => ButtonAction::ShutDown,
            4 => ButtonAction::DisplayOff,
            other => ButtonAction::Undefined(other),
        }
    }

    /// The number in the registry.
    pub(crate) fn value(self) -> u32 {
        match self {
            ButtonAction::Nothing => 0,
            ButtonAction::Sleep => 1,
            ButtonAction::Hibernate => 2,
            ButtonAction::ShutDown => 3,
            ButtonAction::DisplayOff => 4,
            ButtonAction::Undefined(value) => value,
        }
    }
}

/// The effective action, and the layer of the lookup that gave it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ButtonPolicy {
    /// What a press does.
    pub(crate) action: ButtonAction,
    /// `policy`, `scheme`, `default` or `fallback`.
    pub(crate) layer: &'static str,
}

/// A power setting: its subgroup and its own GUID (winnt.h).
#[derive(Debug, Clone, Copy)]
struct Setting {
    subgroup: &'static str,
    guid: &'static str,
}

/// GUID_SYSTEM_BUTTON_SUBGROUP.
const BUTTONS: &str = "4f971e89-eebd-4455-a8de-9e59040e7347";
/// GUID_VIDEO_SUBGROUP.
const VIDEO: &str = "7516b95f-f776-4464-8c53-06167f40cc99";
/// GUID_POWERBUTTON_ACTION.
const PBUTTONACTION: Setting = Setting { subgroup: BUTTONS, guid: "7648efa3-dd9c-4e3e-b566-50f929386280" };
/// "Enable forced button/lid shutdown", hidden; 1 is on.
const FORCED_SHUTDOWN: Setting = Setting { subgroup: BUTTONS, guid: "833a6b62-dfa4-46d1-82f8-e09e34d029d6" };
/// GUID_VIDEO_POWERDOWN_TIMEOUT, in seconds.
const VIDEOIDLE: Setting = Setting { subgroup: VIDEO, guid: "3c0bc021-c8a8-4e07-a973-6b14cbcb2b7e" };
/// GUID_VIDEO_CONSOLE_LOCK_TIMEOUT, hidden, in seconds.
const VIDEOCONLOCK: Setting = Setting { subgroup: VIDEO, guid: "8ec4b3a5-6868-48c2-be75-4f3044be88a7" };

/// SCHEME_BALANCED, active where nothing else is chosen.
const BALANCED: &str = "381b4222-f694-41f0-9685-ff5bb260df2e";
const POLICIES: &str = r"SOFTWARE\Policies\Microsoft\Power\PowerSettings";
const POWER: &str = r"SYSTEM\CurrentControlSet\Control\Power";
/// A guest without a battery runs on mains, so the AC value applies.
const INDEX: &str = "ACSettingIndex";

/// The documented lookup of a power setting: group policy, then the active scheme's own value, then that
/// scheme's default. With the value comes the name of its layer.
fn power_setting(values: &dyn Values, setting: Setting) -> Option<(u32, &'static str)> {
    let machine = |key: &str, name: &str| values.text(Root::Machine, key, name);
    let scheme = machine(POLICIES, "ActivePowerScheme")
        .or_else(|| machine(&format!(r"{POWER}\User\PowerSchemes"), "ActivePowerScheme"))
        .map_or_else(|| BALANCED.to_owned(), |guid| guid.trim_matches(['{', '}']).to_owned());
    let Setting { subgroup, guid } = setting;
    let layers = [
        ("policy", format!(r"{POLICIES}\{guid}")),
        ("scheme", format!(r"{POWER}\User\PowerSchemes\{scheme}\{subgroup}\{guid}")),
        ("default", format!(r"{POWER}\PowerSettings\{subgroup}\{guid}\DefaultPowerSchemeValues\{scheme}")),
    ];
    layers.iter().find_map(|(layer, key)| Some((values.dword(Root::Machine, key, INDEX)?, *layer)))
}

/// What PBUTTONACTION says. Where no layer has it: shut down, the default of Windows Server.
pub(crate) fn button_policy(values: &dyn Values) -> ButtonPolicy {
    let (value, layer) = power_setting(values, PBUTTONACTION).unwrap_or((3, "fallback"));
    ButtonPolicy { action: ButtonAction::from_value(value), layer }
}

/// Whether a press ends the applications without asking them. Off where no layer has the setting.
pub(crate) fn forced_button(values: &dyn Values) -> bool {
    power_setting(values, FORCED_SHUTDOWN).is_some_and(|(value, _)| value == 1)
}

/// After how much time without input the display goes off; `None` is never. On a covered console (locked, or
/// nobody logged on) VIDEOCONLOCK counts, where there is one.
///
/// Windows has defaults even where the registry has none (10 minutes; 60 seconds when covered). This guest has
/// not: its display stays on unless a value says otherwise, so that a run without that cause keeps its picture.
pub(crate) fn display_idle(values: &dyn Values, covered: bool) -> Option<Duration> {
    let idle = || power_setting(values, VIDEOIDLE);
    let setting = if covered { power_setting(values, VIDEOCONLOCK).or_else(idle) } else { idle() };
    let (seconds, _) = setting?;
    (seconds != 0).then(|| Duration::from_secs(seconds.into()))
}

/// How long the end of a session waits for whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limits {
    /// For the answer to WM_QUERYENDSESSION.
    pub(crate) hung_app: Duration,
    /// For a program to end.
    pub(crate) kill_app: Duration,
    /// Whether programs that hold the shutdown are ended without asking a person.
    pub(crate) auto_end: bool,
    /// For services to stop.
    pub(crate) kill_service: Duration,
}

/// Reads the limits; defaults are those of current Windows.
pub(crate) fn limits(values: &dyn Values) -> Limits {
    const DESKTOP: &str = r"Control Panel\Desktop";
    let milliseconds = |root, key: &str, name: &str, default| {
        let text = values.text(root, key, name);
        let number = text.and_then(|text| text.trim().parse::<u32>().ok());
        Duration::from_millis(number.unwrap_or(default).into())
    };
    let auto_end = values.text(Root::User, DESKTOP, "AutoEndTasks");
    Limits {
        hung_app: milliseconds(Root::User, DESKTOP, "HungAppTimeout", 5_000),
        kill_app: milliseconds(Root::User, DESKTOP, "WaitToKillAppTimeout", 20_000),
        auto_end: auto_end.is_some_and(|text| text.trim() == "1"),
        kill_service: milliseconds(
            Root::Machine,
            r"SYSTEM\CurrentControlSet\Control",
            "WaitToKillServiceTimeout",
            5_000,
        ),
    }
}

/// How long a service that asked for SERVICE_CONTROL_PRESHUTDOWN may take: its own `PreshutdownTimeout`, else
/// 10 s (Windows from build 15063 on; before that, 180 s).
pub(crate) fn preshutdown_limit(values: &dyn Values, service: &str) -> Duration {
    let key = format!(r"SYSTEM\CurrentControlSet\Services\{service}");
    let own = values.dword(Root::Machine, &key, "PreshutdownTimeout");
    Duration::from_millis(own.unwrap_or(10_000).into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::Table;
    use rstest::rstest;

    const SETTING_PATH: &str = r"4f971e89-eebd-4455-a8de-9e59040e7347\7648efa3-dd9c-4e3e-b566-50f929386280";
    const HIGH: &str = "8c5e7fda-e8bf-4a96-9a85-a6e23a8c635c";

    const IDLE_PATH: &str = r"7516b95f-f776-4464-8c53-06167f40cc99\3c0bc021-c8a8-4e07-a973-6b14cbcb2b7e";
    const LOCKED_PATH: &str = r"7516b95f-f776-4464-8c53-06167f40cc99\8ec4b3a5-6868-48c2-be75-4f3044be88a7";
    const FORCED_PATH: &str = r"4f971e89-eebd-4455-a8de-9e59040e7347\833a6b62-dfa4-46d1-82f8-e09e34d029d6";

    fn set(table: Table, layer: &str, scheme: &str, value: u32) -> Table {
        set_other(table, SETTING_PATH, layer, scheme, value)
    }

    fn set_other(table: Table, path: &str, layer: &str, scheme: &str, value: u32) -> Table {
        let power = r"SYSTEM\CurrentControlSet\Control\Power";
        let own = path.rsplit('\\').next().unwrap().to_uppercase();
        let key = match layer {
            "policy" => format!(r"SOFTWARE\Policies\Microsoft\Power\PowerSettings\{own}"),
            "scheme" => format!(r"{power}\User\PowerSchemes\{scheme}\{path}"),
            _ => format!(r"{power}\PowerSettings\{path}\DefaultPowerSchemeValues\{scheme}"),
        };
        table.with(Root::Machine, &format!(r"{key}\ACSettingIndex"), &format!("dword:{value}"))
    }

    #[rstest]
    #[case(&[], 3, "fallback")]
    #[case(&[("default", 1)], 1, "default")]
    #[case(&[("default", 3), ("scheme", 0)], 0, "scheme")]
    #[case(&[("default", 3), ("scheme", 3), ("policy", 0)], 0, "policy")]
    #[case(&[("policy", 3), ("scheme", 0)], 3, "policy")]
    #[case(&[("scheme", 9)], 9, "scheme")]
    fn the_highest_layer_wins(#[case] set_layers: &[(&str, u32)], #[case] action: u32, #[case] layer: &str) {
        let table =
            set_layers.iter().fold(Table::default(), |t, (layer, value)| set(t, layer, BALANCED, *value));
        let got = button_policy(&table);
        assert_eq!((got.action.value(), got.layer), (action, layer));
    }

    #[test]
    fn only_the_active_scheme_counts() {
        let table = set(set(Table::default(), "scheme", BALANCED, 0), "scheme", HIGH, 2);
        let active = r"SYSTEM\CurrentControlSet\Control\Power\User\PowerSchemes\ActivePowerScheme";
        let table = table.with(Root::Machine, active, HIGH);
        assert_eq!(button_policy(&table).action, ButtonAction::Hibernate);
        let forced = r"SOFTWARE\Policies\Microsoft\Power\PowerSettings\ActivePowerScheme";
        let table = table.with(Root::Machine, forced, BALANCED);
        assert_eq!(button_policy(&table).action, ButtonAction::Nothing);
    }

    #[rstest]
    #[case(&[], false, None)]
    #[case(&[(IDLE_PATH, "scheme", 0), (IDLE_PATH, "default", 600)], false, None)]
    #[case(&[(IDLE_PATH, "default", 600)], false, Some(600))]
    #[case(&[(IDLE_PATH, "policy", 20), (IDLE_PATH, "scheme", 0)], true, Some(20))]
    #[case(&[(IDLE_PATH, "scheme", 600), (LOCKED_PATH, "default", 60)], true, Some(60))]
    #[case(&[(IDLE_PATH, "scheme", 600), (LOCKED_PATH, "default", 60)], false, Some(600))]
    #[case(&[(IDLE_PATH, "scheme", 600), (LOCKED_PATH, "default", 0)], true, None)]
    fn the_display_goes_off_by_its_own_setting(
        #[case] settings: &[(&str, &str, u32)],
        #[case] covered: bool,
        #[case] seconds: Option<u64>,
    ) {
        let table = settings
            .iter()
            .fold(Table::default(), |t, (path, layer, value)| set_other(t, path, layer, BALANCED, *value));
        assert_eq!(display_idle(&table, covered), seconds.map(Duration::from_secs));
    }

    #[test]
    fn force_is_off_until_its_setting_is_on() {
        let forced = |value| set_other(Table::default(), FORCED_PATH, "scheme", BALANCED, value);
        assert!(!forced_button(&Table::default()) && !forced_button(&forced(0)) && forced_button(&forced(1)));
    }

    #[test]
    fn limits_have_the_defaults_of_windows_and_ignore_nonsense() {
        let desktop = |table: Table, name: &str, data: &str| {
            table.with(Root::User, &format!(r"Control Panel\Desktop\{name}"), data)
        };
        let defaults = limits(&desktop(Table::default(), "HungAppTimeout", "soon"));
        assert_eq!(
            (defaults.hung_app, defaults.kill_app, defaults.auto_end, defaults.kill_service),
            (Duration::from_secs(5), Duration::from_secs(20), false, Duration::from_secs(5))
        );
        let table = desktop(desktop(Table::default(), "AutoEndTasks", "1"), "WaitToKillAppTimeout", " 3000 ");
        let service = r"SYSTEM\CurrentControlSet\Control\WaitToKillServiceTimeout";
        let set = limits(&table.with(Root::Machine, service, "12000"));
        assert_eq!(
            (set.kill_app, set.auto_end, set.kill_service),
            (Duration::from_secs(3), true, Duration::from_secs(12))
        );
    }

    #[test]
    fn a_services_own_preshutdown_limit_is_used() {
        let key = r"SYSTEM\CurrentControlSet\Services\Update\PreshutdownTimeout";
        let table = Table::default().with(Root::Machine, key, "dword:60000");
        assert_eq!(preshutdown_limit(&table, "Update"), Duration::from_secs(60));
        assert_eq!(preshutdown_limit(&table, "Other"), Duration::from_secs(10));
    }
}
