//! What the registry says about logon, the event tracker, updates, the order of services, and the few knobs that
//! belong to this guest alone.

use std::time::Duration;

use crate::policy::{Root, Values};

const WINLOGON: &str = r"SOFTWARE\Microsoft\Windows NT\CurrentVersion\Winlogon";
const SYSTEM_POLICIES: &str = r"SOFTWARE\Microsoft\Windows\CurrentVersion\Policies\System";
const TRACKER_POLICY: &str = r"SOFTWARE\Policies\Microsoft\Windows NT\Reliability";
const TRACKER: &str = r"SOFTWARE\Microsoft\Windows\CurrentVersion\Reliability";
const SERVICING: &str = r"SOFTWARE\Microsoft\Windows\CurrentVersion\Component Based Servicing\RebootPending";
const CONTROL: &str = r"SYSTEM\CurrentControlSet\Control";
/// Modelled only: Windows has nothing here.
const REFERENCE: &str = r"SOFTWARE\Softoff\Reference";

/// Who is at the console.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Logon {
    /// The sign-in screen; no user's programs run.
    Nobody,
    /// The desktop.
    LoggedOn,
    /// The desktop, covered until someone signs in.
    Locked,
}

impl Logon {
    /// The word in the probe line.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Logon::Nobody => "nobody",
            Logon::LoggedOn => "logged-on",
            Logon::Locked => "locked",
        }
    }
}

/// How the session starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Start {
    /// AutoAdminLogon is "1", or nobody is logged on (documented); `StartLocked` (modelled) locks at once.
    pub(crate) logon: Logon,
    /// DefaultUserName: whom the sign-in screen names.
    pub(crate) user: String,
    /// `PowerOffAfterSeconds` (modelled): the session shuts down by itself, counted from its readiness.
    pub(crate) power_off_after: Option<Duration>,
}

/// Reads how the session starts.
pub(crate) fn start(values: &dyn Values) -> Start {
    let winlogon = |name: &str| values.text(Root::Machine, WINLOGON, name);
    let automatic = winlogon("AutoAdminLogon").is_some_and(|text| text.trim() == "1");
    let logon = match automatic {
        false => Logon::Nobody,
        true if values.dword(Root::Machine, REFERENCE, "StartLocked") == Some(1) => Logon::Locked,
        true => Logon::LoggedOn,
    };
    let seconds = values.dword(Root::Machine, REFERENCE, "PowerOffAfterSeconds");
    Start {
        logon,
        user: winlogon("DefaultUserName").filter(|name| !name.is_empty()).unwrap_or("Other user".into()),
        power_off_after: seconds.map(|seconds| Duration::from_secs(seconds.into())),
    }
}

/// ShutdownWithoutLogon: whether the machine may be shut down with nobody logged on. Where it is missing: no, the
/// default of Windows Server.
pub(crate) fn shutdown_without_logon(values: &dyn Values) -> bool {
    const NAME: &str = "ShutdownWithoutLogon";
    match values.dword(Root::Machine, SYSTEM_POLICIES, NAME) {
        Some(number) => number == 1,
        // Old documents call it a REG_SZ.
        None => values.text(Root::Machine, SYSTEM_POLICIES, NAME).is_some_and(|text| text.trim() == "1"),
    }
}

/// Whether the Shutdown Event Tracker asks for a reason: ShutdownReasonOn is 1, and ShutdownReasonUI is 1 (always)
/// or 3 (on servers only: this guest counts as one). Each value is looked up in the policy key first.
pub(crate) fn event_tracker(values: &dyn Values) -> bool {
    let value = |name: &str| {
        let read = |key| values.dword(Root::Machine, key, name);
        read(TRACKER_POLICY).or_else(|| read(TRACKER))
    };
    value("ShutdownReasonOn") == Some(1) && matches!(value("ShutdownReasonUI"), Some(1 | 3))
}

/// Whether updates wait for a restart: then the shutdown screen shows their progress.
pub(crate) fn update_pending(values: &dyn Values) -> bool {
    values.has_key(Root::Machine, SERVICING)
}

/// PreshutdownOrder: the services that are stopped first, one after the other, in this order.
pub(crate) fn preshutdown_order(values: &dyn Values) -> Vec<String> {
    values.list(Root::Machine, CONTROL, "PreshutdownOrder")
}

/// How broken the shutdown path is: `DamagedSystem` (modelled).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Damage {
    /// Not at all.
    None,
    /// 1: nobody acts on the button.
    Button,
    /// 2: nobody acts on the agent's request either.
    Everything,
}

/// Reads the damage.
pub(crate) fn damage(values: &dyn Values) -> Damage {
    match values.dword(Root::Machine, REFERENCE, "DamagedSystem") {
        Some(1) => Damage::Button,
        Some(2) => Damage::Everything,
        _ => Damage::None,
    }
}

/// What stands at the end instead of S5: `AtShutdown` (modelled).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LastStep {
    /// S5, as asked for.
    PowerOff,
    /// "reboot": a restart.
    Reboot,
    /// "crash": the kernel crashes.
    Crash,
}

/// Reads the last step.
pub(crate) fn last_step(values: &dyn Values) -> LastStep {
    let text = values.text(Root::Machine, REFERENCE, "AtShutdown").unwrap_or_default();
    match text.trim().to_ascii_lowercase().as_str() {
        "reboot" => LastStep::Reboot,
        "crash" => LastStep::Crash,
        _ => LastStep::PowerOff,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::Table;
    use rstest::rstest;

    fn machine(entries: &[(&str, &str)]) -> Table {
        entries.iter().fold(Table::default(), |table, (path, data)| table.with(Root::Machine, path, data))
    }

    const AUTO: &str = r"SOFTWARE\Microsoft\Windows NT\CurrentVersion\Winlogon\AutoAdminLogon";
    const LOCKED: &str = r"SOFTWARE\Softoff\Reference\StartLocked";

    #[rstest]
    #[case(&[], Logon::Nobody)]
    #[case(&[(AUTO, "0"), (LOCKED, "dword:1")], Logon::Nobody)]
    #[case(&[(AUTO, "1")], Logon::LoggedOn)]
    #[case(&[(AUTO, "1"), (LOCKED, "dword:0")], Logon::LoggedOn)]
    #[case(&[(AUTO, "1"), (LOCKED, "dword:1")], Logon::Locked)]
    fn logon_is_automatic_or_not_at_all(#[case] entries: &[(&str, &str)], #[case] logon: Logon) {
        assert_eq!(start(&machine(entries)).logon, logon);
    }

    const POLICY_ON: &str = r"SOFTWARE\Policies\Microsoft\Windows NT\Reliability\ShutdownReasonOn";
    const POLICY_UI: &str = r"SOFTWARE\Policies\Microsoft\Windows NT\Reliability\ShutdownReasonUI";
    const PLAIN_ON: &str = r"SOFTWARE\Microsoft\Windows\CurrentVersion\Reliability\ShutdownReasonOn";
    const PLAIN_UI: &str = r"SOFTWARE\Microsoft\Windows\CurrentVersion\Reliability\ShutdownReasonUI";

    #[rstest]
    #[case(&[], false)]
    #[case(&[(POLICY_ON, "dword:1")], false)]
    #[case(&[(POLICY_ON, "dword:1"), (POLICY_UI, "dword:1")], true)]
    #[case(&[(POLICY_ON, "dword:1"), (POLICY_UI, "dword:2")], false)]
    #[case(&[(PLAIN_ON, "dword:1"), (PLAIN_UI, "dword:3")], true)]
    #[case(&[(PLAIN_ON, "dword:1"), (PLAIN_UI, "dword:1"), (POLICY_ON, "dword:0")], false)]
    fn the_tracker_needs_both_values_and_policy_wins(#[case] entries: &[(&str, &str)], #[case] asks: bool) {
        assert_eq!(event_tracker(&machine(entries)), asks);
    }

    const WITHOUT: &str = r"SOFTWARE\Microsoft\Windows\CurrentVersion\Policies\System\ShutdownWithoutLogon";

    #[rstest]
    #[case(&[], false)]
    #[case(&[(WITHOUT, "dword:0")], false)]
    #[case(&[(WITHOUT, "dword:1")], true)]
    #[case(&[(WITHOUT, "1")], true)]
    fn a_server_needs_a_logon(#[case] entries: &[(&str, &str)], #[case] may: bool) {
        assert_eq!(shutdown_without_logon(&machine(entries)), may);
    }

    #[test]
    fn the_knobs_of_this_guest_are_read() {
        let table = machine(&[
            (r"SOFTWARE\Softoff\Reference\AtShutdown", "Reboot"),
            (r"SOFTWARE\Softoff\Reference\DamagedSystem", "dword:2"),
            (r"SOFTWARE\Softoff\Reference\PowerOffAfterSeconds", "dword:7"),
            (r"SYSTEM\CurrentControlSet\Control\PreshutdownOrder", "multi:B,A"),
            (
                r"SOFTWARE\Microsoft\Windows\CurrentVersion\Component Based Servicing\RebootPending\Any",
                "dword:0",
            ),
        ]);
        assert_eq!(last_step(&table), LastStep::Reboot);
        assert_eq!(damage(&table), Damage::Everything);
        assert_eq!(start(&table).power_off_after, Some(Duration::from_secs(7)));
        assert_eq!(preshutdown_order(&table), ["B", "A"]);
        assert!(update_pending(&table));
        let none = Table::default();
        assert_eq!((last_step(&none), damage(&none)), (LastStep::PowerOff, Damage::None));
        assert!(!update_pending(&none) && preshutdown_order(&none).is_empty());
    }
}
