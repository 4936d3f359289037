//! One run on many machines: who runs what, and the records brought together again. There is no scheduler here; each
//! machine works out the same plan from the same files.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use crate::record::schema::{MergedShard, PlannedResult, RunRecord, ScenarioRecord};
use crate::record::words::median;
use crate::text::printable;

/// A guess at a scenario that no earlier run tells of.
const UNKNOWN_MS: u64 = 45_000;

/// Which part of a run: `i/n`, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shard {
    /// From 1 to `of`.
    pub index: u32,
    /// How many there are.
    pub of: u32,
}

impl FromStr for Shard {
    type Err = String;

    fn from_str(text: &str) -> Result<Shard, String> {
        let wrong = || "write the shard's number and how many there are, such as 1/3".to_owned();
        let (index, of) = text.split_once('/').ok_or_else(wrong)?;
        let (index, of) = (index.parse().map_err(|_| wrong())?, of.parse().map_err(|_| wrong())?);
        if (1..=1000).contains(&of) && (1..=of).contains(&index) {
            Ok(Shard { index, of })
        } else {
            Err(wrong())
        }
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.index, self.of)
    }
}

/// What is planned of one scenario on one image: all repeats stay on one machine, so that they can be compared.
pub type Group = (String, String);

/// The shard of each group. The longest go first, each to the shard with the least to do; every machine that has the
/// same groups and the same earlier run comes to the same answer.
pub fn assign(groups: &BTreeMap<Group, u32>, past: Option<&RunRecord>, of: u32) -> BTreeMap<Group, u32> {
    let took = |group: &Group| {
        let results = past.iter().flat_map(|run| &run.results);
        let same = |r: &&ScenarioRecord| r.scenario.0 == group.0 && r.image.name == group.1;
        median(results.filter(same).map(|r| r.wall_ms)).unwrap_or(UNKNOWN_MS)
    };
    let mut order: Vec<(u64, &Group)> = groups
        .iter()
        .map(|(group, repeats)| (took(group).saturating_mul(u64::from(*repeats)), group))
        .collect();
    order.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.cmp(b.1)));
    let mut loads: BTreeMap<u32, u64> = (1..=of).map(|n| (n, 0)).collect();
    let mut chosen = BTreeMap::new();
    for (ms, group) in order {
        let Some((shard, load)) = loads.iter_mut().min_by_key(|(shard, load)| (**load, **shard)) else {
            break;
        };
        *load = load.saturating_add(ms);
        chosen.insert(group.clone(), *shard);
    }
    chosen
}

/// Why runs cannot be brought together.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum MergeError {
    /// There is none.
    #[error("nothing to merge; name the folders of the shards' runs")]
    Nothing,
    /// A run is no shard.
    #[error("run {0} is no shard; `cargo xtask run --shard i/n` makes them")]
    NoShard(String),
    /// Two runs are shards of different runs.
    #[error("runs {0} and {1} are shards of different runs: their plans differ")]
    OtherPlan(String, String),
    /// A shard is there twice.
    #[error("runs {0} and {1} are both shard {2}; leave one out")]
    Twice(String, String, u32),
}

/// Brings the shards of one run together. What none of them brought is listed as missing. `salvaged` are complete
/// results of shards that did not live to write their record; those that are not planned are left out.
pub fn merge(
    id: String,
    mut shards: Vec<RunRecord>,
    salvaged: Vec<ScenarioRecord>,
) -> Result<RunRecord, MergeError> {
    let index = |run: &RunRecord| run.shard.as_ref().map_or(0, |s| s.index);
    shards.sort_by_key(index);
    let first = shards.first().ok_or(MergeError::Nothing)?.clone();
    let Some(plan) = first.shard.as_ref().map(|s| s.plan.clone()) else {
        return Err(MergeError::NoShard(first.id));
    };
    let mut before: Option<&RunRecord> = None;
    for run in &shards {
        let shard = run.shard.as_ref().ok_or_else(|| MergeError::NoShard(run.id.clone()))?;
        if shard.plan != plan {
            return Err(MergeError::OtherPlan(first.id, run.id.clone()));
        }
        if let Some(before) = before.filter(|b| index(b) == shard.index) {
            return Err(MergeError::Twice(before.id.clone(), run.id.clone(), shard.index));
        }
        before = Some(run);
    }
    let planned: BTreeSet<&str> = plan.iter().map(|p| p.dir.as_str()).collect();
    let mut found: BTreeMap<String, ScenarioRecord> = BTreeMap::new();
    for result in salvaged.into_iter().filter(|r| planned.contains(r.dir.as_str())) {
        found.insert(result.dir.clone(), result);
    }
    for result in shards.iter().flat_map(|run| &run.results) {
        found.insert(result.dir.clone(), result.clone());
    }
    let mut results = Vec::new();
    let mut missing = Vec::new();
    for PlannedResult { dir, .. } in &plan {
        match found.remove(dir) {
            Some(result) => results.push(result),
            None => missing.push(dir.clone()),
        }
    }
    // Retries, and repeats that a baseline asked for.
    results.extend(found.into_values());
    let part = |run: &RunRecord| MergedShard {
        index: index(run),
        id: run.id.clone(),
        host: run.host.clone(),
        wall_ms: run.wall_ms,
    };
    Ok(RunRecord {
        schema: first.schema,
        id,
        started_at: shards.iter().map(|r| r.started_at).min().unwrap_or(first.started_at),
        wall_ms: shards.iter().map(|r| r.wall_ms).max().unwrap_or(0),
        interrupted: shards.iter().any(|r| r.interrupted),
        resumed: shards.iter().map(|r| r.resumed).max().unwrap_or(0),
        merged: shards.iter().map(part).collect(),
        shard: None,
        missing,
        host: first.host,
        results,
    })
}

/// What the machines of a merged run do not have in common, one line each: a comparison would hold it against the first
/// one's.
pub fn differences(run: &RunRecord) -> Vec<String> {
    let told = |what: &str, of: fn(&MergedShard) -> &str| {
        let mut values: Vec<&str> = run.merged.iter().map(of).collect();
        values.sort_unstable();
        values.dedup();
        (values.len() > 1).then(|| {
            let all: Vec<String> = values.into_iter().map(|v| printable(v, 80)).collect();
            format!(
                "the shards ran with different {what} ({}); times of such runs should not be compared",
                all.join(" | ")
            )
        })
    };
    let mut lines: Vec<String> = told("QEMUs", |s| &s.host.qemu).into_iter().collect();
    lines.extend(told("processors", |s| &s.host.cpu_model));
    let mut images: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for result in &run.results {
        images.entry(&result.image.name).or_default().insert(result.image.id.short());
    }
    let several = images.into_iter().filter(|(_, ids)| ids.len() > 1);
    lines.extend(several.map(|(name, ids)| {
        let ids: Vec<&str> = ids.into_iter().collect();
        format!("the shards had different images of the name {} ({})", printable(name, 80), ids.join(" | "))
    }));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::schema::ShardRef;
    use crate::report::testing::{result, run};
    use proptest::prelude::*;
    use rstest::rstest;

    #[rstest]
    #[case("1/3", Some((1, 3)))]
    #[case("3/3", Some((3, 3)))]
    #[case("0/3", None)]
    #[case("4/3", None)]
    #[case("1/0", None)]
    #[case("1", None)]
    #[case("a/b", None)]
    #[case("-1/3", None)]
    fn shards_are_numbered_from_one(#[case] text: &str, #[case] shard: Option<(u32, u32)>) {
        let parsed: Result<Shard, _> = text.parse();
        assert_eq!(parsed.ok().map(|s| (s.index, s.of)), shard);
    }

    fn group(name: &str) -> Group {
        (name.to_owned(), "reference".to_owned())
    }

    #[test]
    fn the_longest_go_first() {
        let times = [("a", 100), ("b", 60), ("c", 50), ("d", 40)];
        let past = run(times.map(|(name, ms)| {
            let mut one = result(name, 1);
            one.wall_ms = ms;
            one
        }));
        let groups = times.map(|(name, _)| (group(name), 1)).into();
        let chosen = assign(&groups, Some(&past), 2);
        let shards: Vec<u32> = times.iter().map(|(name, _)| chosen[&group(name)]).collect();
        // 100 against 60, then 50 to the second, 40 to the first: 140 against 110.
        assert_eq!(shards, [1, 2, 2, 1]);
    }

    proptest! {
        #[test]
        fn every_group_has_one_shard_and_the_loads_are_near(count in 1usize..60, of in 1u32..8) {
            let groups: BTreeMap<Group, u32> = (0..count).map(|n| (group(&format!("s{n}")), 1)).collect();
            let chosen = assign(&groups, None, of);
            prop_assert_eq!(chosen.len(), count);
            let load = |shard: u32| chosen.values().filter(|s| **s == shard).count();
            let loads: Vec<usize> = (1..=of).map(load).collect();
            prop_assert!(loads.iter().max().unwrap() - loads.iter().min().unwrap() <= 1, "{loads:?}");
        }
    }

    fn shards() -> Vec<RunRecord> {
        let names = ["a", "b", "c"];
        let planned = |n: usize| PlannedResult {
            dir: format!("{}.reference.1", names[n]),
            shard: u32::try_from(n).unwrap() + 1,
        };
        let plan: Vec<PlannedResult> = (0..3).map(planned).collect();
        let shard = |n: u32| {
            let mut part = run([result(names[n as usize - 1], 1)]);
            part.id = format!("shard-{n}");
            part.shard = Some(ShardRef { index: n, of: 3, plan: plan.clone() });
            part
        };
        vec![shard(3), shard(1), shard(2)]
    }

    fn dirs(run: &RunRecord) -> Vec<&str> {
        run.results.iter().map(|r| r.scenario.0.as_str()).collect()
    }

    #[test]
    fn all_shards_together_are_the_run() {
        let merged = merge("merged".into(), shards(), vec![]).unwrap();
        assert_eq!(dirs(&merged), ["a", "b", "c"]);
        assert!(merged.missing.is_empty() && merged.shard.is_none());
        assert_eq!(merged.merged.len(), 3);
        assert!(differences(&merged).is_empty());
        let mut others = shards();
        others[1].host.qemu = "QEMU 9.9".into();
        others[2].results[0].image.id = crate::image::Sha256Hex::of_bytes(b"another");
        let told = differences(&merge("merged".into(), others, vec![]).unwrap());
        assert_eq!(told.len(), 2, "{told:?}");
        assert!(told[0].contains("QEMU 9.9") && told[1].contains("reference"), "{told:?}");
    }

    #[test]
    fn what_no_shard_brought_is_missing() {
        let mut some = shards();
        some.retain(|r| r.id != "shard-2");
        let merged = merge("merged".into(), some.clone(), vec![]).unwrap();
        assert_eq!((dirs(&merged), &merged.missing), (vec!["a", "c"], &vec!["b.reference.1".to_owned()]));
        // What its machine had finished counts; what nobody planned does not.
        let salvaged = vec![result("b", 1), result("x", 1)];
        let merged = merge("merged".into(), some, salvaged).unwrap();
        assert_eq!((dirs(&merged), merged.missing.len()), (vec!["a", "b", "c"], 0));
    }

    #[test]
    fn what_does_not_belong_together_is_refused() {
        let id = || "merged".to_owned();
        assert_eq!(merge(id(), vec![], vec![]).unwrap_err(), MergeError::Nothing);
        let mut plain = shards();
        plain[0].shard = None;
        assert!(matches!(merge(id(), plain, vec![]), Err(MergeError::NoShard(_))));
        let mut other = shards();
        other[0].shard.as_mut().unwrap().plan.pop();
        assert!(matches!(merge(id(), other, vec![]), Err(MergeError::OtherPlan(..))));
        let mut twice = shards();
        twice[0].shard.as_mut().unwrap().index = 1;
        assert!(matches!(merge(id(), twice, vec![]), Err(MergeError::Twice(_, _, 1))));
    }
}
