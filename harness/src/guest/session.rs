//! Who is logged on to a Windows, and whether it has come to where a request means something.
//!
//! An agent that answers is not enough: its service starts minutes before the first logon, and while Setup still runs.

use std::time::Duration;

use serde_json::{Value, json};

use super::driver::{GuestDriver, LiveValue};
use super::registry_facts::WINLOGON;
use crate::machine::agent::AgentError;
use crate::text::printable;

/// How long one question to the agent may take.
const LIMIT: Duration = Duration::from_secs(30);
/// Between two looks.
const PERIOD: Duration = Duration::from_secs(2);
/// Users kept of an answer; a terminal server may have hundreds.
const USERS: usize = 64;

/// The program that shows sign-in and lock screens.
const SIGN_IN: &str = "LogonUI.exe";
/// Below HKLM\SYSTEM: `SystemSetupInProgress` is 1 from Setup's first restart until the out-of-box experience is over.
const SETUP: &str = r"HKLM\SYSTEM\Setup";

/// What is known of the console.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SessionState {
    /// Who is logged on, anywhere on the system.
    pub users: Vec<String>,
    /// A sign-in or lock screen is shown.
    pub sign_in_screen: bool,
    /// Setup, or the out-of-box experience, is not over.
    pub in_setup: bool,
    /// A user is to log on without being asked.
    pub automatic_logon: bool,
}

impl SessionState {
    /// Asks a running guest.
    pub async fn ask(guest: &GuestDriver) -> Result<SessionState, AgentError> {
        let setup = guest.registry(SETUP, "SystemSetupInProgress").await?;
        let winlogon = format!(r"HKLM\SOFTWARE\{WINLOGON}");
        let automatic = guest.registry(&winlogon, "AutoAdminLogon").await?;
        Ok(SessionState {
            users: users(guest).await?,
            sign_in_screen: guest.runs(SIGN_IN).await?,
            in_setup: matches!(setup, Some(LiveValue::Dword(number)) if number != 0),
            automatic_logon: automatic == Some(LiveValue::Text("1".into())),
        })
    }

    /// Whether nothing more comes by itself: who was to log on has, or the sign-in screen waits for somebody.
    pub fn is_settled(&self) -> bool {
        let arrived = match self.automatic_logon {
            // While the desktop is being made, the sign-in screen's program still runs.
            true => !self.users.is_empty() && !self.sign_in_screen,
            false => self.sign_in_screen || !self.users.is_empty(),
        };
        arrived && !self.in_setup
    }

    /// For people.
    pub fn sentence(&self) -> String {
        let users = match self.users.as_slice() {
            [] => "nobody is logged on".to_owned(),
            some => format!("logged on: {}", some.join(", ")),
        };
        let screen = if self.sign_in_screen { "shown" } else { "not shown" };
        let setup = if self.in_setup { "; Setup is not over" } else { "" };
        let logon = if self.automatic_logon { "on" } else { "off" };
        format!("{users}; sign-in screen {screen}; automatic logon {logon}{setup}")
    }

    /// Asks until it is settled, and tells each other answer to `tell`. Errors of the agent are waited out: its service
    /// restarts while a system is set up. Never returns by itself; whoever calls it has the limit.
    pub async fn until_settled(guest: &GuestDriver, tell: &mut (dyn FnMut(&str) + Send)) -> SessionState {
        loop {
            match SessionState::ask(guest).await {
                Ok(state) if state.is_settled() => {
                    tell(&state.sentence());
                    return state;
                }
                Ok(state) => tell(&state.sentence()),
                Err(error) => tell(&error.to_string()),
            }
            tokio::time::sleep(PERIOD).await;
        }
    }
}

/// `guest-get-users`. An agent without that command (or one that may not use it) leaves it open.
async fn users(guest: &GuestDriver) -> Result<Vec<String>, AgentError> {
    let answer = match guest.agent().raw("guest-get-users", json!({}), LIMIT).await {
        Ok(answer) => answer,
        Err(AgentError::Refused { .. }) => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let name = |user: &Value| user.get("user").and_then(Value::as_str).map(|name| printable(name, 64));
    let all = answer.as_array().map(Vec::as_slice).unwrap_or_default();
    let mut names: Vec<String> = all.iter().take(USERS).filter_map(name).collect();
    names.sort();
    names.dedup();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::desktop(&["Ada"], false, false, true, true)]
    #[case::still_signing_in(&["Ada"], true, false, true, false)]
    #[case::not_yet(&[], true, false, true, false)]
    #[case::waits_for_somebody(&[], true, false, false, true)]
    #[case::somebody_came(&["Ada"], false, false, false, true)]
    #[case::nothing_yet(&[], false, false, false, false)]
    #[case::in_setup(&["Ada"], false, true, true, false)]
    fn settled(
        #[case] users: &[&str],
        #[case] sign_in_screen: bool,
        #[case] in_setup: bool,
        #[case] automatic_logon: bool,
        #[case] expected: bool,
    ) {
        let users = users.iter().map(|user| (*user).to_owned()).collect();
        let state = SessionState { users, sign_in_screen, in_setup, automatic_logon };
        assert_eq!(state.is_settled(), expected, "{}", state.sentence());
    }
}
