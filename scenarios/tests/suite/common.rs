//! What the suites share: the reference image, built once for all tests, and the engine's one call.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use softoff_harness::host::{HostFingerprint, qemu_version};
use softoff_harness::image::Image;
use softoff_harness::machine::QEMU;
use softoff_harness::machine::accel::Accelerator;
use softoff_harness::record::past::Past;
use softoff_harness::record::schema::SCHEMA;
use softoff_harness::record::{RUN_JSON, RunRecord, RunStore, ScenarioRecord};
use softoff_harness::run::{Job, Listener, Start};
use softoff_harness::scenario::Scenario;
use softoff_harness::schedule::{self, Gate, Machines, Place};
use softoff_harness::warm::{Missing, STATES_LIMIT, WarmStates};
use tokio::sync::watch;

/// The reference image: from the cache, or built now. The cache's lock keeps parallel test processes from
/// building it twice.
pub(crate) fn image() -> Arc<Image> {
    static IMAGE: OnceLock<Arc<Image>> = OnceLock::new();
    let build = || {
        let cache = softoff_images::cache::cache_root();
        let image = softoff_images::reference::build_or_open(&cache, &softoff_images::progress::Silent);
        Arc::new(image.expect("the reference image; `cargo xtask image build reference` shows more"))
    };
    IMAGE.get_or_init(build).clone()
}

/// The tests of one program share the host: a guest that only waits makes room for the next test's.
fn gate() -> &'static Gate {
    static GATE: OnceLock<Gate> = OnceLock::new();
    GATE.get_or_init(|| Gate::new(Machines::Auto))
}

/// A place for a guest that a test starts by itself.
pub(crate) async fn place() -> Place {
    gate().enter(GUEST_MIB).await.expect("the gate is open")
}

/// What such a guest takes: its own 1024 MiB, and QEMU's.
const GUEST_MIB: u64 = 1400;

/// A job for the definition at `path`.
pub(crate) fn job(path: &Path, without_injection: bool) -> Job {
    job_for(Scenario::load(path).expect("the definition"), without_injection)
}

/// A job for a scenario.
pub(crate) fn job_for(scenario: Scenario, without_injection: bool) -> Job {
    Job { without_injection, ..Job::new(Arc::new(scenario), image(), Accelerator::Tcg) }
}

/// Begins it from a saved state where it can. The suite in `scenarios.rs` boots each definition cold and holds it to its
/// snapshot; suites that ask something else of the same guests need not boot them again.
pub(crate) fn warm(job: Job) -> Job {
    static STATES: OnceLock<Arc<WarmStates>> = OnceLock::new();
    let open = || {
        let dir = softoff_images::cache::states(&softoff_images::cache::cache_root());
        let qemu = qemu_version(Path::new(QEMU)).expect("QEMU; `cargo xtask doctor` tells how to get it");
        Arc::new(WarmStates::new(dir, STATES_LIMIT, qemu, Missing::Make))
    };
    Job { start: Start::Warm(STATES.get_or_init(open).clone()), ..job }
}

/// Runs it; the record's files stay in the target folder for a look.
pub(crate) async fn run(job: &Job) -> ScenarioRecord {
    run_in_folder(job).await.0
}

/// Runs it, and tells the record's folder as well.
pub(crate) async fn run_in_folder(job: &Job) -> (ScenarioRecord, PathBuf) {
    run_with(job, Arc::new(|_| {})).await
}

/// The same with a listener.
pub(crate) async fn run_with(job: &Job, listener: Listener) -> (ScenarioRecord, PathBuf) {
    let out = Path::new(env!("CARGO_TARGET_TMPDIR")).join("softoff");
    let store = RunStore::create(&out).expect("a folder for the record");
    let (_stop, cancel) = watch::channel(false);
    let mib = schedule::memory_mib(job, &Past::default());
    let record = gate().run(job, mib, &store, &listener, cancel, || {}).await.expect("the engine");
    let record = record.expect("nobody cancelled");
    let dir = store.dir().join(&record.dir);
    println!("record: {}", dir.display());
    check_schema(&store, &record);
    (record, dir)
}

/// What is written must be what is documented, by an independent validator.
fn check_schema(store: &RunStore, record: &ScenarioRecord) {
    let run = RunRecord {
        schema: SCHEMA,
        id: store.id(),
        started_at: 0,
        wall_ms: 0,
        host: HostFingerprint::collect(Path::new(QEMU)).expect("the host"),
        interrupted: false,
        resumed: 0,
        shard: None,
        merged: Vec::new(),
        missing: Vec::new(),
        results: vec![record.clone()],
    };
    store.write_run(&run).expect("run.json");
    let written = std::fs::read_to_string(store.dir().join(RUN_JSON)).expect("run.json");
    let written = serde_json::from_str(&written).expect("JSON");
    let schema = include_str!("../../../harness/schema/run.schema.json");
    let schema = serde_json::from_str(schema).expect("the schema's JSON");
    let validator = jsonschema::validator_for(&schema).expect("a schema");
    let errors: Vec<String> =
        validator.iter_errors(&written).map(|e| format!("{} {e}", e.instance_path())).collect();
    assert!(errors.is_empty(), "{errors:#?}");
    let empty = serde_json::json!({ "schema": 1 });
    assert!(!validator.is_valid(&empty), "the schema accepts anything");
}
