//! The power button's action, looked up in a guest's live registry as Windows looks it up.
//!
//! PBUTTONACTION in SUB_BUTTONS: the policy layer first, then the active scheme's user values, then the
//! scheme's defaults (fact sheet A.4; the order of the last two is what independent tools implement).

use serde::{Deserialize, Serialize};

use super::driver::{GuestDriver, LiveValue};
use crate::machine::agent::AgentError;

/// SUB_BUTTONS (winnt.h).
pub const SUB_BUTTONS: &str = "4f971e89-eebd-4455-a8de-9e59040e7347";
/// PBUTTONACTION (winnt.h).
pub const PBUTTONACTION: &str = "7648efa3-dd9c-4e3e-b566-50f929386280";
/// The policy layer, below HKLM\SOFTWARE.
pub const POLICY: &str = r"Policies\Microsoft\Power\PowerSettings";
/// The schemes, below HKLM\SYSTEM.
pub const SCHEMES: &str = r"CurrentControlSet\Control\Power\User\PowerSchemes";
/// The defaults of every scheme, below HKLM\SYSTEM.
pub const DEFAULTS: &str = r"CurrentControlSet\Control\Power\PowerSettings";
/// A virtual machine has no battery: the AC value applies.
pub const AC: &str = "ACSettingIndex";

/// The layer of the lookup that an action comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Layer {
    /// Group policy.
    Policy,
    /// The active scheme's user values.
    Scheme,
    /// The active scheme's defaults.
    Default,
}

/// The button's action as the guest's live registry gives it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct EffectiveAction {
    /// PBUTTONACTION, 0 to 4.
    pub index: u32,
    /// Where it was found.
    pub layer: Layer,
}

/// The button's action by the lookup in the guest's live registry; `None` when no layer has a value.
pub async fn effective_action(guest: &GuestDriver) -> Result<Option<EffectiveAction>, AgentError> {
    let found = effective_setting(guest, SUB_BUTTONS, PBUTTONACTION).await?;
    Ok(found.map(|(index, layer)| EffectiveAction { index, layer }))
}

/// Follows the lookup of one power setting in the guest's live registry.
pub(super) async fn effective_setting(
    guest: &GuestDriver,
    group: &str,
    setting: &str,
) -> Result<Option<(u32, Layer)>, AgentError> {
    let dword = |value: Option<LiveValue>| match value {
        Some(LiveValue::Dword(index)) => Some(index),
        _ => None,
    };
    let policy = guest.registry(&format!(r"HKLM\SOFTWARE\{POLICY}\{setting}"), AC).await?;
    if let Some(number) = dword(policy) {
        return Ok(Some((number, Layer::Policy)));
    }
    let schemes = format!(r"HKLM\SYSTEM\{SCHEMES}");
    let Some(LiveValue::Text(scheme)) = guest.registry(&schemes, "ActivePowerScheme").await? else {
        return Ok(None);
    };
    let user = guest.registry(&format!(r"{schemes}\{scheme}\{group}\{setting}"), AC).await?;
    if let Some(number) = dword(user) {
        return Ok(Some((number, Layer::Scheme)));
    }
    let default = format!(r"HKLM\SYSTEM\{DEFAULTS}\{group}\{setting}\DefaultPowerSchemeValues\{scheme}");
    let number = dword(guest.registry(&default, AC).await?);
    Ok(number.map(|number| (number, Layer::Default)))
}
