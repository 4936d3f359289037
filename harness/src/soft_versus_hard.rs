//! Damage against kill time: what a soft shutdown and plugs pulled at several moments have left on one disk.
//!
//! Made from the results of the scenarios of one family, which all start from the same state. Written into the run's
//! folder as `soft-versus-hard.md` and `soft-versus-hard.svg`, and shown in its reports.

mod plot;

pub use plot::svg;

use std::path::Path;
use std::time::Duration;

use anyhow::Context;

use crate::inspect::Survival;
use crate::outcome::OutcomeKind;
use crate::record::RunRecord;
use crate::record::schema::ScenarioRecord;
use crate::text::printable;

/// The scenarios of the family begin with this.
pub const FAMILY: &str = "soft-versus-hard-";
const FILE: &str = "soft-versus-hard";

/// The header of the table.
pub const HEADER: [&str; 9] = [
    "arm",
    "plug pulled",
    "last phase",
    "volume",
    "documents lost (flushed, unflushed)",
    "update",
    "System log",
    "ShutdownTime",
    "next boot",
];

/// One result of the family: how it ended and what it left. What is `None` could not be read.
#[derive(Debug, Clone, PartialEq)]
pub struct Arm {
    /// The scenario's name without the family's.
    pub name: String,
    /// How the machine ended.
    pub outcome: OutcomeKind,
    /// When: the plug was pulled or the guest powered off, from the request.
    pub ended: Option<Duration>,
    /// The last phase reached.
    pub last_phase: Option<String>,
    /// The system volume is marked dirty.
    pub volume_dirty: Option<bool>,
    /// Documents that were flushed and are lost all the same, of how many.
    pub flushed_lost: Option<(usize, usize)>,
    /// Documents that were left to the cache and are lost, of how many.
    pub unflushed_lost: Option<(usize, usize)>,
    /// The update's state, and whether it was interrupted.
    pub update: Option<(String, bool)>,
    /// The System log ends with 6006: the event log service was stopped.
    pub log_closed: Option<bool>,
    /// The shutdown's time is in the registry.
    pub time_noted: Option<bool>,
    /// What the next boot did: a volume check, events of an unexpected shutdown, a rolled-back update.
    pub next_boot: Option<NextBootDid>,
}

/// What the next boot did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NextBootDid {
    /// It became ready.
    pub ready: bool,
    /// It checked the volume.
    pub checked: bool,
    /// It rolled the update back.
    pub rolled_back: bool,
    /// Events 41 and 6008.
    pub events: Vec<u32>,
}

/// The results of the family: the soft shutdown first, then by the time of the kill. Where a run has several images,
/// an arm's name has its image's.
pub fn arms(run: &RunRecord) -> Vec<Arm> {
    let of = |result: &ScenarioRecord| Some((Arm::of(result)?, printable(&result.image.name, 40)));
    let found: Vec<(Arm, String)> = run.results.iter().filter_map(of).collect();
    let several = found.array_windows().any(|[(_, a), (_, b)]| a != b);
    let named = |(arm, image): (Arm, String)| {
        let name = if several { format!("{} @ {image}", arm.name) } else { arm.name };
        Arm { name, ..arm }
    };
    let mut arms: Vec<Arm> = found.into_iter().map(named).collect();
    arms.sort_by(|a, b| {
        let key = |arm: &Arm| (arm.outcome == OutcomeKind::HostKilled, arm.ended);
        key(a).cmp(&key(b)).then_with(|| a.name.cmp(&b.name))
    });
    arms
}

impl Arm {
    fn of(result: &ScenarioRecord) -> Option<Arm> {
        let name = result.scenario.0.strip_prefix(FAMILY)?;
        let disk = result.damage.disk.as_ref();
        let documents = disk.and_then(|disk| disk.documents.as_ref());
        let lost = |survival: &Survival| (survival.lost(), survival.intact.len() + survival.lost());
        let update = disk.and_then(|disk| disk.updates.as_ref()?.modelled.as_ref());
        let log = disk.and_then(|disk| disk.system_log.as_ref());
        Some(Arm {
            name: printable(name, 40),
            outcome: result.outcome.kind(),
            ended: result.plug_pulled_ms.or(result.phases.powered_off_ms).map(Duration::from_millis),
            last_phase: result.last_phase.map(|phase| phase.to_string()),
            volume_dirty: result.damage.volume_dirty,
            flushed_lost: documents.map(|documents| lost(&documents.flushed)),
            unflushed_lost: documents.map(|documents| lost(&documents.unflushed)),
            update: update.map(|update| (printable(&update.state, 20), update.is_interrupted())),
            log_closed: log.map(|log| log.events.last().is_some_and(|event| event.id == 6006)),
            time_noted: disk.and_then(|disk| disk.shutdown_time.as_ref()).map(|time| time != "never"),
            next_boot: result.next_boot.as_ref().map(|next| NextBootDid {
                ready: next.boot_ms.is_some(),
                checked: next.volume_check.is_some(),
                rolled_back: next.update_state.as_deref() == Some("rolled-back"),
                events: next.unexpected_shutdown_events.clone(),
            }),
        })
    }

    /// The cells of its row, as [`HEADER`] names them.
    pub fn cells(&self) -> [String; 9] {
        let or = |is: Option<bool>, yes: &str, no: &str| match is {
            Some(true) => yes.to_owned(),
            Some(false) => no.to_owned(),
            None => "-".to_owned(),
        };
        let lost =
            |lost: Option<(usize, usize)>| lost.map_or("-".into(), |(lost, of)| format!("{lost} of {of}"));
        let pulled = match self.ended {
            Some(after) if self.outcome == OutcomeKind::HostKilled && after.is_zero() => "at idle".to_owned(),
            Some(after) if self.outcome == OutcomeKind::HostKilled => {
                format!("after {:.1} s", after.as_secs_f64())
            }
            Some(after) => format!("no ({} after {:.1} s)", self.outcome, after.as_secs_f64()),
            None => format!("no ({})", self.outcome),
        };
        let update = match &self.update {
            Some((state, true)) => format!("{state}, interrupted"),
            Some((state, false)) => state.clone(),
            None => "-".to_owned(),
        };
        [
            self.name.clone(),
            pulled,
            self.last_phase.clone().unwrap_or("-".into()),
            or(self.volume_dirty, "dirty", "clean"),
            format!("{}, {}", lost(self.flushed_lost), lost(self.unflushed_lost)),
            update,
            or(self.log_closed, "closed (6006)", "left open"),
            or(self.time_noted, "written", "never"),
            self.next_boot.as_ref().map_or("-".into(), NextBootDid::sentence),
        ]
    }
}

impl NextBootDid {
    fn sentence(&self) -> String {
        if !self.ready {
            return "did not become ready".to_owned();
        }
        let mut did = Vec::new();
        did.extend(self.checked.then(|| "volume check".to_owned()));
        did.extend(self.rolled_back.then(|| "update rolled back".to_owned()));
        if !self.events.is_empty() {
            let ids: Vec<String> = self.events.iter().map(u32::to_string).collect();
            did.push(format!("events {}", ids.join(" ")));
        }
        if did.is_empty() { "as after any shutdown".to_owned() } else { did.join(", ") }
    }
}

/// The table as Markdown.
pub fn markdown(arms: &[Arm]) -> String {
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | ").replace('\n', " "));
    let mut text = "# Soft versus hard: damage against kill time\n\n".to_owned();
    text += &line(&HEADER.map(str::to_owned));
    text += &line(&HEADER.map(|_| "---".to_owned()));
    arms.iter().for_each(|arm| text += &line(&arm.cells()));
    text += "\nTimes count from the request. All arms start from the same state: a staged update, five documents that were\n\
             flushed and five that were not. The same disk is then booted once more. Results of the reference guest are\n\
             no Windows results: update, volume check and the moments of writing are modelled.\n\n\
             ![damage against kill time](soft-versus-hard.svg)\n";
    text
}

/// Writes table and plot into the run's folder, if the run has results of the family; tells whether it has.
pub fn write(dir: &Path, run: &RunRecord) -> anyhow::Result<bool> {
    let arms = arms(run);
    if arms.is_empty() {
        return Ok(false);
    }
    for (kind, text) in [("md", markdown(&arms)), ("svg", svg(&arms))] {
        let path = dir.join(FILE).with_extension(kind);
        std::fs::write(&path, text)
            .with_context(|| format!("cannot write {}; is the disk full?", path.display()))?;
    }
    Ok(true)
}

#[cfg(test)]
mod tests;
