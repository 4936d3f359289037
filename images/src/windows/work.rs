//! The folder that an installation works in, and how far it had come: each restart of the guest is a place to go on from.
//!
//! While a machine runs, its disk is an overlay; when the guest restarts itself the machine stops, the overlay stays as it
//! is, and the next machine gets one above it. What is interrupted loses its newest overlay only.

use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::{Deserialize, Serialize};
use softoff_harness::file_lock::FileLock;

use super::BuildError;
use super::milestone::Milestone;

const STATE: &str = "state.json";

/// A machine's run that ended well.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stage {
    /// Its disk, below the folder.
    pub disk: String,
    /// The furthest milestone of the whole installation by then.
    pub milestone: Milestone,
    /// Milliseconds that it took.
    pub took_ms: u64,
}

/// What is written down between two machines.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// The runs so far.
    pub stages: Vec<Stage>,
}

/// The folder, locked.
#[derive(Debug)]
pub struct Work {
    folder: PathBuf,
    _lock: FileLock,
    /// How far it is.
    pub state: State,
}

impl Work {
    /// Opens or makes the folder. With `restart`, what was done before is thrown away.
    pub fn open(folder: &Path, restart: bool) -> Result<Work, BuildError> {
        std::fs::create_dir_all(folder)
            .with_context(|| format!("cannot make {} (set SOFTOFF_CACHE)", folder.display()))?;
        let lock = FileLock::take(&folder.join("lock"))
            .with_context(|| format!("cannot write in {}", folder.display()))?
            .ok_or_else(|| BuildError::Busy { folder: folder.to_owned() })?;
        let path = folder.join(STATE);
        let mut state = match std::fs::read(&path) {
            // A state that was cut while it was written tells nothing.
            Ok(bytes) if !restart => serde_json::from_slice(&bytes).unwrap_or_default(),
            _ => State::default(),
        };
        let whole = |stage: &Stage| folder.join(&stage.disk).is_file();
        let usable = state.stages.iter().take_while(|stage| whole(stage)).count();
        state.stages.truncate(usable);
        let work = Work { folder: folder.to_owned(), _lock: lock, state };
        work.save()?;
        Ok(work)
    }

    /// Its path.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The newest disk at rest.
    pub fn newest(&self) -> Option<PathBuf> {
        self.state.stages.last().map(|stage| self.folder.join(&stage.disk))
    }

    /// The furthest milestone at rest.
    pub fn milestone(&self) -> Milestone {
        self.state.stages.last().map_or(Milestone::MachineStarted, |stage| stage.milestone)
    }

    /// Number of the next machine, from 1.
    pub fn next(&self) -> usize {
        self.state.stages.len() + 1
    }

    /// Writes down a run that ended well.
    pub fn done(&mut self, stage: Stage) -> anyhow::Result<()> {
        self.state.stages.push(stage);
        self.save()
    }

    fn save(&self) -> anyhow::Result<()> {
        let text = serde_json::to_vec_pretty(&self.state)?;
        let part = tempfile::NamedTempFile::new_in(&self.folder)?;
        std::fs::write(part.path(), text)?;
        part.persist(self.folder.join(STATE)).context("writing how far the installation is")?;
        Ok(())
    }

    /// Removes the folder.
    pub fn remove(self) -> anyhow::Result<()> {
        std::fs::remove_dir_all(&self.folder)
            .with_context(|| format!("cannot remove {}", self.folder.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stage(disk: &str, milestone: Milestone) -> Stage {
        Stage { disk: disk.into(), milestone, took_ms: 1 }
    }

    #[test]
    fn what_is_at_rest_is_gone_on_from_and_what_is_lost_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("w");
        let mut work = Work::open(&folder, false).unwrap();
        assert_eq!((work.next(), work.newest()), (1, None));
        for (disk, milestone) in
            [("stage-1.qcow2", Milestone::SystemWritten), ("stage-2.qcow2", Milestone::Specialize)]
        {
            std::fs::write(folder.join(disk), disk).unwrap();
            work.done(stage(disk, milestone)).unwrap();
        }
        assert!(matches!(Work::open(&folder, false), Err(BuildError::Busy { .. })));
        drop(work);
        let work = Work::open(&folder, false).unwrap();
        assert_eq!((work.next(), work.milestone()), (3, Milestone::Specialize));
        drop(work);
        std::fs::remove_file(folder.join("stage-2.qcow2")).unwrap();
        let work = Work::open(&folder, false).unwrap();
        assert_eq!((work.next(), work.milestone()), (2, Milestone::SystemWritten));
        drop(work);
        let work = Work::open(&folder, true).unwrap();
        assert_eq!(work.next(), 1);
        drop(work);
        std::fs::write(folder.join(STATE), b"{\"stages\": [{\"di").unwrap();
        let work = Work::open(&folder, false).unwrap();
        assert_eq!(work.next(), 1);
        work.remove().unwrap();
        assert!(!folder.exists());
    }
}
