//! Cause `logon-required`: nobody is logged on, and the policy lets the request go unheard.
//!
//! ShutdownWithoutLogon is documented for the button on the sign-in screen only; that it also decides over
//! the ACPI button is what vendors say (fact sheet B.3, tag [?]). The reference session follows the
//! vendors; on Windows a run tells.

use serde::Deserialize;

use super::{Outlook, Part, Prediction, PressEffect, Proof, Realism, Rule, Subject, Sureness, WindowsMeans};
use crate::disk::{Hive, RegistryValue};
use crate::evidence::{Evidence, EvidenceKind, Finding, shows};
use crate::guest::driver::LiveValue;
use crate::guest::registry_facts::RegistryFacts;
use crate::image::GuestFamily;
use crate::inject::HiveEdit;
use crate::machine::agent::AgentError;
use crate::outcome::Cause;
use crate::screen_texts::SIGN_IN;

const POLICY: &str = r"Microsoft\Windows\CurrentVersion\Policies\System";
/// The reference guest's own: Windows locks by a policy or a person.
const MODEL: &str = r"Softoff\Reference";
const WINLOGON: &str = r"Microsoft\Windows NT\CurrentVersion\Winlogon";

/// The condition: who is logged on, and what the policy says.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogonRequired {
    /// Whether a user is logged on.
    #[serde(default)]
    pub logged_on: bool,
    /// Whether that user's session is locked (reference guest only; there, a value of its own).
    #[serde(default)]
    pub locked: bool,
    /// ShutdownWithoutLogon: whether a shutdown without logon is allowed.
    #[serde(default)]
    pub allowed: bool,
}

impl LogonRequired {
    pub(super) async fn prove(&self, subject: &Subject<'_>) -> Result<Proof, AgentError> {
        let guest = subject.guest;
        let allowed = guest.registry(&format!(r"HKLM\SOFTWARE\{POLICY}"), "ShutdownWithoutLogon").await?;
        let logon = guest.registry(&format!(r"HKLM\SOFTWARE\{WINLOGON}"), "AutoAdminLogon").await?;
        let locked = match (self.locked, guest.family()) {
            (false, _) => true,
            (true, GuestFamily::Windows | GuestFamily::Reactos) => false,
            (true, GuestFamily::Reference) => {
                let value = guest.registry(&format!(r"HKLM\SOFTWARE\{MODEL}"), "StartLocked").await?;
                value == Some(LiveValue::Dword(1))
            }
        };
        let wanted = if self.logged_on { "1" } else { "0" };
        let present = allowed == Some(LiveValue::Dword(u32::from(self.allowed)))
            && logon == Some(LiveValue::Text(wanted.into()))
            && locked;
        let evidence = format!("live registry: ShutdownWithoutLogon {allowed:?}, AutoAdminLogon {logon:?}");
        Ok(Proof { present, evidence })
    }
}

impl Part for LogonRequired {
    fn cause(&self) -> Cause {
        Cause::LogonRequired
    }

    fn offline(&self, _family: GuestFamily) -> Vec<HiveEdit> {
        let software =
            |key: &str, name: &str, value: RegistryValue| HiveEdit::new(Hive::Software, key, name, value);
        let logon = if self.logged_on { "1" } else { "0" };
        let mut edits = vec![
            without_logon(self.allowed),
            software(WINLOGON, "AutoAdminLogon", RegistryValue::String(logon.into())),
        ];
        if self.locked {
            edits.push(software(MODEL, "StartLocked", RegistryValue::Dword(1)));
        }
        edits
    }

    fn windows_means(&self) -> WindowsMeans {
        WindowsMeans::RegistryValues
    }

    fn realism_in_reference(&self) -> Realism {
        Realism { real: "the registry values", modelled: "sign-in screen and decision, by the session" }
    }
}

fn without_logon(allowed: bool) -> HiveEdit {
    HiveEdit::new(Hive::Software, POLICY, "ShutdownWithoutLogon", RegistryValue::Dword(u32::from(allowed)))
}

/// Whether the policy forbids a shutdown without logon.
fn forbids(registry: &RegistryFacts) -> bool {
    registry.shutdown_without_logon == Some(0)
}

/// Whether a user logs on by himself; `None` without the value.
fn logs_on(registry: &RegistryFacts) -> Option<bool> {
    registry.auto_admin_logon.as_deref().map(|value| value == "1")
}

/// What is known of this cause.
pub const RULE: Rule = Rule {
    cause: Cause::LogonRequired,
    detect,
    predict,
    remedy: "set ShutdownWithoutLogon to 1, or ask through the guest agent, which this policy does not concern",
};

/// A missing logon is to blame when the guest took the press (or nobody saw whether it did), its policy forbids a shutdown without logon,
/// nothing changed on the screen, and the screen or the registry says that nobody is logged on.
fn detect(evidence: &Evidence) -> Option<Finding> {
    let registry = evidence.registry.as_ref()?;
    let prompt = evidence.screen_before.as_deref().and_then(|s| shows(s, SIGN_IN));
    let signed_out = prompt.is_some();
    let nobody = signed_out || (!evidence.can_read_screens && logs_on(registry) == Some(false));
    let nothing = !evidence.screen_reacted && evidence.agent_closed_after.is_none();
    let silent = evidence.press_failed() && evidence.press_taken != Some(false) && nothing;
    let button = registry.button_action.is_none_or(|a| a.index == 3);
    if !evidence.about_the_button()
        || !nobody
        || !silent
        || !button
        || !forbids(registry)
        || evidence.dark_before
    {
        return None;
    }
    let mut finding = Finding::new(Cause::LogonRequired);
    let taken = evidence.press_taken == Some(true);
    // Not `lasting`: that the policy decides over the button at all is what vendors say.
    finding.stalled = true;
    finding.add(EvidenceKind::Registry, "ShutdownWithoutLogon is 0".into());
    if let Some(text) = prompt {
        finding.add(EvidenceKind::Screen, format!("the sign-in screen was shown ({text})"));
    }
    if taken {
        finding.add(EvidenceKind::AcpiRegister, "the guest's ACPI driver took the press".into());
    }
    Some(finding)
}

/// A machine on which nobody logs on by himself stands at the sign-in screen. Without the value the policy has its
/// default: disabled on servers, enabled on clients (documented).
fn predict(outlook: &Outlook<'_>) -> Option<Prediction> {
    let registry = outlook.registry;
    let server = registry.installation_type.as_deref().is_some_and(|kind| kind.starts_with("Server"));
    let because = match registry.shutdown_without_logon {
        _ if logs_on(registry) == Some(true) => return None,
        Some(0) => "nobody logs on by himself, and ShutdownWithoutLogon is 0",
        None if server => "nobody logs on by himself, and ShutdownWithoutLogon is not set: 0 on a server",
        _ => return None,
    };
    // That the policy decides over the button at all is what vendors say (fact sheet B.3, tag [?]).
    let found =
        Prediction::new(Cause::LogonRequired, PressEffect::Discarded, Sureness::Reported, because.to_owned());
    Some(found.with(vec![without_logon(true)]))
}
