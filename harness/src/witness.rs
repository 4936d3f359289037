//! From observations to evidence: the one way for a run that is under way, one that has ended, and an old
//! record that is looked at again.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::evidence::{Evidence, window};
use crate::guest::registry_facts::RegistryFacts;
use crate::machine::ocr;
use crate::outcome::OutcomeKind;
use crate::record;
use crate::settle;
use crate::timeline::{Observation, Seen};

/// Pictures read after a request; a film of update percentages has dozens alike.
const READ_LIMIT: usize = 12;

/// Makes evidence of what a record's folder holds; each picture is read once.
#[derive(Debug)]
pub struct Witness {
    dir: PathBuf,
    can_read: bool,
    texts: HashMap<String, Option<String>>,
    /// What is said when there is no registry.
    without_registry: String,
}

impl Witness {
    /// A witness of the scenario whose pictures are in `dir`.
    pub fn new(dir: &Path) -> Witness {
        Witness {
            dir: dir.to_owned(),
            can_read: ocr::available(),
            texts: HashMap::new(),
            without_registry: "the system volume could not be read".into(),
        }
    }

    /// The same, with another reason for a registry that could not be read.
    pub fn without_registry(self, reason: String) -> Witness {
        Witness { without_registry: reason, ..self }
    }

    /// The evidence so far: the timeline's, the registry's, and the texts of the last picture before the
    /// first request and of those after it, where tesseract is installed.
    pub async fn evidence(
        &mut self,
        observations: &[Observation],
        outcome: OutcomeKind,
        registry: Option<RegistryFacts>,
    ) -> Evidence {
        let mut evidence = Evidence::from_timeline(observations, outcome);
        if registry.is_none() {
            evidence.lacks.push(format!("the registry: {}", self.without_registry));
        }
        evidence.registry = registry;
        evidence.can_read_screens = self.can_read;
        if !self.can_read {
            evidence.lacks.push("the texts on the screen: apt-get install tesseract-ocr".into());
            return evidence;
        }
        let (before, after, _) = window(observations);
        if let Some(last) = before.iter().rev().find_map(picture) {
            evidence.screen_before = self.text(last).await;
        }
        let pictures: Vec<_> = after.iter().filter_map(picture).collect();
        let step = pictures.len().div_ceil(READ_LIMIT).max(1);
        let last = pictures.len().saturating_sub(1);
        for (number, file) in pictures.iter().enumerate() {
            if number % step == 0 || number == last {
                evidence.screens_after.extend(self.text(file).await);
            }
        }
        evidence
    }

    async fn text(&mut self, file: &str) -> Option<String> {
        if let Some(known) = self.texts.get(file) {
            return known.clone();
        }
        // The name may come from a foreign record: only a file of this folder is meant.
        let name = Path::new(file).file_name()?;
        let text = ocr::read(&self.dir.join(name)).await;
        self.texts.insert(file.to_owned(), text.clone());
        text
    }
}

fn picture(o: &Observation) -> Option<&str> {
    match &o.what {
        Seen::ScreenChanged { file, .. } => Some(file),
        _ => None,
    }
}

/// The evidence of a kept record: its timeline, its pictures, its registry facts. The outcome is settled
/// anew from the timeline; what was injected or expected is not looked at.
pub async fn of_record(dir: &Path) -> anyhow::Result<Evidence> {
    let observations = record::read_timeline(dir)?;
    let ended = observations.iter().position(|o| matches!(o.what, Seen::Settled { .. }));
    let observations = observations.get(..ended.unwrap_or(observations.len())).unwrap_or_default();
    anyhow::ensure!(
        observations.iter().any(|o| matches!(o.what, Seen::Requested { .. })),
        "{} has no request in its timeline: nothing was asked, so there is nothing to diagnose",
        dir.display()
    );
    let registry = record::read_registry(dir).with_context(|| format!("reading {}", dir.display()))?;
    let outcome = settle::at_deadline(observations).kind();
    let mut witness = Witness::new(dir).without_registry("this record holds no registry.json".into());
    Ok(witness.evidence(observations, outcome, registry).await)
}
