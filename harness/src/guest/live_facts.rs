//! What a running guest's registry says about shutting down, asked through its agent by `reg query`.
//!
//! The same facts as [`RegistryFacts::read`] takes from a stopped disk, for machines that somebody else runs.
//! Nothing is written in the guest.

use super::driver::{GuestDriver, LiveValue};
use super::power_policy::{EffectiveAction, PBUTTONACTION, SUB_BUTTONS, effective_setting};
use super::reg_listing::ListedKey;
use super::registry_facts::{
    DESKTOP, POLICIES_SYSTEM, PreshutdownService, REBOOT_PENDING, RELIABILITY, RegistryFacts, SERVICES,
    SUB_VIDEO, VIDEOIDLE, WINLOGON,
};
use crate::machine::agent::AgentError;
use crate::text::printable;

/// Logged-on users looked at; a terminal server may have hundreds.
const USERS: usize = 16;

/// Why a running guest's registry could not be read.
#[derive(Debug, thiserror::Error)]
pub enum LiveFactsError {
    /// The agent gave no answer, or may not start programs.
    #[error(transparent)]
    Agent(#[from] AgentError),
    /// `reg` was started and lists nothing of a key that every Windows has.
    #[error("`reg query` lists nothing of Winlogon's key ({said}): is this guest a Windows?")]
    Silent {
        /// What it wrote instead, escaped.
        said: String,
    },
}

impl RegistryFacts {
    /// Asks a running guest.
    pub async fn ask(guest: &GuestDriver) -> Result<RegistryFacts, LiveFactsError> {
        let winlogon = format!(r"HKLM\SOFTWARE\{WINLOGON}");
        let (listing, result) = guest.list(&winlogon, &[]).await?;
        let Some(winlogon) = listing.into_iter().next() else {
            let said = format!("{} {}", result.stdout.trim(), result.stderr.trim());
            return Err(LiveFactsError::Silent { said: printable(said.trim(), 200) });
        };
        let policies = guest.list(&format!(r"HKLM\SOFTWARE\{POLICIES_SYSTEM}"), &[]).await?.0;
        let mut reliability = Vec::new();
        for key in RELIABILITY {
            reliability.extend(guest.list(&format!(r"HKLM\SOFTWARE\{key}"), &[]).await?.0);
        }
        let services = format!(r"HKLM\SYSTEM\{SERVICES}");
        let preshutdown = guest.list(&services, &["/s", "/v", "PreshutdownTimeout"]).await?.0;
        let pending = guest.list(&format!(r"HKLM\SOFTWARE\{REBOOT_PENDING}"), &[]).await?.1;
        let button = effective_setting(guest, SUB_BUTTONS, PBUTTONACTION).await?;
        Ok(RegistryFacts {
            button_action: button.map(|(index, layer)| EffectiveAction { index, layer }),
            shutdown_without_logon: dword(&policies, "ShutdownWithoutLogon"),
            auto_admin_logon: text(&winlogon, "AutoAdminLogon"),
            shutdown_reason_on: dword(&reliability, "ShutdownReasonOn"),
            shutdown_reason_ui: dword(&reliability, "ShutdownReasonUI"),
            reboot_pending: pending.code == Some(0),
            video_idle: effective_setting(guest, SUB_VIDEO, VIDEOIDLE).await?.map(|(seconds, _)| seconds),
            auto_end_tasks: auto_end_tasks(guest).await?,
            preshutdown: preshutdown.iter().filter_map(service).collect(),
            logon_user: text(&winlogon, "DefaultUserName").filter(|name| !name.is_empty()),
            // What only a look ahead (`lint`) needs is not asked: each question is a program in the guest.
            ..RegistryFacts::default()
        })
    }
}

/// The first of these keys that has it.
fn dword(keys: &[ListedKey], name: &str) -> Option<u32> {
    keys.iter().find_map(|key| match key.value(name) {
        Some(LiveValue::Dword(number)) => Some(*number),
        _ => None,
    })
}

fn text(key: &ListedKey, name: &str) -> Option<String> {
    match key.value(name) {
        Some(LiveValue::Text(text)) => Some(text.clone()),
        _ => None,
    }
}

/// AutoEndTasks of the users that are logged on. One without it is enough to hold a shutdown, so that all
/// must have it; `None` when nobody is logged on. The agent runs as the system: its own HKCU is nobody's.
async fn auto_end_tasks(guest: &GuestDriver) -> Result<Option<bool>, AgentError> {
    let users = guest.list("HKU", &[]).await?.0;
    let mut all = None;
    for sid in users.iter().filter_map(user).take(USERS) {
        let value = guest.registry(&format!(r"HKU\{sid}\{DESKTOP}"), "AutoEndTasks").await?;
        let on = value == Some(LiveValue::Text("1".into()));
        all = Some(all.unwrap_or(true) && on);
    }
    Ok(all)
}

/// The SID of a person: accounts of a machine or domain are S-1-5-21, of Entra ID S-1-12-1; the others are
/// the system's own.
fn user(listed: &ListedKey) -> Option<&str> {
    let sid = listed.key.strip_prefix(r"HKEY_USERS\")?;
    let plain = sid.bytes().all(|b| b == b'S' || b == b'-' || b.is_ascii_digit());
    (plain && (sid.starts_with("S-1-5-21-") || sid.starts_with("S-1-12-1-"))).then_some(sid)
}

/// The search goes below the services' own keys; only those count.
fn service(listed: &ListedKey) -> Option<PreshutdownService> {
    let at = listed.key.to_ascii_lowercase().find(&SERVICES.to_ascii_lowercase())?;
    let name = listed.key.get(at + SERVICES.len()..)?.strip_prefix('\\')?;
    match listed.value("PreshutdownTimeout") {
        Some(LiveValue::Dword(timeout_ms)) if !name.contains('\\') && !name.is_empty() => {
            Some(PreshutdownService { name: name.to_owned(), timeout_ms: *timeout_ms })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::super::reg_listing::parse;
    use super::*;

    #[rstest]
    #[case("HKEY_USERS\\S-1-5-21-1-2-3-1001", Some("S-1-5-21-1-2-3-1001"))]
    #[case("HKEY_USERS\\S-1-12-1-4", Some("S-1-12-1-4"))]
    #[case::classes("HKEY_USERS\\S-1-5-21-1-2-3-1001_Classes", None)]
    #[case::system("HKEY_USERS\\S-1-5-18", None)]
    #[case::template("HKEY_USERS\\.DEFAULT", None)]
    #[case::hostile("HKEY_USERS\\S-1-5-21-1\\..\\x /f", None)]
    #[case::elsewhere("HKEY_LOCAL_MACHINE\\S-1-5-21-1", None)]
    fn people_are_told_from_system_accounts(#[case] key: &str, #[case] sid: Option<&str>) {
        assert_eq!(user(&ListedKey { key: key.into(), values: vec![] }), sid);
    }

    #[rstest]
    #[case("HKEY_LOCAL_MACHINE\\SYSTEM\\CurrentControlSet\\Services\\UsoSvc", "0x36ee800", Some(("UsoSvc", 57_600_000)))]
    #[case("HKEY_LOCAL_MACHINE\\System\\currentcontrolset\\services\\a b", "0x1", Some(("a b", 1)))]
    #[case::below("HKEY_LOCAL_MACHINE\\SYSTEM\\CurrentControlSet\\Services\\X\\Parameters", "0x1", None)]
    #[case::the_key_itself("HKEY_LOCAL_MACHINE\\SYSTEM\\CurrentControlSet\\Services", "0x1", None)]
    #[case::elsewhere("HKEY_LOCAL_MACHINE\\SYSTEM\\Other\\X", "0x1", None)]
    #[case::no_number("HKEY_LOCAL_MACHINE\\SYSTEM\\CurrentControlSet\\Services\\X", "many", None)]
    fn services(#[case] key: &str, #[case] data: &str, #[case] expected: Option<(&str, u32)>) {
        let listing = parse(&format!("{key}\r\n    PreshutdownTimeout    REG_DWORD    {data}\r\n"));
        let found = listing.first().and_then(service);
        assert_eq!(found.as_ref().map(|s| (s.name.as_str(), s.timeout_ms)), expected);
    }

    #[test]
    fn the_policy_comes_before_the_preference() {
        let keys = parse(
            "HKEY_A\n    ShutdownReasonOn    REG_DWORD    0x0\nHKEY_B\n    shutdownreasonon    REG_DWORD    0x1\n    ShutdownReasonUI    REG_DWORD    0x1",
        );
        assert_eq!((dword(&keys, "ShutdownReasonOn"), dword(&keys, "ShutdownReasonUI")), (Some(0), Some(1)));
    }
}
