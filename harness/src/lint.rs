//! Lint: will a press of the power button be obeyed? Judged from a stopped disk, before the image ships.
//!
//! The rules are the conditions' own ([`crate::condition::predict`]). Where a disk tells nothing, because it is
//! encrypted, or its Windows shuts down by itself, the judgement is that nothing can be said.

use serde::Serialize;

use crate::condition::{Outlook, Prediction, predict};
use crate::inject::HiveEdit;
use crate::inspect::{Evaluation, ImageReport};
use crate::outcome::OutcomeKind;

/// What a lint of an image comes to.
#[derive(Debug, Serialize)]
#[serde(tag = "judgement", rename_all = "kebab-case")]
pub enum Judgement {
    /// No setting stands in the way of a press.
    Obeyed,
    /// At least one setting does.
    NotObeyed,
    /// Nothing can be said.
    Unknown {
        /// Why, and what to do.
        why: String,
    },
}

/// An image, linted.
#[derive(Debug, Serialize)]
pub struct Lint {
    /// The judgement.
    #[serde(flatten)]
    pub judgement: Judgement,
    /// What the causes predict, the gravest first.
    pub predictions: Vec<Prediction>,
}

impl Lint {
    /// Judges an image.
    pub fn of(image: &ImageReport) -> Lint {
        let unknown = |why: String| Lint { judgement: Judgement::Unknown { why }, predictions: Vec::new() };
        let Some(disk) = &image.system else {
            let why = image.no_system.clone().unwrap_or_else(|| "it has no system volume".to_owned());
            return unknown(why);
        };
        let Some(registry) = &image.registry else {
            return unknown(format!("its registry cannot be read: {}", disk.troubles.join("; ")));
        };
        let predictions = predict(&Outlook { registry, disk });
        if let Some(Evaluation::Expired { why }) = &image.evaluation {
            let why = format!(
                "it is an evaluation Windows past its expiry ({why}), which shuts down every hour by itself; next: \
                 install a fresh one, or `slmgr /rearm`"
            );
            return Lint { judgement: Judgement::Unknown { why }, predictions };
        }
        let judgement = match predictions.iter().any(|p| p.effect.stands_in_the_way()) {
            true => Judgement::NotObeyed,
            false => Judgement::Obeyed,
        };
        Lint { judgement, predictions }
    }

    /// What one press will make of the machine; `None` when nothing can be said.
    pub fn outcome(&self) -> Option<OutcomeKind> {
        match self.judgement {
            Judgement::Obeyed => Some(OutcomeKind::PoweredOff),
            Judgement::NotObeyed => self.predictions.first().map(|gravest| gravest.effect.outcome()),
            Judgement::Unknown { .. } => None,
        }
    }

    /// The values that put everything right that a value can put right.
    pub fn remedy(&self) -> Vec<HiveEdit> {
        self.predictions.iter().flat_map(|prediction| prediction.remedy.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::condition::{PressEffect, Sureness};
    use crate::disk::HibernationFile;
    use crate::guest::power_policy::{EffectiveAction, Layer};
    use crate::guest::registry_facts::{PreshutdownService, RegistryFacts};
    use crate::inspect::{DiskReport, PendingUpdates};

    fn healthy() -> RegistryFacts {
        RegistryFacts {
            button_action: Some(EffectiveAction { index: 3, layer: Layer::Default }),
            shutdown_without_logon: Some(1),
            auto_admin_logon: Some("1".into()),
            logon_user: Some("Ada".into()),
            auto_end_tasks: Some(true),
            ..RegistryFacts::default()
        }
    }

    fn image(registry: RegistryFacts, system: DiskReport) -> ImageReport {
        ImageReport {
            layers: vec![],
            size: 0,
            partitions: vec![],
            system: Some(system),
            registry: Some(registry),
            evaluation: None,
            no_system: None,
        }
    }

    fn action(index: u32, layer: Layer) -> RegistryFacts {
        RegistryFacts { button_action: Some(EffectiveAction { index, layer }), ..healthy() }
    }

    fn service(name: &str, timeout_ms: u32) -> RegistryFacts {
        RegistryFacts { preshutdown: vec![PreshutdownService { name: name.into(), timeout_ms }], ..healthy() }
    }

    #[rstest]
    #[case::healthy(healthy(), &[], OutcomeKind::PoweredOff)]
    #[case::nothing(action(0, Layer::Policy), &[PressEffect::Discarded], OutcomeKind::StillRunning)]
    #[case::sleep(action(1, Layer::Scheme), &[PressEffect::Suspends], OutcomeKind::Suspended)]
    #[case::hibernate(action(2, Layer::Policy), &[PressEffect::Hibernates], OutcomeKind::Hibernated)]
    #[case::display_off(action(4, Layer::Policy), &[PressEffect::Discarded], OutcomeKind::StillRunning)]
    #[case::undefined(action(9, Layer::Policy), &[PressEffect::Undecided], OutcomeKind::PoweredOff)]
    #[case::unset(
        RegistryFacts { button_action: None, ..healthy() }, &[PressEffect::Undecided], OutcomeKind::PoweredOff)]
    #[case::logon(
        RegistryFacts { auto_admin_logon: Some("0".into()), shutdown_without_logon: Some(0), ..healthy() },
        &[PressEffect::Discarded], OutcomeKind::StillRunning)]
    #[case::logon_by_default_on_a_server(
        RegistryFacts { auto_admin_logon: None, shutdown_without_logon: None,
            installation_type: Some("Server Core".into()), ..healthy() },
        &[PressEffect::Discarded], OutcomeKind::StillRunning)]
    #[case::logged_on(
        RegistryFacts { shutdown_without_logon: Some(0), ..healthy() }, &[], OutcomeKind::PoweredOff)]
    #[case::tracker(
        RegistryFacts { shutdown_reason_on: Some(1), shutdown_reason_ui: Some(1), ..healthy() },
        &[PressEffect::WaitsForPerson], OutcomeKind::StillRunning)]
    #[case::tracker_on_workstations_only(
        RegistryFacts { shutdown_reason_on: Some(1), shutdown_reason_ui: Some(2), ..healthy() },
        &[], OutcomeKind::PoweredOff)]
    #[case::display(
        RegistryFacts { video_idle: Some(600), ..healthy() },
        &[PressEffect::LightsDisplay], OutcomeKind::StillRunning)]
    #[case::display_never(RegistryFacts { video_idle: Some(0), ..healthy() }, &[], OutcomeKind::PoweredOff)]
    #[case::display_while_locked_only(
        RegistryFacts { video_lock_idle: Some(60), video_idle: Some(0), ..healthy() },
        &[], OutcomeKind::PoweredOff)]
    #[case::application(
        RegistryFacts { auto_end_tasks: Some(false), ..healthy() },
        &[PressEffect::MayBeHeld], OutcomeKind::PoweredOff)]
    #[case::application_with_a_forced_button(
        RegistryFacts { auto_end_tasks: Some(false), forced_button: Some(1), ..healthy() },
        &[], OutcomeKind::PoweredOff)]
    #[case::service(service("Backup", 600_000), &[PressEffect::MayBeHeld], OutcomeKind::PoweredOff)]
    #[case::a_service_of_windows(service("UsoSvc", 57_600_000), &[], OutcomeKind::PoweredOff)]
    #[case::squatter(service("SysHelper", 172_800_000), &[PressEffect::MayBeHeld], OutcomeKind::PoweredOff)]
    #[case::fast_startup(
        RegistryFacts { fast_startup: Some(1), hibernate_enabled: Some(1), ..healthy() },
        &[PressEffect::Undecided], OutcomeKind::PoweredOff)]
    #[case::two_causes(
        RegistryFacts { shutdown_reason_on: Some(1), shutdown_reason_ui: Some(1), ..action(2, Layer::Policy) },
        &[PressEffect::Hibernates, PressEffect::WaitsForPerson], OutcomeKind::Hibernated)]
    fn predictions(
        #[case] facts: RegistryFacts,
        #[case] effects: &[PressEffect],
        #[case] outcome: OutcomeKind,
    ) {
        let lint = Lint::of(&image(facts, DiskReport::default()));
        let found: Vec<_> = lint.predictions.iter().map(|p| p.effect).collect();
        assert_eq!(found, effects, "{lint:?}");
        assert_eq!(lint.outcome(), Some(outcome));
    }

    #[test]
    fn the_policy_layer_is_surer_than_the_scheme() {
        let of = |layer| Lint::of(&image(action(0, layer), DiskReport::default())).predictions[0].sureness;
        assert_eq!((of(Layer::Policy), of(Layer::Scheme)), (Sureness::Documented, Sureness::Observed));
    }

    #[test]
    fn the_disk_counts_too() {
        let updates = Some(PendingUpdates { pending_xml: true, ..PendingUpdates::default() });
        let disk = DiskReport { updates, ..DiskReport::default() };
        let lint = Lint::of(&image(healthy(), disk));
        assert_eq!(lint.predictions[0].effect, PressEffect::TakesLonger);
        let disk = DiskReport { hibernation: Some(HibernationFile::Live), ..DiskReport::default() };
        assert_eq!(Lint::of(&image(healthy(), disk)).predictions[0].effect, PressEffect::Undecided);
    }

    #[test]
    fn nothing_is_said_of_what_cannot_be_read() {
        let mut encrypted = image(healthy(), DiskReport::default());
        (encrypted.system, encrypted.no_system) = (None, Some("encrypted by BitLocker".into()));
        let mut expired = image(healthy(), DiskReport::default());
        expired.evaluation = Some(Evaluation::Expired { why: "event 100".into() });
        let mut damaged = image(healthy(), DiskReport::default());
        damaged.registry = None;
        for image in [encrypted, expired, damaged] {
            let lint = Lint::of(&image);
            assert!(matches!(lint.judgement, Judgement::Unknown { .. }), "{lint:?}");
            assert_eq!(lint.outcome(), None);
        }
    }
}
