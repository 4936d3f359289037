//! Runs of many nights in one file: an SQLite database that holds each `run.json` whole, and what is looked up of it
//! in columns. A run goes in and comes out unchanged; attachments stay in the runs' folders.

use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use rusqlite::{Connection, OptionalExtension, params};

use crate::compare::{Change, Suspect, Terms, compare};
use crate::outcome::Verdict;
use crate::record::schema::{RunRecord, ScenarioRecord};
use crate::record::words::median;

/// Name of the database beside the runs.
pub const HISTORY: &str = "history.sqlite";
/// Version of the tables, kept in SQLite's `user_version`.
const VERSION: i64 = 1;
/// How long a second writer waits for the first.
const BUSY: Duration = Duration::from_secs(30);

/// The database.
#[derive(Debug)]
pub struct History {
    db: Connection,
}

/// One scenario on one image in one run.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Night {
    /// The run's id.
    pub run: String,
    /// Seconds since 1970 when it began.
    pub started_at: u64,
    /// The scenario.
    pub scenario: String,
    /// The image.
    pub image: String,
    /// Its outcomes, each with its number.
    pub outcomes: Vec<(String, usize)>,
    /// Results that failed.
    pub failed: usize,
    /// Median time from the request to the power being off, milliseconds; absent when none went off.
    pub off_ms: Option<u64>,
}

/// Where a change between two nights came in.
#[derive(Debug, Clone, PartialEq)]
pub struct Hint {
    /// The scenario and the image.
    pub what: String,
    /// How the two nights differ.
    pub change: Change,
    /// The last run that was as the first night.
    pub last_same: String,
    /// The first run that was not.
    pub first_other: String,
    /// What differs between these two.
    pub suspects: Vec<Suspect>,
}

impl History {
    /// Opens the database, and makes it when there is none.
    pub fn open(path: &Path) -> anyhow::Result<History> {
        let what = || format!("cannot open the history {}; is it an SQLite file?", path.display());
        let db = Connection::open(path).with_context(what)?;
        db.busy_timeout(BUSY).with_context(what)?;
        let version: i64 = db.query_row("PRAGMA user_version", [], |row| row.get(0)).with_context(what)?;
        anyhow::ensure!(
            version <= VERSION,
            "{} has version {version}, this Softoff knows up to {VERSION}; update Softoff",
            path.display()
        );
        db.execute_batch(
            "CREATE TABLE IF NOT EXISTS run (
                 id TEXT PRIMARY KEY, started_at INTEGER NOT NULL, qemu TEXT NOT NULL, record TEXT NOT NULL
             ) STRICT;
             CREATE TABLE IF NOT EXISTS result (
                 run TEXT NOT NULL REFERENCES run(id), scenario TEXT NOT NULL, image TEXT NOT NULL,
                 repeat INTEGER NOT NULL, verdict TEXT NOT NULL, outcome TEXT NOT NULL, cause TEXT NOT NULL,
                 asked INTEGER NOT NULL, off_ms INTEGER, wall_ms INTEGER NOT NULL
             ) STRICT;
             CREATE INDEX IF NOT EXISTS result_of ON result (scenario, image);
             PRAGMA user_version = 1;",
        )
        .with_context(what)?;
        Ok(History { db })
    }

    /// Takes a run in. Whether it is new: the same run twice is one run, and one that went on stands for what it was
    /// before; another under the same id is an error.
    pub fn import(&mut self, run: &RunRecord) -> anyhow::Result<bool> {
        let text = serde_json::to_string(run).context("writing JSON")?;
        let change = self.db.transaction()?;
        let known: Option<String> = change
            .query_row("SELECT record FROM run WHERE id = ?1", [&run.id], |row| row.get(0))
            .optional()?;
        if let Some(known) = known {
            if known == text {
                return Ok(false);
            }
            let before: Option<RunRecord> = serde_json::from_str(&known).ok();
            anyhow::ensure!(
                before.is_some_and(|before| goes_on(&before, run)),
                "the history has another run {}; rename the new one's folder and id to keep both",
                run.id
            );
            change.execute("DELETE FROM result WHERE run = ?1", [&run.id])?;
            change.execute("DELETE FROM run WHERE id = ?1", [&run.id])?;
        }
        let number = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        change.execute(
            "INSERT INTO run VALUES (?1, ?2, ?3, ?4)",
            params![run.id, number(run.started_at), run.host.qemu, text],
        )?;
        for r in run.results.iter().filter(|r| r.retry_of.is_none()) {
            change.execute(
                "INSERT INTO result VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
                params![
                    run.id,
                    r.scenario.0,
                    r.timed_subject(),
                    r.repeat,
                    r.verdict.to_string(),
                    r.outcome.kind().to_string(),
                    r.diagnosis.cause.to_string(),
                    r.is_asked(),
                    // A time that the host disturbed is no measurement of the guest.
                    r.phases.powered_off_ms.filter(|_| !r.is_disturbed()).map(number),
                    number(r.wall_ms),
                ],
            )?;
        }
        change.commit()?;
        Ok(true)
    }

    /// A run as it was taken in, or as it is since it went on.
    pub fn run(&self, id: &str) -> anyhow::Result<RunRecord> {
        let text: Option<String> =
            self.db.query_row("SELECT record FROM run WHERE id = ?1", [id], |row| row.get(0)).optional()?;
        let text = text
            .with_context(|| format!("the history has no run {id}; `cargo xtask history` lists the runs"))?;
        serde_json::from_str(&text).with_context(|| format!("run {id} in the history is damaged"))
    }

    /// Every run's id and start, the oldest first.
    pub fn runs(&self) -> anyhow::Result<Vec<(String, u64)>> {
        let mut query = self.db.prepare("SELECT id, started_at FROM run ORDER BY started_at, id")?;
        let rows = query.query_map([], |row| Ok((row.get(0)?, row.get::<_, i64>(1)?)))?;
        rows.map(|row| {
            row.map(|(id, at)| (id, u64::try_from(at).unwrap_or(0))).context("reading the history")
        })
        .collect()
    }

    /// Every scenario of every run, by scenario, image and start; `wanted` chooses by scenario and image.
    pub fn nights(&self, wanted: impl Fn(&str, &str) -> bool) -> anyhow::Result<Vec<Night>> {
        let mut query = self.db.prepare(
            "SELECT run, started_at, scenario, image, outcome, verdict, off_ms FROM result JOIN run ON run.id = run
             WHERE asked ORDER BY scenario, image, started_at, run, outcome",
        )?;
        let mut rows = query.query([])?;
        let mut nights: Vec<Night> = Vec::new();
        let mut times: Vec<u64> = Vec::new();
        while let Some(row) = rows.next()? {
            let (run, scenario, image): (String, String, String) = (row.get(0)?, row.get(2)?, row.get(3)?);
            if !wanted(&scenario, &image) {
                continue;
            }
            let (outcome, verdict): (String, String) = (row.get(4)?, row.get(5)?);
            let same = |n: &Night| n.run == run && n.scenario == scenario && n.image == image;
            if !nights.last().is_some_and(same) {
                times.clear();
                let started_at = u64::try_from(row.get::<_, i64>(1)?).unwrap_or(0);
                let (outcomes, failed, off_ms) = (Vec::new(), 0, None);
                nights.push(Night { run, started_at, scenario, image, outcomes, failed, off_ms });
            }
            let Some(night) = nights.last_mut() else { continue };
            match night.outcomes.last_mut() {
                Some((last, count)) if *last == outcome => *count += 1,
                _ => night.outcomes.push((outcome, 1)),
            }
            night.failed += usize::from(verdict == Verdict::Fail.to_string());
            times.extend(row.get::<_, Option<i64>>(6)?.and_then(|ms| u64::try_from(ms).ok()));
            night.off_ms = median(times.iter().copied());
        }
        Ok(nights)
    }

    /// Where each difference between two runs came in: among the runs between them, the first that differs from
    /// the earlier one as well.
    pub fn between(&self, first: &str, second: &str, terms: &Terms) -> anyhow::Result<Vec<Hint>> {
        let all: Vec<String> = self.runs()?.into_iter().map(|(id, _)| id).collect();
        let place = |id: &str| {
            all.iter()
                .position(|known| known == id)
                .with_context(|| format!("the history has no run {id}; `cargo xtask history` lists the runs"))
        };
        let (from, to) = (place(first)?, place(second)?);
        anyhow::ensure!(from < to, "{first} is not older than {second}; name the older run first");
        let base = self.run(first)?;
        let mut hints = Vec::new();
        let mut last: Vec<(String, RunRecord)> = vec![(first.to_owned(), base.clone())];
        for id in all.get(from + 1..=to).unwrap_or_default() {
            last.push((id.clone(), self.run(id)?));
        }
        let Some((_, newest)) = last.last() else { return Ok(hints) };
        for group in compare(&base, newest, terms).groups {
            if matches!(group.change, Change::Same | Change::Undecided) {
                continue;
            }
            // A night with too few repeats, or without the scenario, is neither like the older one nor unlike it.
            let told = last.iter().enumerate().map(|(n, (_, run))| {
                if n == 0 {
                    return Change::Same;
                }
                let found = compare(&base, run, terms).groups.into_iter().find(|g| g.key() == group.key());
                found.map_or(Change::Undecided, |g| g.change)
            });
            let told: Vec<Change> = told.collect();
            let differs = |change: &Change| !matches!(change, Change::Same | Change::Undecided);
            let Some(other) = told.iter().position(differs) else { continue };
            let Some(same) = told.iter().take(other).rposition(|change| *change == Change::Same) else {
                continue;
            };
            let (Some((good, was)), Some((bad, is))) = (last.get(same), last.get(other)) else { continue };
            hints.push(Hint {
                what: group.subject(),
                change: group.change,
                last_same: good.clone(),
                first_other: bad.clone(),
                suspects: compare(was, is, terms).suspects,
            });
        }
        Ok(hints)
    }
}

/// Whether a run is what became of an interrupted one: on the same host, with every result it had.
fn goes_on(before: &RunRecord, run: &RunRecord) -> bool {
    // A failure may have become flaky since: the verdict is left out.
    let of = |r: &ScenarioRecord| (r.dir.clone(), r.outcome.clone(), r.wall_ms);
    let kept = |r: &ScenarioRecord| run.results.iter().any(|now| of(now) == of(r));
    run.resumed > before.resumed
        && run.started_at == before.started_at
        && run.host == before.host
        && before.results.iter().all(kept)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::Outcome;
    use crate::report::testing::{result, run};

    #[test]
    fn a_run_that_went_on_stands_for_what_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let mut history = History::open(&dir.path().join(HISTORY)).unwrap();
        let whole = RunRecord { resumed: 1, ..night(1, 0, "7") };
        let mut cut = RunRecord { interrupted: true, resumed: 0, ..whole.clone() };
        cut.results.truncate(3);
        assert!(history.import(&cut).unwrap() && history.import(&whole).unwrap());
        assert!(!history.import(&whole).unwrap());
        assert_eq!(history.run(&whole.id).unwrap().results.len(), 8);
        // One that lost what it had is another run, and so is the older one.
        let mut other = RunRecord { resumed: 2, ..whole.clone() };
        other.results.remove(0);
        assert!(history.import(&other).is_err() && history.import(&cut).is_err());
    }

    fn night(number: u64, slower: u64, qemu: &str) -> RunRecord {
        let results = (1..=8).map(|n| {
            let mut one = result("control", n);
            one.phases.powered_off_ms = one.phases.powered_off_ms.map(|ms| ms + slower + u64::from(n));
            one
        });
        let mut run = run(results);
        run.id = format!("night-{number}");
        run.started_at = 1_795_000_000 + number * 86_400;
        run.host.qemu = qemu.into();
        run
    }

    fn history() -> (tempfile::TempDir, History) {
        let dir = tempfile::tempdir().unwrap();
        let history = History::open(&dir.path().join(HISTORY)).unwrap();
        (dir, history)
    }

    #[test]
    fn a_run_comes_out_as_it_went_in() {
        let (dir, mut history) = history();
        let one = night(1, 0, "7.2");
        assert!(history.import(&one).unwrap());
        assert!(!history.import(&one).unwrap());
        let again = History::open(&dir.path().join(HISTORY)).unwrap();
        let back = serde_json::to_value(again.run("night-1").unwrap()).unwrap();
        assert_eq!(back, serde_json::to_value(&one).unwrap());
        assert!(history.import(&night(1, 500, "7.2")).unwrap_err().to_string().contains("another run"));
        assert!(again.run("nowhere").unwrap_err().to_string().contains("cargo xtask history"));
    }

    #[test]
    fn nights_are_told_in_order_with_what_came_of_them() {
        let (_dir, mut history) = history();
        let mut bad = night(2, 0, "7.2");
        bad.results[3].outcome = Outcome::StillRunning;
        bad.results[3].verdict = Verdict::Fail;
        bad.results[3].phases.powered_off_ms = None;
        bad.results[4].verdict = Verdict::Infra;
        history.import(&bad).unwrap();
        history.import(&night(1, 0, "7.2")).unwrap();
        let nights = history.nights(|scenario, _| scenario == "control").unwrap();
        let told: Vec<_> = nights.iter().map(|n| (n.run.as_str(), n.outcomes.clone(), n.failed)).collect();
        let off = |n| ("powered-off".to_owned(), n);
        assert_eq!(
            told,
            [("night-1", vec![off(8)], 0), ("night-2", vec![off(6), ("still-running".to_owned(), 1)], 1)]
        );
        assert!(history.nights(|scenario, _| scenario == "hang").unwrap().is_empty());
    }

    #[test]
    fn a_hint_names_the_night_and_what_came_with_it() {
        let (_dir, mut history) = history();
        for (n, slower, qemu) in [(1, 0, "7.2"), (2, 3, "7.2"), (3, 3000, "9.0"), (4, 3003, "9.0")] {
            history.import(&night(n, slower, qemu)).unwrap();
        }
        let hints = history.between("night-1", "night-4", &Terms::default()).unwrap();
        assert_eq!(hints.len(), 1);
        let hint = &hints[0];
        assert_eq!((hint.last_same.as_str(), hint.first_other.as_str()), ("night-2", "night-3"));
        assert_eq!((hint.change, hint.suspects[0].what.as_str()), (Change::New, "QEMU"));
        assert!(history.between("night-1", "night-2", &Terms::default()).unwrap().is_empty());
        assert!(history.between("night-4", "night-1", &Terms::default()).is_err());
    }

    #[test]
    fn what_is_no_history_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        std::fs::write(&path, "not a database, and long enough to be looked at").unwrap();
        assert!(format!("{:#}", History::open(&path).unwrap_err()).contains("SQLite"));
        let newer = dir.path().join("newer");
        Connection::open(&newer).unwrap().execute_batch("PRAGMA user_version = 9").unwrap();
        assert!(History::open(&newer).unwrap_err().to_string().contains("update Softoff"));
    }
}
