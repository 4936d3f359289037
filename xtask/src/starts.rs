//! How the machines of a run come to be ready: the saved states of the cache, and who uses them.

use std::path::Path;
use std::sync::Arc;

use clap::ValueEnum;
use softoff_harness::host::qemu_version;
use softoff_harness::machine::QEMU;
use softoff_harness::machine::backend::Backend;
use softoff_harness::run::{Job, Start};
use softoff_harness::warm::{Missing, STATES_LIMIT, WarmStates, stays_cold};

/// How machines come to be ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Choice {
    /// By booting
    Cold,
    /// From a saved state; one cold boot makes it where the cache has none
    Warm,
    /// From a saved state where there is one, or where two runs or more would use it
    Auto,
}

/// Gives every job the saved states, unless all are to boot.
pub(crate) fn choose(choice: Choice, jobs: &mut [Job]) -> anyhow::Result<()> {
    let why = |job: &Job| match job.backend {
        Backend::Libvirt(_) => Some("a saved state is not started through libvirt"),
        Backend::Qemu => stays_cold(&job.scenario, &job.image, job.without_injection),
    };
    let can = |job: &&Job| why(job).is_none();
    let able = jobs.iter().filter(can).count();
    let missing = match choice {
        Choice::Cold => return Ok(()),
        Choice::Auto if able < 2 => Missing::BootCold,
        Choice::Auto | Choice::Warm => Missing::Make,
    };
    if choice == Choice::Warm {
        let mut cold: Vec<_> = jobs.iter().filter(|job| !can(job) && job.repeat == 1).collect();
        cold.dedup_by_key(|job| &job.scenario.name);
        for job in cold {
            eprintln!("note: {} boots cold: {}", job.scenario.name, why(job).unwrap_or_default());
        }
    }
    let states = Arc::new(warm_states(missing)?);
    jobs.iter_mut().for_each(|job| job.start = Start::Warm(states.clone()));
    Ok(())
}

/// The saved states of the cache.
pub(crate) fn warm_states(missing: Missing) -> anyhow::Result<WarmStates> {
    let qemu = qemu_version(Path::new(QEMU))?;
    let dir = softoff_images::cache::states(&softoff_images::cache::cache_root());
    Ok(WarmStates::new(dir, STATES_LIMIT, qemu, missing))
}
