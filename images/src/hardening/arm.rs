//! The hardened arm of a scenario: the same condition, the profile over it, and what was expected of that beforehand.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use softoff_harness::disk::{DiskImage, system_volume};
use softoff_harness::image::{Image, Sha256Hex};
use softoff_harness::inject::HiveEdit;
use softoff_harness::scenario::{Expectation, Scenario, Span};

use super::{Expected, Profile};

/// A hardened machine is asked only now: what would have acted after a while (the display's 5 s) would have acted.
const PATIENCE: Duration = Duration::from_secs(15);

/// What is to be cured is waited for as long as a healthy guest may take on a busy host; the definitions' deadlines are
/// those of guests that do not go down.
const DEADLINE: Duration = Duration::from_secs(120);

/// Behind an image's name: the same image with the profile over every condition.
pub const SUFFIX: &str = "-hardened";

/// An image with the profile.
#[derive(Debug, Clone)]
pub struct HardenedImage {
    /// The image under its hardened name, with an identity of its own.
    pub image: Arc<Image>,
    /// What is put over each condition.
    pub edits: Arc<Vec<HiveEdit>>,
    /// Users' hives that the image does not have.
    pub absent: Vec<String>,
}

impl HardenedImage {
    /// The hardened form of an image; its files are the image's own.
    pub fn of(image: &Image, profile: &Profile) -> anyhow::Result<HardenedImage> {
        let volume = system_volume(&DiskImage::open(&image.file(&image.manifest.system_disk))?)?;
        let (edits, absent) = profile.edits_for(&volume).context("fitting the hardening to the image")?;
        let mut hardened = image.clone();
        hardened.manifest.name += SUFFIX;
        hardened.id = Sha256Hex::of_bytes(format!("{}\n{}\n", image.id, profile.digest()).as_bytes());
        Ok(HardenedImage { image: Arc::new(hardened), edits: Arc::new(edits), absent })
    }
}

impl Profile {
    /// What is expected of a scenario; `None` where nothing was written down.
    pub fn expected(&self, scenario: &str) -> Option<&Expected> {
        self.expected.iter().find(|expected| expected.scenario == scenario)
    }

    /// A scenario as it is run on a hardened image; `None` where nothing was written down about it. One that is to be
    /// cured is pressed once, and has to power off by that; of the others the same is expected as without.
    pub fn arm(&self, scenario: &Scenario) -> Option<Scenario> {
        let expected = self.expected(&scenario.name.0)?;
        let mut arm = scenario.clone();
        arm.request.delay = arm.request.delay.max(Span(PATIENCE));
        if expected.cured {
            arm.request.presses = 1;
            arm.request.deadline = arm.request.deadline.max(Span(DEADLINE));
            arm.request.then.clear();
            arm.expect = Expectation::healthy();
        }
        Some(arm)
    }
}
