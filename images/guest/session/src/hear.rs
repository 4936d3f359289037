//! What a message of `init` means now, by the registry. It is read at each message, as Windows' power manager
//! follows a changed policy.

use softoff_guest_protocol::control::ToSession;

use crate::flow::{Input, Press};
use crate::policy::{Values, button_policy, forced_button};
use crate::settings::{Damage, damage, event_tracker, shutdown_without_logon};

/// The input for a message; `None` where nobody acts on it any more.
pub(crate) fn hear(message: &ToSession, values: &dyn Values) -> Option<Input> {
    match message {
        ToSession::PowerButton => (damage(values) < Damage::Button).then(|| {
            Input::Press(Press {
                policy: button_policy(values),
                forced: forced_button(values),
                tracker: event_tracker(values),
                without_logon: shutdown_without_logon(values),
            })
        }),
        ToSession::AgentShutdown | ToSession::AgentReboot => (damage(values) < Damage::Everything)
            .then_some(Input::Agent { reboot: *message == ToSession::AgentReboot }),
        ToSession::Input => Some(Input::Activity),
        ToSession::Resumed { .. } => Some(Input::Resumed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Root;
    use crate::table::Table;
    use rstest::rstest;

    #[rstest]
    #[case("dword:0", true, true)]
    #[case("dword:1", false, true)]
    #[case("dword:2", false, false)]
    fn damage_makes_deaf(#[case] data: &str, #[case] button: bool, #[case] agent: bool) {
        let table = Table::default().with(Root::Machine, r"SOFTWARE\Softoff\Reference\DamagedSystem", data);
        let hears = |message| hear(&message, &table).is_some();
        assert_eq!((hears(ToSession::PowerButton), hears(ToSession::AgentShutdown)), (button, agent));
        assert!(hears(ToSession::Input) && hears(ToSession::Resumed { from: "s3".into() }));
    }

    #[test]
    fn the_press_takes_what_the_registry_says() {
        let without = r"SOFTWARE\Microsoft\Windows\CurrentVersion\Policies\System\ShutdownWithoutLogon";
        let table = Table::default().with(Root::Machine, without, "dword:1");
        let Some(Input::Press(press)) = hear(&ToSession::PowerButton, &table) else { panic!("deaf") };
        assert_eq!((press.policy.layer, press.forced, press.tracker), ("fallback", false, false));
        assert!(press.without_logon);
    }
}
