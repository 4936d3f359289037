//! The hardening profile: settings that make a Windows obey the power button, as data with reasons
//! (`images/hardening/profile.toml`), and what is expected of them, written down before any run.
//!
//! One profile, four forms: edits of a stopped disk's hives, a `.reg` file, a PowerShell script, commands of an answer
//! file.

mod arm;
#[cfg(test)]
mod disk_tests;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::Deserialize;
use softoff_harness::disk::{DiskImage, Hive, RegistryValue, Volume, system_volume};
use softoff_harness::guest::quoting::Shell;
use softoff_harness::guest::registry_facts::RegistryFacts;
use softoff_harness::image::Sha256Hex;
use softoff_harness::inject::{self, HiveEdit, HiveWrite, online};
use softoff_harness::outcome::Cause;

pub use arm::{HardenedImage, SUFFIX};

const PROFILE: &str = include_str!("../../hardening/profile.toml");

/// Which hive a setting belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Place {
    /// `HKEY_LOCAL_MACHINE\SOFTWARE`.
    Software,
    /// `HKEY_LOCAL_MACHINE\SYSTEM`.
    System,
    /// Every user's own: the one who logs on, those to come, and the sign-in screen's.
    EveryUser,
}

/// How sure it is that Windows heeds a setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sure {
    /// Microsoft documents it, in this place.
    Documented,
    /// Independent tools and image builders rely on it.
    Observed,
    /// Somebody says so.
    Reported,
}

/// One setting.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Setting {
    /// The cause that it helps against.
    pub cause: Cause,
    /// What it does.
    pub what: String,
    /// Its hive.
    pub hive: Place,
    /// Its key, relative to the hive's root.
    pub key: String,
    /// Its values by name.
    pub values: BTreeMap<String, RegistryValue>,
    /// How sure it is.
    pub sure: Sure,
    /// Where that is known from.
    pub source: String,
}

/// What is expected of a scenario once the profile stands over its condition.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expected {
    /// The scenario.
    pub scenario: String,
    /// Whether the guest then powers off at the first press.
    pub cured: bool,
    /// Why.
    pub because: String,
}

/// The profile.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// Format version, 1.
    pub schema: u32,
    /// The settings.
    #[serde(rename = "setting")]
    pub settings: Vec<Setting>,
    /// What is expected of them.
    pub expected: Vec<Expected>,
}

/// What hardening did to an overlay.
#[derive(Debug)]
pub struct Hardened {
    /// Hives that were written.
    pub writes: Vec<HiveWrite>,
    /// Hives of users that the disk does not have; their settings were left out.
    pub absent: Vec<String>,
}

impl Profile {
    /// Softoff's own.
    pub fn own() -> anyhow::Result<Profile> {
        let profile: Profile = toml::from_str(PROFILE).context("images/hardening/profile.toml")?;
        anyhow::ensure!(profile.schema == 1, "images/hardening/profile.toml has schema {}", profile.schema);
        Ok(profile)
    }

    /// The profile's identity.
    pub fn digest(&self) -> Sha256Hex {
        Sha256Hex::of_bytes(PROFILE.as_bytes())
    }

    /// The settings as registry edits, per-user ones in these hives.
    pub fn edits(&self, users: &[Hive]) -> Vec<HiveEdit> {
        let hives = |place: Place| match place {
            Place::Software => vec![Hive::Software],
            Place::System => vec![Hive::System],
            Place::EveryUser => users.to_vec(),
        };
        let edit = |hive: Hive, setting: &Setting, (name, value): (&String, &RegistryValue)| {
            HiveEdit::new(hive, setting.key.clone(), name.clone(), value.clone())
        };
        let mut edits = Vec::new();
        for setting in &self.settings {
            for hive in hives(setting.hive) {
                edits.extend(setting.values.iter().map(|value| edit(hive.clone(), setting, value)));
            }
        }
        edits
    }

    /// The edits for a stopped disk: of the users' hives those that it has, and the names of the others.
    pub fn edits_for(&self, volume: &Volume) -> anyhow::Result<(Vec<HiveEdit>, Vec<String>)> {
        let facts = RegistryFacts::read(volume).context("reading who logs on")?;
        let user = facts.logon_user.as_deref().map(Hive::user);
        let all: Vec<Hive> =
            [Some(Hive::Default), Some(Hive::DefaultUser), user].into_iter().flatten().collect();
        let (here, absent): (Vec<Hive>, Vec<Hive>) =
            all.into_iter().partition(|hive| volume.file_size(&hive.path()).is_ok());
        Ok((self.edits(&here), absent.iter().map(Hive::path).collect()))
    }

    /// Puts the settings into an overlay of a stopped machine; what it stands on is never written to.
    pub fn apply(&self, overlay: &Path, read_only: &[PathBuf]) -> anyhow::Result<Hardened> {
        let (edits, absent) = {
            let volume = system_volume(&DiskImage::open(overlay)?)?;
            self.edits_for(&volume)?
        };
        let writes = inject::apply(overlay, read_only, &edits)?;
        Ok(Hardened { writes, absent })
    }

    /// The settings for people: the one who runs it and the sign-in screen stand for every user.
    fn for_people(&self) -> Vec<HiveEdit> {
        self.edits(&[Hive::Default, Hive::User(String::new())])
    }

    /// As a `.reg` file.
    pub fn reg_file(&self) -> anyhow::Result<Vec<u8>> {
        Ok(inject::reg_file(&self.for_people())?)
    }

    /// As a PowerShell script.
    pub fn powershell(&self) -> anyhow::Result<String> {
        Ok(inject::powershell(&self.for_people())?)
    }

    /// As lines for the script that an answer file runs at the first logon, one value each, the power scheme's refresh
    /// last.
    pub fn commands(&self) -> anyhow::Result<Vec<String>> {
        let mut commands = Vec::new();
        for edit in self.for_people() {
            commands.push(online::reg_add(&edit, None)?.line(Shell::Batch)?);
        }
        commands.push("powercfg.exe /setactive SCHEME_CURRENT".to_owned());
        Ok(commands)
    }
}
