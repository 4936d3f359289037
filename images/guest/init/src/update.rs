//! A modelled update of two steps, so that an interrupted one shows on the disk.
//!
//! Modelled after what is documented of Windows' servicing: work is staged while the system runs, committed while it
//! shuts down, and an interrupted commit is rolled back at the next boot. Windows commits part of it at the boot as
//! well; here the shutdown does all. What is there to see:
//!
//! | what | while |
//! |---|---|
//! | `C:\softoff\Update\state.txt`: `staged`, `committing`, `committed`, `rolled-back` | always; the truth |
//! | the same as `State` (REG_SZ) in `HKLM\SOFTWARE\Softoff\Reference\Update` | always; `none` in the image |
//! | `step-N.staged`, then `step-N.committed`, in the same folder | until rolled back |
//! | `C:\Windows\WinSxS\pending.xml` | from staged until committed or rolled back |
//! | `Component Based Servicing\RebootPending` | until the boot after the end of it |
//!
//! The state is kept in a file because the hive may be damaged, which a scenario may want to look at.

use std::path::PathBuf;

use anyhow::Context;
use softoff_guest_protocol::probe::ProbeEvent;

use crate::{hives, log, volume};

const FOLDER: &str = "softoff/Update";
const PENDING: &str = "windows/WinSxS/pending.xml";
/// In SOFTWARE.
const KEY: &str = r"Softoff\Reference\Update";
const REBOOT_PENDING: &str = r"Microsoft\Windows\CurrentVersion\Component Based Servicing\RebootPending";

/// The steps, and the share of the work after which each is committed, in percent.
const STEPS: [(u32, u32); 2] = [(1, 50), (2, 100)];

/// Where the update stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    None,
    Staged,
    Committing,
    Committed,
    RolledBack,
}

impl State {
    const ALL: [State; 5] =
        [State::None, State::Staged, State::Committing, State::Committed, State::RolledBack];

    fn name(self) -> &'static str {
        match self {
            State::None => "none",
            State::Staged => "staged",
            State::Committing => "committing",
            State::Committed => "committed",
            State::RolledBack => "rolled-back",
        }
    }

    fn of(name: &str) -> State {
        State::ALL.into_iter().find(|state| state.name() == name.trim()).unwrap_or(State::None)
    }

    /// What a boot makes of it; `pending`: the hive says that updates wait for a restart.
    fn after_boot(self, pending: bool) -> State {
        match self {
            State::Committing => State::RolledBack,
            State::None | State::RolledBack if pending => State::Staged,
            other => other,
        }
    }
}

/// Looks at the update at the boot, before anybody reads the registry: a new one is staged, an interrupted one rolled
/// back, and of one that has ended RebootPending is taken away. Its state is told, if there is an update.
pub(crate) fn after_boot() {
    worked(Update::on_c().boot());
}

/// The shutdown has done so much of the work. Without a staged update this is nobody's work.
pub(crate) fn work(percent: u32) {
    worked(Update::on_c().work(percent));
    volume::mark_in_use();
}

fn worked(result: anyhow::Result<()>) {
    if let Err(error) = result {
        log::trouble(&format!("the update: {error:#}"));
    }
}

/// Where it lies on the disk.
struct Update {
    folder: PathBuf,
    pending: PathBuf,
    /// Writes the state into the hive, and takes RebootPending away where told to.
    note: fn(State, bool),
}

impl Update {
    fn on_c() -> Update {
        Update { folder: volume::on_c(FOLDER), pending: volume::on_c(PENDING), note }
    }

    fn boot(&self) -> anyhow::Result<()> {
        let pending = hives::read(hives::SOFTWARE).is_ok_and(|root| root.get(REBOOT_PENDING).is_some());
        self.boot_with(pending)
    }

    fn boot_with(&self, pending: bool) -> anyhow::Result<()> {
        let before = self.state();
        let now = before.after_boot(pending);
        if now == before {
            // It ended with the last shutdown.
            if now == State::Committed && pending {
                (self.note)(now, true);
            }
            if now != State::None {
                tell(now);
            }
            return Ok(());
        }
        match now {
            State::Staged => {
                std::fs::create_dir_all(&self.folder)?;
                for (step, _) in STEPS {
                    self.remove(&self.committed(step))?;
                    volume::write_flushed(&self.staged(step), format!("step {step}\r\n").as_bytes())?;
                }
                volume::write_flushed(&self.pending, PENDING_TEXT.as_bytes())?;
            }
            State::RolledBack => {
                for (step, _) in STEPS {
                    self.remove(&self.committed(step))?;
                    self.remove(&self.staged(step))?;
                }
                self.remove(&self.pending)?;
            }
            _ => {}
        }
        self.enter(now, now == State::RolledBack)
    }

    fn work(&self, percent: u32) -> anyhow::Result<()> {
        if self.state() == State::Staged {
            self.enter(State::Committing, false)?;
        }
        if self.state() != State::Committing {
            return Ok(());
        }
        for (step, _) in STEPS.into_iter().filter(|(_, share)| percent >= *share) {
            if !self.committed(step).exists() {
                volume::write_flushed(&self.committed(step), format!("step {step}\r\n").as_bytes())?;
                self.remove(&self.staged(step))?;
            }
        }
        if percent >= 100 {
            self.remove(&self.pending)?;
            self.enter(State::Committed, false)?;
        }
        Ok(())
    }

    fn state(&self) -> State {
        State::of(&std::fs::read_to_string(self.folder.join("state.txt")).unwrap_or_default())
    }

    fn enter(&self, state: State, ended: bool) -> anyhow::Result<()> {
        let path = self.folder.join("state.txt");
        volume::write_flushed(&path, format!("{}\r\n", state.name()).as_bytes())
            .with_context(|| format!("cannot write {}", path.display()))?;
        (self.note)(state, ended);
        tell(state);
        Ok(())
    }

    fn staged(&self, step: u32) -> PathBuf {
        self.folder.join(format!("step-{step}.staged"))
    }

    fn committed(&self, step: u32) -> PathBuf {
        self.folder.join(format!("step-{step}.committed"))
    }

    fn remove(&self, path: &PathBuf) -> anyhow::Result<()> {
        if path.exists() {
            std::fs::remove_file(path).with_context(|| format!("cannot remove {}", path.display()))?;
            volume::flush_names(path)?;
        }
        Ok(())
    }
}

/// Not Windows' own format: nothing of Windows shall read this one.
const PENDING_TEXT: &str = "<?xml version=\"1.0\" encoding=\"utf-8\"?>\r\n\
    <!-- Modelled by Softoff's reference guest; not a file of Windows. -->\r\n\
    <SoftoffPending><Step Number=\"1\"/><Step Number=\"2\"/></SoftoffPending>\r\n";

fn tell(state: State) {
    log::probe(ProbeEvent::UpdateState { state: state.name().to_owned() });
}

fn note(state: State, ended: bool) {
    let noted = hives::edit(hives::SOFTWARE, |root| {
        root.key(KEY).sz("State", state.name());
        if ended {
            root.remove(REBOOT_PENDING);
        }
    });
    if let Err(error) = noted {
        log::say(&format!("the update's state is not in the registry: {error:#}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;
    use std::path::Path;

    fn update(dir: &Path) -> Update {
        Update { folder: dir.join("Update"), pending: dir.join("pending.xml"), note: |_, _| {} }
    }

    /// The state and the names of the other files.
    fn seen(dir: &Path) -> (String, Vec<String>) {
        let mut names: Vec<String> = [dir.join("Update"), dir.to_owned()]
            .iter()
            .filter_map(|folder| std::fs::read_dir(folder).ok())
            .flatten()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name != "Update" && name != "state.txt")
            .collect();
        names.sort();
        (update(dir).state().name().to_owned(), names)
    }

    /// `b`: a boot with pending work, `o`: one without; numbers: percent of the work.
    #[rstest]
    #[case::nothing_to_do("o 50", "none", &[])]
    #[case::waits("b", "staged", &["pending.xml", "step-1.staged", "step-2.staged"])]
    #[case::waits_through_a_plain_boot("b b", "staged", &["pending.xml", "step-1.staged", "step-2.staged"])]
    #[case::cut_early("b 0 30", "committing", &["pending.xml", "step-1.staged", "step-2.staged"])]
    #[case::cut_late("b 0 50 80", "committing", &["pending.xml", "step-1.committed", "step-2.staged"])]
    #[case::done("b 0 50 100", "committed", &["step-1.committed", "step-2.committed"])]
    #[case::done_at_once("b 100", "committed", &["step-1.committed", "step-2.committed"])]
    #[case::stays_done("b 100 b o 50", "committed", &["step-1.committed", "step-2.committed"])]
    #[case::rolled_back("b 0 80 b", "rolled-back", &[])]
    #[case::left_behind_by_its_service("b 0 90 o", "rolled-back", &[])]
    #[case::another_one_after_it("b 0 80 b o b", "staged", &["pending.xml", "step-1.staged", "step-2.staged"])]
    fn the_way_of_an_update(#[case] way: &str, #[case] state: &str, #[case] files: &[&str]) {
        let dir = tempfile::tempdir().unwrap();
        for step in way.split(' ') {
            let update = update(dir.path());
            match step.parse() {
                Ok(percent) => update.work(percent).unwrap(),
                Err(_) => update.boot_with(step == "b").unwrap(),
            }
        }
        assert_eq!(seen(dir.path()), (state.to_owned(), files.iter().map(|f| (*f).to_owned()).collect()));
    }
}
