//! How the chosen scenarios are asked, and by whom: backends, press policies, platforms.

use std::sync::Arc;

use anyhow::anyhow;
use clap::ValueEnum;
use softoff_harness::advise::platforms;
use softoff_harness::image::GuestFamily;
use softoff_harness::machine::backend::Backend;
use softoff_harness::machine::libvirt::Libvirt;
use softoff_harness::run::Job;
use softoff_harness::scenario::{Policy, Scenario, policies};

use crate::{Failure, host_tools};

/// The options.
#[derive(Debug, clap::Args)]
pub(crate) struct AskArgs {
    /// Who starts the machines and is asked for the shutdown
    #[arg(long, value_enum, default_value_t = Choice::Qemu)]
    pub(crate) backend: Choice,
    /// Ask in this way instead of the scenario's own: a press policy, or `all` of them. Without --scenario the
    /// control and one scenario of each cause
    #[arg(long = "request", value_name = "POLICY|all")]
    requests: Vec<String>,
    /// Do what a platform would do, its forced end included; or `all` of them. Without --scenario as --request
    #[arg(long = "preset", value_name = "PLATFORM|all")]
    presets: Vec<String>,
}

/// Who is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Choice {
    /// Softoff itself, by QMP
    Qemu,
    /// A libvirtd of our own, by virsh
    Libvirt,
    /// Each scenario by both, and a table that holds them against each other
    Both,
}

impl AskArgs {
    /// Whether scenarios are put under policies.
    pub(crate) fn any_policy(&self) -> bool {
        !self.requests.is_empty() || !self.presets.is_empty()
    }

    /// The scenarios under every chosen policy; as they are when none was chosen.
    pub(crate) fn under_policies(
        &self,
        scenarios: Vec<Arc<Scenario>>,
    ) -> Result<Vec<Arc<Scenario>>, Failure> {
        if !self.any_policy() {
            return Ok(scenarios);
        }
        let policies = self.policies()?;
        let under = |scenario: &Arc<Scenario>, policy: &Policy| {
            let mut under = policy.on(scenario);
            if let Some(expected) = softoff_scenarios::requests::expected(&under, GuestFamily::Reference) {
                under.expect = expected;
                under.unexpected = false;
            }
            Arc::new(under)
        };
        let all = scenarios.iter().flat_map(|s| policies.iter().map(move |p| under(s, p)));
        Ok(all.collect())
    }

    fn policies(&self) -> Result<Vec<Policy>, Failure> {
        let presses = policies()?;
        let platforms = platforms()?;
        let replayed: Vec<Policy> = platforms.iter().filter_map(|p| p.policy()).collect();
        let ids = |all: &[Policy]| all.iter().map(|p| p.id.as_str()).collect::<Vec<_>>().join(", ");
        let mut chosen: Vec<Policy> = Vec::new();
        for (option, names, known) in
            [("--request", &self.requests, &presses), ("--preset", &self.presets, &replayed)]
        {
            for name in names {
                let found: Vec<Policy> =
                    known.iter().filter(|p| name == "all" || p.id == *name).cloned().collect();
                if found.is_empty() {
                    let why = match platforms.iter().find(|p| option == "--preset" && p.id == *name) {
                        Some(p) => format!("{} asks through something that QEMU does not have", p.name),
                        None => format!("there is no `{name}`"),
                    };
                    let what = format!("{option} {name}: {why}; there are all, {}", ids(known));
                    return Err(Failure::Usage(anyhow!(what)));
                }
                chosen.extend(found);
            }
        }
        let mut seen = Vec::new();
        chosen.retain(|p| {
            let new = !seen.contains(&p.id);
            seen.push(p.id.clone());
            new
        });
        Ok(chosen)
    }

    /// Gives every job its backend. A request that only libvirt has goes through libvirt, whatever was chosen for the
    /// others; the daemon is started here, once for the run, and lives as long as the jobs.
    pub(crate) async fn give_backends(&self, jobs: Vec<Job>) -> Result<Vec<Job>, Failure> {
        let needs = |job: &Job| job.scenario.request.needs_libvirt();
        if self.backend == Choice::Qemu && !jobs.iter().any(needs) {
            return Ok(jobs);
        }
        host_tools::ensure(host_tools::By::Libvirt, false)?;
        let accelerator = jobs.first().map(|job| job.accelerator);
        let Some(accelerator) = accelerator else { return Ok(jobs) };
        let libvirt = Backend::Libvirt(Arc::new(Libvirt::start(accelerator).await?));
        let through = |job: &Job| -> anyhow::Result<Job> {
            let image = libvirt.image(&job.image)?;
            Ok(Job { backend: libvirt.clone(), image, ..job.clone() })
        };
        let mut all = Vec::new();
        for job in jobs {
            match self.backend {
                _ if needs(&job) => all.push(through(&job)?),
                Choice::Qemu => all.push(job),
                Choice::Libvirt => all.push(through(&job)?),
                Choice::Both => {
                    let other = through(&job)?;
                    all.extend([job, other]);
                }
            }
        }
        Ok(all)
    }
}
