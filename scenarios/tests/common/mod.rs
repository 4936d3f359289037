//! What the suites share: the reference image, built once for all tests, and the engine's one call.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use softoff_harness::image::Image;
use softoff_harness::machine::accel::Accelerator;
use softoff_harness::record::schema::ScenarioRecord;
use softoff_harness::record::RunStore;
use softoff_harness::run::{Job, run_scenario};
use softoff_harness::scenario::Scenario;
use tokio::sync::watch;

/// The reference image: from the cache, or built now. The cache's lock keeps parallel test processes from
/// building it twice.
fn image() -> Arc<Image> {
    static IMAGE: OnceLock<Arc<Image>> = OnceLock::new();
    let build = || {
        let cache = softoff_images::cache::cache_root();
        let image = softoff_images::reference::build_or_open(&cache, &softoff_images::progress::Silent);
        Arc::new(image.expect("the reference image; `cargo xtask image build reference` shows more"))
    };
    IMAGE.get_or_init(build).clone()
}

/// A job for the definition at `path`.
pub(crate) fn job(path: &Path, without_injection: bool) -> Job {
    Job {
        scenario: Arc::new(Scenario::load(path).expect("the definition")),
        image: image(),
        accelerator: Accelerator::Tcg,
        repeat: 1,
        approved: None,
        deadline_scale: 1.0,
        without_injection,
        keep: false,
    }
}

/// Runs it; the record's files stay in the target folder for a look.
pub(crate) async fn run(job: &Job) -> ScenarioRecord {
    let out = Path::new(env!("CARGO_TARGET_TMPDIR")).join("softoff");
    let store = RunStore::create(&out).expect("a folder for the record");
    let (_stop, cancel) = watch::channel(false);
    let listener: softoff_harness::run::Listener = Arc::new(|_| {});
    let record = run_scenario(job, &store, &listener, cancel).await.expect("the engine");
    let record = record.expect("nobody cancelled");
    println!("record: {}", store.dir().join(&record.dir).display());
    record
}
