//! Many scenarios on one host: how many machines at a time, and which first.
//!
//! A guest needs a processor while it boots, is looked at, and goes down; most of the failures we look for are
//! guests that wait. So a scenario takes one of as many *places* as there are processors, and gives it back when
//! the engine tells that its guest is quiet ([`Stage::Quiet`]); the next one boots meanwhile. Times stay honest by
//! that: no more guests are at work than there are processors, and every record says whether its guest had to wait
//! for one ([`crate::pressure`]). Memory is the other limit: a machine starts when what it had in earlier runs is
//! free, and all that run may still grow.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;

use crate::image::Boot;
use crate::machine::accel::Accelerator;
use crate::record::past::Past;
use crate::record::{RunStore, ScenarioRecord};
use crate::run::{Job, Listener, RunEvent, Stage, run_scenario};

/// How many machines run at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Machines {
    /// As many as processors and memory allow; a quiet guest makes room for another.
    Auto,
    /// So many, each until its end.
    Exactly(usize),
}

/// Memory that is left to everything else, MiB.
const RESERVE_MIB: u64 = 1024;

/// What a machine takes beside its guest's memory when no earlier run tells, MiB. TCG keeps translated code: QEMU of
/// the reference guest had 200 to 300 MiB more than the guest has (measured).
const BESIDE_TCG_MIB: u64 = 400;
const BESIDE_KVM_MIB: u64 = 100;

/// Machines for one processor, at most: quiet ones still have their screens looked at.
const PER_PROCESSOR: usize = 4;

/// What a host has.
#[derive(Debug, Clone, Copy)]
pub struct Host {
    /// Processors.
    pub processors: usize,
    /// Memory that is free for machines now, MiB: MemAvailable, or what the control group leaves (a pod, a container).
    pub memory_mib: u64,
}

impl Host {
    /// This host now.
    pub fn now() -> Host {
        let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let kib = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
        let kib: u64 = kib.and_then(|k| k.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0);
        Host {
            processors: std::thread::available_parallelism().map_or(1, |n| n.get()),
            memory_mib: (kib / 1024).min(left_in_group().unwrap_or(u64::MAX)),
        }
    }
}

/// What this process' control groups (version 2) leave of their memory, MiB; `None` where none has a limit.
fn left_in_group() -> Option<u64> {
    let cgroup = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    let own = cgroup.lines().find_map(|line| line.strip_prefix("0::/"))?;
    // In a container the root is its own group; else each group above may have a limit, too.
    let groups = Path::new(own).ancestors().map(|group| Path::new("/sys/fs/cgroup").join(group));
    groups.filter_map(|group| left_in(&group)).min()
}

fn left_in(group: &Path) -> Option<u64> {
    let read = |name: &str| std::fs::read_to_string(group.join(name)).ok();
    let limit: u64 = read("memory.max")?.trim().parse().ok()?;
    let used: u64 = read("memory.current")?.trim().parse().ok()?;
    let stat = read("memory.stat").unwrap_or_default();
    // Files that were not touched lately are given back before anybody is killed.
    let files = stat.lines().find_map(|line| line.strip_prefix("inactive_file "));
    let files: u64 = files.and_then(|bytes| bytes.trim().parse().ok()).unwrap_or(0);
    Some(limit.saturating_sub(used.saturating_sub(files)) >> 20)
}

/// The order in which jobs begin: the longest first, by earlier runs, so that no long one is left alone at the end;
/// those that nothing is known of before all. Numbers into `jobs`.
pub fn order(jobs: &[Job], past: &Past) -> Vec<usize> {
    let wall = |job: &Job| {
        let known = past.wall(&job.scenario.name, &job.image.manifest.name, job.accelerator);
        known.unwrap_or(Duration::MAX)
    };
    let mut numbers: Vec<(usize, Duration)> = jobs.iter().map(wall).enumerate().collect();
    numbers.sort_by_key(|(number, wall)| (std::cmp::Reverse(*wall), *number));
    numbers.into_iter().map(|(number, _)| number).collect()
}

/// What a job's machine is expected to take, MiB.
pub fn memory_mib(job: &Job, past: &Past) -> u64 {
    let facts = &job.image.manifest.machine;
    let beside = match job.accelerator {
        Accelerator::Tcg => BESIDE_TCG_MIB,
        Accelerator::Kvm => BESIDE_KVM_MIB,
    };
    // A kernel and its RAM disk are read into QEMU first.
    let loaded = if matches!(job.image.manifest.boot, Boot::Kernel { .. }) { 64 } else { 0 };
    let guess = u64::from(facts.memory_mib) + beside + loaded;
    past.memory_mib(&job.scenario.name, &job.image.manifest.name, job.accelerator).unwrap_or(guess)
}

/// The places of a host.
#[derive(Debug, Clone)]
struct Places {
    /// Work for processors.
    work: Arc<Semaphore>,
    /// Machines.
    machines: Arc<Semaphore>,
    /// MiB.
    memory: Arc<Semaphore>,
    memory_mib: u32,
    /// Whether a quiet guest gives its place back.
    shares: bool,
}

impl Places {
    fn of(machines: Machines, host: Host) -> Places {
        let (work, count, shares) = match machines {
            Machines::Auto => (host.processors, host.processors * PER_PROCESSOR, true),
            Machines::Exactly(n) => (n, n, false),
        };
        let memory_mib = match machines {
            Machines::Auto => {
                u32::try_from(host.memory_mib.saturating_sub(RESERVE_MIB)).unwrap_or(u32::MAX).max(1)
            }
            // Who names a number answers for the memory.
            Machines::Exactly(_) => u32::MAX >> 4,
        };
        Places {
            work: Arc::new(Semaphore::new(work.max(1))),
            machines: Arc::new(Semaphore::new(count.max(1))),
            memory: Arc::new(Semaphore::new(memory_mib as usize)),
            memory_mib,
            shares,
        }
    }

    /// Waits for a machine's room and a place to work; `None` when the host shuts down.
    async fn take(&self, mib: u64) -> Option<(Vec<OwnedSemaphorePermit>, OwnedSemaphorePermit)> {
        // A machine larger than the host runs alone.
        let mib = u32::try_from(mib).unwrap_or(u32::MAX).clamp(1, self.memory_mib);
        let machine = self.machines.clone().acquire_owned().await.ok()?;
        let memory = self.memory.clone().acquire_many_owned(mib).await.ok()?;
        let work = self.work.clone().acquire_owned().await.ok()?;
        Some((vec![machine, memory], work))
    }
}

/// Lets no more scenarios work at a time than its host can bear; for callers that bring their own tasks.
#[derive(Debug, Clone)]
pub struct Gate {
    places: Places,
}

/// A machine's room and its place to work, given back when it is dropped.
#[derive(Debug)]
pub struct Place {
    _room: Vec<OwnedSemaphorePermit>,
    work: Option<OwnedSemaphorePermit>,
    shares: bool,
}

impl Place {
    /// From here on the machine mostly waits: another one may work, where machines share. Its room it keeps.
    pub fn quiet(&mut self) {
        if self.shares {
            self.work = None;
        }
    }
}

impl Gate {
    /// A gate before this host, as it is now.
    pub fn new(machines: Machines) -> Gate {
        Gate { places: Places::of(machines, Host::now()) }
    }

    /// Waits for room for a machine that the caller starts and ends by itself; `None` when the host shuts down.
    pub async fn enter(&self, expected_mib: u64) -> Option<Place> {
        let (room, work) = self.places.take(expected_mib).await?;
        Some(Place { _room: room, work: Some(work), shares: self.places.shares })
    }

    /// Waits for room, then runs the job. `expected_mib`: what its machine will take, see [`memory_mib`]. `entered` is
    /// told when there is room.
    pub async fn run(
        &self,
        job: &Job,
        expected_mib: u64,
        store: &RunStore,
        listener: &Listener,
        mut cancel: watch::Receiver<bool>,
        entered: impl FnOnce(),
    ) -> anyhow::Result<Option<ScenarioRecord>> {
        let taken = tokio::select! {
            taken = self.places.take(expected_mib) => taken,
            _ = cancel.wait_for(|c| *c) => None,
        };
        entered();
        let Some((_machine, work)) = taken else { return Ok(None) };
        let listener = sharing(listener.clone(), work, self.places.shares);
        run_scenario(job, store, &listener, cancel).await
    }
}

/// Runs jobs in the order of [`order`]; results come back by the jobs' numbers. A job that was cancelled has none,
/// one whose engine failed an error.
pub async fn run_all(
    jobs: Vec<Job>,
    machines: Machines,
    past: &Past,
    store: &RunStore,
    listener: &Listener,
    cancel: watch::Receiver<bool>,
) -> Vec<(usize, anyhow::Result<Option<ScenarioRecord>>)> {
    let gate = Gate::new(machines);
    let mut running = JoinSet::new();
    let order = order(&jobs, past);
    let mut jobs: Vec<Option<Job>> = jobs.into_iter().map(Some).collect();
    let turn = Arc::new(tokio::sync::Mutex::new(()));
    for number in order {
        let Some(job) = jobs.get_mut(number).and_then(Option::take) else { continue };
        let mib = memory_mib(&job, past);
        // In order: the next one waits for its room only when this one has its own.
        let queue = turn.clone().lock_owned().await;
        let (gate, store, listener, cancel) = (gate.clone(), store.clone(), listener.clone(), cancel.clone());
        running.spawn(async move {
            let entered = move || drop(queue);
            (number, gate.run(&job, mib, &store, &listener, cancel, entered).await)
        });
    }
    let mut results = Vec::new();
    while let Some(done) = running.join_next().await {
        let bad = |e| (usize::MAX, Err(anyhow::anyhow!("a scenario's task ended badly: {e}")));
        results.push(done.unwrap_or_else(bad));
    }
    results.sort_by_key(|(number, _)| *number);
    results
}

/// The same listener, which holds a guest's place to work and gives it back when the guest is quiet, or with itself.
fn sharing(listener: Listener, work: OwnedSemaphorePermit, shares: bool) -> Listener {
    let work = Mutex::new(Some(work));
    Arc::new(move |event: RunEvent| {
        if shares && matches!(&event, RunEvent::Stage { stage: Stage::Quiet, .. }) {
            work.lock().unwrap_or_else(PoisonError::into_inner).take();
        }
        listener(event);
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: Host = Host { processors: 2, memory_mib: 4096 };

    fn free(places: &Places) -> (usize, usize, usize) {
        let n = |s: &Semaphore| s.available_permits();
        (n(&places.work), n(&places.machines), n(&places.memory))
    }

    #[test]
    fn a_control_group_limits_memory() {
        let group = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(group.path().join(name), text).unwrap();
        assert_eq!(left_in(group.path()), None);
        write("memory.max", "max\n");
        write("memory.current", "3221225472\n");
        assert_eq!(left_in(group.path()), None);
        write("memory.max", "8589934592\n");
        assert_eq!(left_in(group.path()), Some(5 * 1024));
        write("memory.stat", "anon 5\ninactive_file 1073741824\n");
        assert_eq!(left_in(group.path()), Some(6 * 1024));
        write("memory.max", "1024\n");
        assert_eq!(left_in(group.path()), Some(0));
    }

    #[tokio::test]
    async fn places_follow_processors_and_memory() {
        let auto = Places::of(Machines::Auto, HOST);
        assert_eq!(free(&auto), (2, 8, 3072));
        let (room, work) = auto.take(1500).await.unwrap();
        assert_eq!(free(&auto), (1, 7, 1572));
        // Quiet: its processor is free, its memory is not.
        drop(work);
        assert_eq!(free(&auto), (2, 7, 1572));
        drop(room);
        assert_eq!(free(&auto), (2, 8, 3072));
        let three = Places::of(Machines::Exactly(3), HOST);
        assert_eq!((free(&three).0, free(&three).1, three.shares), (3, 3, false));
    }

    #[tokio::test]
    async fn a_callers_own_machine_gives_its_place_back_when_it_only_waits() {
        for (machines, all, quiet) in [(Machines::Auto, 2, 2), (Machines::Exactly(3), 3, 2)] {
            let gate = Gate { places: Places::of(machines, HOST) };
            let mut place = gate.enter(1500).await.unwrap();
            assert_eq!(free(&gate.places).0, all - 1);
            place.quiet();
            assert_eq!(free(&gate.places).0, quiet);
            assert!(free(&gate.places).1 < free(&Places::of(machines, HOST)).1, "its room was given away");
            drop(place);
            assert_eq!(free(&gate.places), free(&Places::of(machines, HOST)));
        }
    }

    #[tokio::test]
    async fn a_machine_larger_than_the_host_runs_alone() {
        let places = Places::of(Machines::Auto, HOST);
        let (_room, _work) = places.take(99_999).await.unwrap();
        let second = tokio::time::timeout(Duration::from_millis(50), places.take(1)).await;
        assert!(second.is_err(), "a second machine got memory that is not there");
    }

    #[test]
    fn this_host_has_something() {
        let host = Host::now();
        assert!(host.processors > 0 && host.memory_mib > 0, "{host:?}");
    }

    #[tokio::test]
    async fn a_quiet_guest_gives_its_place_back_and_only_then() {
        use crate::outcome::Phase;
        use crate::run::JobName;
        use crate::scenario::ScenarioName;
        let work = Arc::new(Semaphore::new(1));
        let job = JobName {
            scenario: ScenarioName("a".into()),
            image: "b".into(),
            repeat: 1,
            backend: Default::default(),
        };
        for (shares, left) in [(true, 1), (false, 0)] {
            let permit = work.clone().acquire_owned().await.unwrap();
            let listener = sharing(Arc::new(|_| {}), permit, shares);
            listener(RunEvent::Stage { job: job.clone(), stage: Stage::Waiting(Phase::Reacted) });
            assert_eq!(work.available_permits(), 0);
            listener(RunEvent::Stage { job: job.clone(), stage: Stage::Quiet });
            assert_eq!(work.available_permits(), left);
            drop(listener);
            assert_eq!(work.available_permits(), 1);
        }
    }
}
