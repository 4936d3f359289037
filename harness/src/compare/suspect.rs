//! What two runs rest on, held against each other: the first thing to look at when something has changed.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Change, Group, Key};
use crate::record::schema::{RunRecord, ScenarioRecord};

/// Something that differs between two runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Suspect {
    /// What it is.
    pub what: String,
    /// In BASE.
    pub base: String,
    /// In HEAD.
    pub head: String,
    /// Groups that differ, or may, and in which it differs.
    pub changed_with_it: usize,
    /// Groups that differ, or may, and in which it does not: it cannot be to blame for these.
    pub changed_without_it: usize,
    /// Groups that do not differ though it does: they speak for its innocence.
    pub same_with_it: usize,
}

/// What could be to blame, in the order in which it most often is.
fn facts(run: &RunRecord, result: &ScenarioRecord) -> Vec<(String, String)> {
    let host = &run.host;
    let basis =
        |f: fn(&crate::record::schema::Basis) -> String| result.basis.as_ref().map(f).unwrap_or_default();
    let request = &result.request;
    let mut facts = vec![
        (format!("image {}", result.image.name), result.image.id.short().to_owned()),
        (format!("definition of {}", result.scenario), basis(|b| b.definition.short().to_owned())),
        (
            format!("request of {}", result.scenario),
            format!("{} x {}, deadline {} ms", request.presses, request.by, request.deadline_ms),
        ),
    ];
    let more = [
        ("firmware", basis(|b| b.firmware.clone())),
        ("QEMU", host.qemu.clone()),
        ("machine", basis(|b| b.machine.clone())),
        ("accelerator", result.accel.to_string()),
        ("Softoff", host.softoff.clone()),
        ("host's kernel", host.kernel.clone()),
        ("processor", format!("{} x {}", host.cpus, host.cpu_model)),
        ("memory", format!("{} MiB", host.memory_mib)),
        ("distribution", host.distribution.clone()),
    ];
    facts.extend(more.map(|(name, value)| (name.to_owned(), value)));
    facts
}

/// What differs, the likeliest first: what is there in most changed groups and fewest unchanged ones, then in the
/// order of [`facts`].
pub(super) fn suspects(base: &RunRecord, head: &RunRecord, groups: &[Group]) -> Vec<Suspect> {
    let mut order: Vec<String> = Vec::new();
    let mut found: BTreeMap<String, Suspect> = BTreeMap::new();
    let changed = |g: &Group| g.change != Change::Same;
    for group in groups {
        let one =
            |run: &RunRecord| run.results.iter().find(|r| Key::of(r) == group.key()).map(|r| facts(run, r));
        let (Some(was), Some(is)) = (one(base), one(head)) else { continue };
        for ((what, was), (_, is)) in was.into_iter().zip(is) {
            // Older records lack some; what is not known does not differ.
            if was == is || was.is_empty() || is.is_empty() {
                continue;
            }
            if !order.contains(&what) {
                order.push(what.clone());
            }
            let suspect = found.entry(what.clone()).or_insert_with(|| Suspect {
                what,
                base: was,
                head: is,
                changed_with_it: 0,
                changed_without_it: 0,
                same_with_it: 0,
            });
            if changed(group) {
                suspect.changed_with_it += 1;
            } else {
                suspect.same_with_it += 1;
            }
        }
    }
    let all = groups.iter().filter(|g| changed(g)).count();
    let mut suspects: Vec<Suspect> = order.into_iter().filter_map(|what| found.remove(&what)).collect();
    for suspect in &mut suspects {
        suspect.changed_without_it = all - suspect.changed_with_it;
    }
    suspects.sort_by_key(|s| (std::cmp::Reverse(s.changed_with_it), s.same_with_it));
    suspects
}
