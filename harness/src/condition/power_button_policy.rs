//! Cause `power-button-policy`: the power button is set to do nothing, sleep, hibernate, or turn off the
//! display.
//!
//! The setting is PBUTTONACTION in SUB_BUTTONS of the power scheme. Windows looks it up in the policy layer
//! first, then in the active scheme's user values, then in the scheme's defaults (fact sheet A.4; the order
//! of the last two is what independent tools implement).

use serde::Deserialize;

use super::{Outlook, Part, Prediction, PressEffect, Proof, Realism, Rule, Sureness, WindowsMeans};
use crate::disk::{Hive, RegistryValue};
use crate::evidence::{Evidence, EvidenceKind, Finding};
use crate::guest::driver::GuestDriver;
use crate::guest::power_policy::{AC, Layer, PBUTTONACTION, POLICY, effective_action};
use crate::image::GuestFamily;
use crate::inject::HiveEdit;
use crate::machine::agent::AgentError;
use crate::outcome::{Cause, OutcomeKind};

/// What a press does: the values of PBUTTONACTION.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ButtonAction {
    /// 0
    Nothing,
    /// 1: S3.
    Sleep,
    /// 2: S4.
    Hibernate,
    /// 3
    ShutDown,
    /// 4
    DisplayOff,
}

impl ButtonAction {
    /// The registry's number.
    pub fn index(self) -> u32 {
        match self {
            ButtonAction::Nothing => 0,
            ButtonAction::Sleep => 1,
            ButtonAction::Hibernate => 2,
            ButtonAction::ShutDown => 3,
            ButtonAction::DisplayOff => 4,
        }
    }
}

/// The condition: PBUTTONACTION set in the policy layer.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PowerButtonPolicy {
    /// What a press is set to do.
    pub action: ButtonAction,
}

impl Part for PowerButtonPolicy {
    fn cause(&self) -> Cause {
        Cause::PowerButtonPolicy
    }

    fn offline(&self, _family: GuestFamily) -> Vec<HiveEdit> {
        set(self.action)
    }

    fn windows_means(&self) -> WindowsMeans {
        WindowsMeans::RegistryValues
    }

    fn realism_in_reference(&self) -> Realism {
        Realism {
            real: "ACPI button, registry values and their places",
            modelled: "the lookup and the action, by the reference session",
        }
    }
}

impl PowerButtonPolicy {
    /// Proven by the live registry: the lookup ends at the action that was set.
    pub(super) async fn prove(&self, guest: &GuestDriver) -> Result<Proof, AgentError> {
        let found = effective_action(guest).await?;
        let present = found.is_some_and(|f| f.index == self.action.index());
        let evidence = match found {
            Some(f) => format!("live registry: PBUTTONACTION is {} ({:?} layer)", f.index, f.layer),
            None => "live registry: PBUTTONACTION is set in no layer".into(),
        };
        Ok(Proof { present, evidence })
    }
}

/// The policy layer wins over everything (fact sheet A.4), and the AC and DC values are both set so that the
/// answer does not depend on what the guest believes of its power supply.
fn set(action: ButtonAction) -> Vec<HiveEdit> {
    [AC, "DCSettingIndex"]
        .map(|name| {
            HiveEdit::new(
                Hive::Software,
                format!(r"{POLICY}\{PBUTTONACTION}"),
                name,
                RegistryValue::Dword(action.index()),
            )
        })
        .into()
}

/// What a press comes to where the button is set to something else than to shut down; `None` for that, and for a
/// number that Windows does not define.
fn instead(index: u32) -> Option<PressEffect> {
    match index {
        0 | 4 => Some(PressEffect::Discarded),
        1 => Some(PressEffect::Suspends),
        2 => Some(PressEffect::Hibernates),
        _ => None,
    }
}

/// What is known of this cause.
pub const RULE: Rule = Rule {
    cause: Cause::PowerButtonPolicy,
    detect,
    predict,
    remedy: "powercfg /setacvalueindex SCHEME_CURRENT SUB_BUTTONS PBUTTONACTION 3 && powercfg /setactive SCHEME_CURRENT, \
         and no policy under SOFTWARE\\Policies\\Microsoft\\Power\\PowerSettings",
};

/// The button is to blame when the guest took the press (or nobody saw whether it did), its registry gives
/// another action than "shut down", and what became of the machine is what that action does.
fn detect(evidence: &Evidence) -> Option<Finding> {
    let action = evidence.registry.as_ref()?.button_action?;
    let fits = match action.index {
        // Nobody pressed yet: what a press would do is known all the same.
        index if evidence.requests == 0 => {
            instead(index).is_some() && evidence.outcome == OutcomeKind::StillRunning
        }
        0 => evidence.press_failed() && !evidence.screen_reacted && evidence.agent_closed_after.is_none(),
        4 => evidence.press_failed() && evidence.agent_closed_after.is_none(),
        index => instead(index).is_some_and(|effect| evidence.outcome == effect.outcome()),
    };
    if !fits || evidence.press_taken == Some(false) || !evidence.about_the_button() {
        return None;
    }
    let mut finding = Finding::new(Cause::PowerButtonPolicy);
    let taken = evidence.press_taken == Some(true);
    // What the setting says has been done: nothing else will follow from this press.
    finding.stalled = taken;
    finding.lasting = taken;
    finding
        .add(EvidenceKind::Registry, format!("PBUTTONACTION is {} ({:?} layer)", action.index, action.layer));
    if taken {
        finding.add(EvidenceKind::AcpiRegister, "the guest's ACPI driver took the press".into());
    }
    Some(finding)
}

/// The lookup's result decides. Where no layer has a value, Windows may not respond at all (fact sheet A.6,
/// tag [?]): that is not predicted, only told.
fn predict(outlook: &Outlook<'_>) -> Option<Prediction> {
    let remedy = set(ButtonAction::ShutDown);
    let Some(action) = outlook.registry.button_action else {
        let because = "PBUTTONACTION is set in no layer".to_owned();
        let told =
            Prediction::new(Cause::PowerButtonPolicy, PressEffect::Undecided, Sureness::Reported, because);
        return Some(told.with(remedy));
    };
    let because = format!("PBUTTONACTION is {} ({:?} layer)", action.index, action.layer);
    // The policy is documented; how the scheme's layers follow is what independent tools implement.
    let sureness = if action.layer == Layer::Policy { Sureness::Documented } else { Sureness::Observed };
    let effect = match instead(action.index) {
        Some(effect) => effect,
        None if action.index == ButtonAction::ShutDown.index() => return None,
        None => PressEffect::Undecided,
    };
    Some(Prediction::new(Cause::PowerButtonPolicy, effect, sureness, because).with(remedy))
}
